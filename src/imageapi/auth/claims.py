"""What the claims of a token say (RFC 7519 §4), each of them checked before it is believed."""

import math
from collections.abc import Mapping

from imageapi.auth.errors import TokenUnreadable

ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
#: How deep the abilities may nest: what is granted lies three deep.
MAX_ABILITIES_DEPTH = 8

Claims = Mapping[str, object]


def read_numeric_date(claims: Claims, claim: str) -> float:
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


def is_for_audience(claims: Claims, audience: str | None) -> bool:
    """Whether ``aud`` names the audience, or is not there where there is none (§4.1.3)."""
    named = claims.get("aud")
    if isinstance(named, list):
        return audience in named
    return named == audience


def user_id(claims: Claims) -> str | None:
    """Whom the token is for, None where it does not say."""
    value = claims.get("user_id")
    if value is None or (isinstance(value, str) and _is_storable(value)):
        return value
    raise TokenUnreadable("The token's user_id is not a text.")


def _is_storable(text: str) -> bool:
    """Whether the text has neither NUL nor half a surrogate pair: events keep it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def abilities(claims: Claims) -> Mapping[str, frozenset[str]]:
    """The abilities map. Only JSON ``true`` grants: not 1, not "true"."""
    value = claims.get("abilities")
    if not isinstance(value, dict) or not _is_shallow(value, MAX_ABILITIES_DEPTH):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return {album_id: _read_granted(entry) for album_id, entry in value.items()}


def _read_granted(entry: object) -> frozenset[str]:
    access = entry.get("Access", {}) if isinstance(entry, dict) else None
    if not isinstance(access, dict):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return frozenset(ability for ability, granted in access.items() if granted is True)


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)
