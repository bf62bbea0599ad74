"""JSON Web Tokens (RFC 7519), signed with HS256, that say who may do what in which album.

python-jose checks the signature, with the list of algorithms fixed. It is lenient elsewhere (it
takes an ``exp`` that is a string, a ``crit`` that it does not know, a token in its last second), so
the form of a token is checked before it is decoded, and its claims after.
"""

import json
import math
import re
import time
import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from jose import jwk, jwt
from jose.exceptions import JOSEError

from imageapi.auth.authorization import find_token
from imageapi.auth.errors import (
    AbilityMissing,
    TokenExpired,
    TokenForged,
    TokenNotYetValid,
    TokenUnreadable,
    UnfitSecret,
)

ALGORITHM = "HS256"
ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")

#: A token longer than this is refused before any of it is parsed, in characters.
LONGEST_TOKEN = 4096
#: A shorter secret is refused when the service starts, in bytes (RFC 7518 §3.2).
SHORTEST_SECRET_BYTES = 32
#: 9999-01-01, in seconds since 1970: later expiries are said to be then.
LAST_EXPIRY = 253_370_764_800.0
#: So many verified tokens are remembered, of at most 4 KB each.
MOST_REMEMBERED = 2048
#: How deep the abilities may nest: what is granted lies three deep.
DEEPEST_ABILITIES = 8

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


class Tokens:
    """Issues and verifies tokens with one secret (at least 32 bytes, else UnfitSecret)."""

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        if len(secret.encode()) < SHORTEST_SECRET_BYTES:
            raise UnfitSecret(f"shorter than {SHORTEST_SECRET_BYTES} bytes")
        try:
            self._key = jwk.construct(secret, ALGORITHM)
        except JOSEError as error:  # a PEM or SSH key: public halves are no secrets
            raise UnfitSecret("a key of another kind, not an HMAC secret") from error
        self._now = now
        self._remembered: dict[bytes, VerifiedToken] = {}

    def issue(
        self,
        album_id: str,
        abilities: Iterable[str],
        lifetime: timedelta,
        user_id: str | None = None,
    ) -> str:
        """Return a token that grants the abilities on one album, from now for ``lifetime``."""
        claims = {
            "exp": int(self._now() + lifetime.total_seconds()),
            "abilities": {album_id: {"Access": dict.fromkeys(abilities, True)}},
            "user_id": user_id or str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def of_header(self, authorization: bytes) -> VerifiedToken:
        """The verified token of an ``Authorization`` header; raises TokenRefused."""
        return self.remembered(authorization) or self._verify_header(authorization)

    def remembered(self, authorization: bytes) -> VerifiedToken | None:
        """The token, where this header has been verified and the token has not expired since."""
        token = self._remembered.get(authorization)
        return token if token is not None and token.expires_at > self._now() else None

    def _verify_header(self, authorization: bytes) -> VerifiedToken:
        token = self.verify(find_token(authorization.decode("latin-1")))
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[authorization] = token
        return token

    def verify(self, token: str) -> VerifiedToken:
        """Return what the token says; raise a TokenRefused that names what is wrong with it."""
        _check_form(token)
        claims = self._signed_claims(token)
        return VerifiedToken(
            text=token,
            user_id=_user_id(claims),
            expires_at=self._expiry(claims),
            abilities=_abilities(claims),
        )

    def _signed_claims(self, token: str) -> Mapping[str, object]:
        # Times are `_expiry`'s: the library takes an `exp` that is a text, or has just come.
        try:
            return jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                options={"verify_exp": False, "verify_nbf": False},
            )
        except Exception as error:  # the library raises far more than it documents
            raise TokenForged("The token's signature or claims do not hold.") from error

    def _expiry(self, claims: Mapping[str, object]) -> float:
        now = self._now()
        if "nbf" in claims and _numeric_date(claims, "nbf") > now:
            raise TokenNotYetValid("The token is not valid yet.")
        expires_at = _numeric_date(claims, "exp")
        if expires_at <= now:
            raise TokenExpired("The token has expired.")
        return min(expires_at, LAST_EXPIRY)


def _check_form(token: str) -> None:
    """Refuse, unparsed where possible, what is no plain HS256 JWS in compact form."""
    if len(token) > LONGEST_TOKEN:
        raise TokenUnreadable(f"The token is longer than {LONGEST_TOKEN} characters.")
    if _COMPACT_JWS.fullmatch(token) is None:
        raise TokenUnreadable("The token is not a signed JSON Web Token.")
    header = _header(token)
    # A header of plain values only: no keys of the sender's (`jwk`, `x5c`), no lists to interpret.
    if any(isinstance(value, dict | list) for value in header.values()):
        raise TokenUnreadable("The token's header is not one that is read here.")
    if not _FOREIGN_HEADERS.isdisjoint(header):
        raise TokenUnreadable("The token's header asks for what is not supported.")
    if header.get("alg") != ALGORITHM:
        raise TokenForged("The token is not signed with an accepted algorithm.")


def _header(token: str) -> dict[str, object]:
    encoded = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError) as error:
        raise TokenUnreadable("The token's header cannot be read.") from error
    if not isinstance(header, dict):
        raise TokenUnreadable("The token's header cannot be read.")
    return header


def _numeric_date(claims: Mapping[str, object], claim: str) -> float:
    """Seconds since 1970 (RFC 7519 §2); JSON numbers only, finite ones."""
    value = claims.get(claim)
    if type(value) not in (int, float):
        raise TokenUnreadable(f"The token's {claim} is not a number.")
    assert isinstance(value, int | float)
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise TokenUnreadable(f"The token's {claim} is not a number.")
    return seconds


def _user_id(claims: Mapping[str, object]) -> str | None:
    user_id = claims.get("user_id")
    if user_id is None or (isinstance(user_id, str) and _is_storable(user_id)):
        return user_id
    raise TokenUnreadable("The token's user_id is not a text.")


def _is_storable(text: str) -> bool:
    """Whether the text has neither NUL nor half a surrogate pair: events keep it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _abilities(claims: Mapping[str, object]) -> Mapping[str, frozenset[str]]:
    """The abilities map. Only JSON ``true`` grants: not 1, not "true"."""
    abilities = claims.get("abilities")
    if not isinstance(abilities, dict) or not _is_shallow(abilities, DEEPEST_ABILITIES):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return {album_id: _granted(entry) for album_id, entry in abilities.items()}


def _granted(entry: object) -> frozenset[str]:
    access = entry.get("Access", {}) if isinstance(entry, dict) else None
    if not isinstance(access, dict):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return frozenset(ability for ability, granted in access.items() if granted is True)


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)
