"""Issues and verifies JSON Web Tokens (RFC 7519), which grant abilities on albums.

Tokens are signed with HS256 and a secret, or by an issuer whose public keys are fetched.
python-jose verifies the signature; the kind of key fixes the algorithm. The library is lenient
otherwise: it accepts an ``exp`` that is a string, a ``crit`` that it does not know, a token in the
second it expires, and a token without ``aud`` where one is required. So the form of a token is
checked before it is decoded, and its claims are checked after.
"""

import json
import re
import string
import time
import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, cast

from jose import jwk, jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

from imageapi.auth.authorization import find_token
from imageapi.auth.claims import (
    Claims,
    is_for_audience,
    read_abilities,
    read_numeric_date,
    read_user_id,
)
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

#: A longer token is refused before it is parsed.
MAX_TOKEN_CHARACTERS = 4096
#: A shorter secret is refused when the service starts (RFC 7518 §3.2).
MIN_SECRET_BYTES = 32
#: 9999-01-01, in seconds since 1970. Tokens that expire later are treated as if they expired then.
LAST_EXPIRY = 253_370_764_800.0
#: Verified tokens are remembered by their header, so that they are verified once.
MAX_REMEMBERED_TOKENS = 2048
#: A token of a longer header is verified each time.
MAX_REMEMBERED_HEADER_BYTES = MAX_TOKEN_CHARACTERS + 64

_COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Each of these changes the meaning of the rest (RFC 7515 §4.1.11, RFC 7516, RFC 7797).
_UNSUPPORTED_PARAMETERS = frozenset({"crit", "zip", "enc", "b64"})
# What the library would check of the claims. Those that are read here are checked by our own code,
# which is stricter. All others decide nothing, whatever they hold (RFC 7519 §4): ID tokens have
# `at_hash`, and some issuers make `sub` a number.
_CHECKED_BY_LIBRARY = ("exp", "nbf", "aud", "iss", "iat", "sub", "jti", "at_hash")
_UNCHECKED_CLAIMS = {f"verify_{claim}": False for claim in _CHECKED_BY_LIBRARY}
_BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
#: The last characters of base64url whose unused bits are zero, by the length modulo 4.
_LAST_CHARACTERS = {0: _BASE64URL, 2: _BASE64URL[::16], 3: _BASE64URL[::4], 1: ""}


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature and claims are valid.

    ``abilities`` maps the id of an album to the abilities on it. ``expires_at`` is in seconds since
    1970, at most LAST_EXPIRY.
    """

    text: str = field(repr=False)
    user_id: str | None
    expires_at: float
    abilities: Mapping[str, frozenset[str]]

    @property
    def rate_name(self) -> str:
        """Return the name that a rate is counted by: the user, else what was signed.

        The signature is left out: for one text an ES256 key has several that are valid.
        """
        return self.user_id or self.text.rpartition(".")[0]

    def albums_with(self, ability: str) -> list[str]:
        """Return the ids of the albums on which the token grants the ability."""
        return [album_id for album_id, granted in self.abilities.items() if ability in granted]

    def require(self, ability: str, album_id: str) -> None:
        """Raise AbilityMissing unless the token grants the ability on the album."""
        if ability not in self.abilities.get(album_id, ()):
            raise AbilityMissing(ability, album_id)


@dataclass(frozen=True, slots=True)
class Rules:
    """What tokens must claim: ``aud`` and ``iss``, unless these are None.

    ``leeway_seconds`` is how far the clock of an issuer may differ from ours.
    """

    audience: str | None = None
    issuer: str | None = None
    leeway_seconds: int = 0


class IssuerKeys(Protocol):
    """The public keys of an issuer. ``generation`` rises whenever they change."""

    generation: int

    def find_keys(self, algorithm: str, kid: object) -> list[Key]:
        """Return the keys that may have signed a token with this header, perhaps none."""

    async def refresh(self) -> None:
        """Fetch the keys again, because one is not known; raise IssuerUnavailable."""


class Tokens:
    """Issues tokens with the first secret, and verifies tokens of every secret and of the issuer.

    Raises InvalidSecret for a secret of less than 32 bytes.
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
        # A dict, whose oldest entry is removed first. Every request looks here, and a lookup in
        # cachetools' LRUCache takes ten times as long.
        self._remembered: dict[bytes, VerifiedToken] = {}
        # Verify one token now, so that python-jose imports its lazy modules. If such an import
        # fails later, because no file can be opened, the library reports a bad signature.
        self.verify(self.issue((), (), timedelta(days=1)))

    def issue(
        self,
        album_ids: Iterable[str],
        abilities: Collection[str],
        lifetime: timedelta,
        user_id: str | None = None,
    ) -> str:
        """Return a token that grants the abilities on each album, from now for ``lifetime``.

        Without a ``user_id`` it has a random one.
        """
        claims: dict[str, object] = {
            "exp": int(self._now() + lifetime.total_seconds()),
            "abilities": {
                album_id: {"Access": dict.fromkeys(abilities, True)} for album_id in album_ids
            },
            "user_id": user_id or str(uuid.uuid4()),
        }
        required = {"aud": self._rules.audience, "iss": self._rules.issuer}
        claims |= {name: value for name, value in required.items() if value is not None}
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    async def verify_header(self, authorization: bytes) -> VerifiedToken:
        """Verify an ``Authorization`` header; raise TokenRefused, IssuerUnavailable."""
        return self.find_remembered(authorization) or await self._verify_header(authorization)

    def find_remembered(self, authorization: bytes) -> VerifiedToken | None:
        """Return the token if this header was verified before and is still valid, else None."""
        if self._issuer is not None and self._issuer.generation != self._generation:
            self._generation = self._issuer.generation  # perhaps a key was withdrawn
            self._remembered.clear()
        token = self._remembered.get(authorization)
        return token if token is not None and self._is_before(token.expires_at) else None

    async def _verify_header(self, authorization: bytes) -> VerifiedToken:
        text = find_token(authorization.decode("latin-1"))
        try:
            token = self.verify(text)
        except KeyUnknown:
            assert self._issuer is not None
            await self._issuer.refresh()
            token = self.verify(text)
        if len(authorization) > MAX_REMEMBERED_HEADER_BYTES:
            return token
        if len(self._remembered) >= MAX_REMEMBERED_TOKENS:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[authorization] = token
        return token

    def verify(self, token: str) -> VerifiedToken:
        """Return the verified token; raise a TokenRefused whose message says what is wrong."""
        header = _read_checked_header(token)
        algorithm, keys = self._find_keys(header)
        try:
            claims = _verify_signature(token, algorithm, keys)
        except TokenForged as error:
            if algorithm != ALGORITHM and header.get("kid") is None:
                raise KeyUnknown(str(error)) from error  # the issuer may have a new key
            raise
        if not is_for_audience(claims, self._rules.audience):
            raise TokenForElsewhere("The token is for another audience.")
        if self._rules.issuer is not None and claims.get("iss") != self._rules.issuer:
            raise TokenForElsewhere("The token is of another issuer.")
        return VerifiedToken(
            text=token,
            user_id=read_user_id(claims),
            expires_at=self._read_expiry(claims),
            abilities=read_abilities(claims),
        )

    def _find_keys(self, header: Mapping[str, object]) -> tuple[str, Sequence[Key]]:
        """Return the algorithm of the header, and the keys that may have signed with it."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == ALGORITHM:
            return ALGORITHM, self._secrets
        if self._issuer is None or algorithm not in ISSUERS_ALGORITHMS:
            raise TokenForged("The token is not signed with an accepted algorithm.")
        keys = self._issuer.find_keys(str(algorithm), kid)
        if not keys:
            raise KeyUnknown("The token is signed with a key that its issuer does not name.")
        return str(algorithm), keys

    def _read_expiry(self, claims: Claims) -> float:
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
    except JOSEError as error:  # a PEM or SSH key, which may be public
        raise InvalidSecret("a key of another kind, not an HMAC secret") from error


def _verify_signature(token: str, algorithm: str, keys: Sequence[Key]) -> Claims:
    """Return the claims that one of the keys has signed; raise TokenForged."""
    try:
        # The library accepts several keys, although its type hints do not say so.
        return jwt.decode(
            token, cast("Key", keys), algorithms=[algorithm], options=_UNCHECKED_CLAIMS
        )
    except Exception as error:  # the library raises far more than it documents
        raise TokenForged("The token's signature or claims do not hold.") from error


def _read_checked_header(token: str) -> Mapping[str, object]:
    """Return the token's header; raise TokenUnreadable if the token is not a plain compact JWS.

    As much as possible is checked before anything is parsed.
    """
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise TokenUnreadable(f"The token is longer than {MAX_TOKEN_CHARACTERS} characters.")
    if _COMPACT_JWS.fullmatch(token) is None:
        raise TokenUnreadable("The token is not a signed JSON Web Token.")
    if not all(map(_is_canonical, token.split("."))):
        raise TokenUnreadable("The token is not in canonical base64url (RFC 4648 §3.5).")
    header = _decode_header(token)
    # Plain values only: no keys that the sender chose (`jwk`, `x5c`), no lists.
    if any(isinstance(value, dict | list) for value in header.values()):
        raise TokenUnreadable("The token's header is not one that is read here.")
    if not _UNSUPPORTED_PARAMETERS.isdisjoint(header):
        raise TokenUnreadable("The token's header asks for what is not supported.")
    return header


def _is_canonical(part: str) -> bool:
    """Return whether base64url has zeros in the bits that no byte has.

    A decoder ignores these bits, so that other spellings of a part would be the same bytes.
    """
    return part[-1] in _LAST_CHARACTERS[len(part) % 4]


def _decode_header(token: str) -> dict[str, object]:
    encoded = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError) as error:
        raise TokenUnreadable("The token's header cannot be read.") from error
    if not isinstance(header, dict):
        raise TokenUnreadable("The token's header cannot be read.")
    return header
