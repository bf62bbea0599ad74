"""JSON Web Tokens (RFC 7519) that say who may do what in which album.

They are signed with HS256 and a secret, or by an issuer whose public keys are asked for.
python-jose checks the signature, with the algorithm fixed by whose keys they are. It is lenient
elsewhere (it takes an ``exp`` that is a string, a ``crit`` that it does not know, a token in its
last second, one without ``aud`` where one is wanted), so the form of a token is checked before it
is decoded, and its claims after.
"""

import json
import re
import time
import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, cast

from jose import jwk, jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

from imageapi.auth.authorization import find_token
from imageapi.auth.claims import Claims, abilities, is_for_audience, read_numeric_date, user_id
from imageapi.auth.errors import (
    AbilityMissing,
    InvalidSecret,
    KeyUnknown,
    TokenExpired,
    TokenForElsewhere,
    TokenForged,
    TokenNotYetValid,
    TokenUnreadable,
)

ALGORITHM = "HS256"
ISSUERS_ALGORITHMS = ("RS256", "ES256", "EdDSA")

#: A token longer than this is refused before any of it is parsed, in characters.
MAX_TOKEN_CHARACTERS = 4096
#: A shorter secret is refused when the service starts, in bytes (RFC 7518 §3.2).
MIN_SECRET_BYTES = 32
#: 9999-01-01, in seconds since 1970: later expiries are said to be then.
LAST_EXPIRY = 253_370_764_800.0
#: So many verified tokens are remembered, of headers of at most so many bytes each.
MAX_REMEMBERED_TOKENS = 2048
MAX_REMEMBERED_HEADER_BYTES = MAX_TOKEN_CHARACTERS + 64

_COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Each would change how the rest is to be understood (RFC 7515 §4.1.11, RFC 7516, RFC 7797).
_FOREIGN_HEADERS = frozenset({"crit", "zip", "enc", "b64"})


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a verified token says.

    ``abilities`` maps an album's id to what is granted on it; ``expires_at`` is in seconds since
    1970, at most LAST_EXPIRY.
    """

    text: str = field(repr=False)
    user_id: str | None
    expires_at: float
    abilities: Mapping[str, frozenset[str]]

    def albums_with(self, ability: str) -> list[str]:
        """The albums on which the token grants the ability."""
        return [album_id for album_id, granted in self.abilities.items() if ability in granted]

    def require(self, ability: str, album_id: str) -> None:
        """Return where the token grants the ability on the album, else raise AbilityMissing."""
        if ability not in self.abilities.get(album_id, ()):
            raise AbilityMissing(ability, album_id)


@dataclass(frozen=True, slots=True)
class Rules:
    """What every token must say besides: ``aud`` and ``iss``, where they are wanted.

    ``leeway_seconds`` is how far the clocks of those who make tokens may be off.
    """

    audience: str | None = None
    issuer: str | None = None
    leeway_seconds: int = 0


class IssuerKeys(Protocol):
    """The public keys of an issuer; ``generation`` rises with every change of them."""

    generation: int

    def keys(self, algorithm: str, kid: object) -> list[Key]:
        """The keys that may have signed a token with this header, none if it is not known."""

    async def ask_again(self) -> None:
        """Ask the issuer for a key that is not known; raises IssuerUnavailable."""


class Tokens:
    """Issues tokens with the first of the secrets, and verifies those of any, or of an issuer.

    A secret of less than 32 bytes raises InvalidSecret.
    """

    def __init__(
        self,
        *secrets: str,
        issuer: IssuerKeys | None = None,
        rules: Rules = Rules(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = [_build_key(secret) for secret in secrets]
        self._issuer = issuer
        self._generation = 0
        self._rules = rules
        self._now = now
        self._remembered: dict[bytes, VerifiedToken] = {}
        # The library loads parts of itself with the first token, and where the machine has no file
        # left for that, says that the token is forged.
        self.verify(self.issue("", (), timedelta(days=1)))

    def issue(
        self,
        album_id: str,
        abilities: Iterable[str],
        lifetime: timedelta,
        user_id: str | None = None,
    ) -> str:
        """Return a token that grants the abilities on one album, from now for ``lifetime``."""
        claims: dict[str, object] = {
            "exp": int(self._now() + lifetime.total_seconds()),
            "abilities": {album_id: {"Access": dict.fromkeys(abilities, True)}},
            "user_id": user_id or str(uuid.uuid4()),
        }
        wanted = {"aud": self._rules.audience, "iss": self._rules.issuer}
        claims |= {name: value for name, value in wanted.items() if value is not None}
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    async def verify_header(self, authorization: bytes) -> VerifiedToken:
        """Verify an ``Authorization`` header; raises TokenRefused, IssuerUnavailable."""
        return self.find_remembered(authorization) or await self._verify_header(authorization)

    def find_remembered(self, authorization: bytes) -> VerifiedToken | None:
        """The token, where this header has been verified and the token has not expired since."""
        if self._issuer is not None and self._issuer.generation != self._generation:
            self._generation = self._issuer.generation  # a key may have been withdrawn
            self._remembered.clear()
        token = self._remembered.get(authorization)
        return token if token is not None and self._is_before(token.expires_at) else None

    async def _verify_header(self, authorization: bytes) -> VerifiedToken:
        text = find_token(authorization.decode("latin-1"))
        try:
            token = self.verify(text)
        except KeyUnknown:
            assert self._issuer is not None
            await self._issuer.ask_again()
            token = self.verify(text)
        if len(authorization) > MAX_REMEMBERED_HEADER_BYTES:
            return token
        if len(self._remembered) >= MAX_REMEMBERED_TOKENS:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[authorization] = token
        return token

    def verify(self, token: str) -> VerifiedToken:
        """Return what the token says; raise a TokenRefused that names what is wrong with it."""
        header = _read_checked_header(token)
        algorithm, keys = self._keys(header)
        try:
            claims = _verify_signature(token, algorithm, keys)
        except TokenForged as error:
            if algorithm != ALGORITHM and header.get("kid") is None:
                raise KeyUnknown(str(error)) from error  # the issuer may have a new one
            raise
        if not is_for_audience(claims, self._rules.audience):
            raise TokenForElsewhere("The token is for another audience.")
        if self._rules.issuer is not None and claims.get("iss") != self._rules.issuer:
            raise TokenForElsewhere("The token is of another issuer.")
        return VerifiedToken(
            text=token,
            user_id=user_id(claims),
            expires_at=self._expiry(claims),
            abilities=abilities(claims),
        )

    def _keys(self, header: Mapping[str, object]) -> tuple[str, Sequence[Key]]:
        """The algorithm that the header names, and the keys that may have signed with it."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == ALGORITHM:
            return ALGORITHM, self._secrets
        if self._issuer is None or algorithm not in ISSUERS_ALGORITHMS:
            raise TokenForged("The token is not signed with an accepted algorithm.")
        keys = self._issuer.keys(str(algorithm), kid)
        if not keys:
            raise KeyUnknown("The token is signed with a key that its issuer does not name.")
        return str(algorithm), keys

    def _expiry(self, claims: Claims) -> float:
        leeway = self._rules.leeway_seconds
        if "nbf" in claims and read_numeric_date(claims, "nbf") > self._now() + leeway:
            raise TokenNotYetValid("The token is not valid yet.")
        expires_at = read_numeric_date(claims, "exp")
        if not self._is_before(expires_at):
            raise TokenExpired("The token has expired.")
        return min(expires_at, LAST_EXPIRY)

    def _is_before(self, expires_at: float) -> bool:
        return expires_at + self._rules.leeway_seconds > self._now()


