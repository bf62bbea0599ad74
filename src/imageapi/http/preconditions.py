"""``If-Match`` and ``If-None-Match`` (RFC 9110 §13.1).

``If-Match`` keeps two clients from overwriting each other's changes; ``If-None-Match`` saves
sending what the client has already.
"""

import re
from typing import Annotated

from fastapi import Depends, Header

from imageapi.albums.editor import ExpectedVersions

_VERSION_ETAG = re.compile(r'"(\d{1,18})"')


async def _parse_if_match(
    if_match: Annotated[
        str | None,
        Header(description="The `ETag` that the image must still have, else 412"),
    ] = None,
) -> ExpectedVersions:
    """Return the versions that the header names, or None where any version matches.

    The comparison is strong, so a weak ETag names no version.
    """
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return None
    matches = (_VERSION_ETAG.fullmatch(etag.strip()) for etag in if_match.split(","))
    return {int(match[1]) for match in matches if match is not None}


#: The versions that an image may have for a change to be made; None where any will do.
IfMatch = Annotated[ExpectedVersions, Depends(_parse_if_match)]
IfNoneMatch = Annotated[
    str | None, Header(description="An `ETag`: 304 while the answer would be the same")
]


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether ``If-None-Match`` names this ETag, or any; the comparison is weak."""
    if if_none_match is None:
        return False
    etags = {listed.strip().removeprefix("W/") for listed in if_none_match.split(",")}
    return "*" in etags or etag in etags
