"""Reads the claims of a token (RFC 7519 §4), and checks the type of each before it is used."""

import math
from collections.abc import Mapping

from imageapi.auth.errors import TokenUnreadable

ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
#: How deep the abilities may be nested. Those that grant something are three levels deep.
MAX_ABILITIES_DEPTH = 8

Claims = Mapping[str, object]


def read_numeric_date(claims: Claims, claim: str) -> float:
    """Return the claim in seconds since 1970 (RFC 7519 §2).

    Raises TokenUnreadable if it is not a JSON number, or not finite.
    """
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
    """Return whether ``aud`` names the audience (RFC 7519 §4.1.3).

    Without an audience, return whether the token has no ``aud``.
    """
    value = claims.get("aud")
    if isinstance(value, list):
        return audience in value
    return value == audience


def read_user_id(claims: Claims) -> str | None:
    """Return the id of the token's user, None if the token names none; raise TokenUnreadable."""
    value = claims.get("user_id")
    if value is None or (isinstance(value, str) and _is_storable(value)):
        return value
    raise TokenUnreadable("The token's user_id is not a text.")


def _is_storable(text: str) -> bool:
    """Return whether the text can be stored in an event: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def read_abilities(claims: Claims) -> Mapping[str, frozenset[str]]:
    """Return the abilities granted, by album id; raise TokenUnreadable.

    Only JSON ``true`` grants an ability: not 1, not "true".
    """
    value = claims.get("abilities")
    if not isinstance(value, dict) or not _is_shallow(value, MAX_ABILITIES_DEPTH):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return {album_id: _read_access(entry) for album_id, entry in value.items()}


def _read_access(entry: object) -> frozenset[str]:
    access = entry.get("Access", {}) if isinstance(entry, dict) else None
    if not isinstance(access, dict):
        raise TokenUnreadable("The token's abilities are not a map of albums.")
    return frozenset(ability for ability, granted in access.items() if granted is True)


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)