def _build_key(secret: str) -> Key:
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise InvalidSecret(f"shorter than {MIN_SECRET_BYTES} bytes")
    try:
        return jwk.construct(secret, ALGORITHM)
    except JOSEError as error:  # a PEM or SSH key: public halves are no secrets
        raise InvalidSecret("a key of another kind, not an HMAC secret") from error


def _verify_signature(token: str, algorithm: str, keys: Sequence[Key]) -> Claims:
    """The claims that one of the keys has signed."""
    # What they say is checked elsewhere: the library is lenient there.
    options = {"verify_exp": False, "verify_nbf": False, "verify_aud": False, "verify_iss": False}
    try:
        # The library takes keys as they are, although its types say otherwise.
        return jwt.decode(token, cast("Key", keys), algorithms=[algorithm], options=options)
    except Exception as error:  # the library raises far more than it documents
        raise TokenForged("The token's signature or claims do not hold.") from error


def _read_checked_header(token: str) -> Mapping[str, object]:
    """The token's header; refused, unparsed where possible, is what is no plain compact JWS."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise TokenUnreadable(f"The token is longer than {MAX_TOKEN_CHARACTERS} characters.")
    if _COMPACT_JWS.fullmatch(token) is None:
        raise TokenUnreadable("The token is not a signed JSON Web Token.")
    header = _decode_header(token)
    # A header of plain values only: no keys of the sender's (`jwk`, `x5c`), no lists to interpret.
    if any(isinstance(value, dict | list) for value in header.values()):
        raise TokenUnreadable("The token's header is not one that is read here.")
    if not _FOREIGN_HEADERS.isdisjoint(header):
        raise TokenUnreadable("The token's header asks for what is not supported.")
    return header


def _decode_header(token: str) -> dict[str, object]:
    encoded = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError) as error:
        raise TokenUnreadable("The token's header cannot be read.") from error
    if not isinstance(header, dict):
        raise TokenUnreadable("The token's header cannot be read.")
    return header
