"""``If-Match`` and ``If-None-Match`` (RFC 9110 §13.1), so that no update is lost unseen."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from imageapi.albums.editor import ExpectedVersions

_VERSION_TAG = re.compile(r'"(\d{1,18})"')


async def _parse_if_match(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(description="The `ETag` that the image must still have, else 412"),
    ] = None,
) -> ExpectedVersions:
    """The versions that the header names, compared strongly; None where any will do."""
    if if_match is None:
        return None
    if_match = ",".join(request.headers.getlist("If-Match"))  # lines of one list (RFC 9110 §5.3)
    if if_match.strip() == "*":
        return None
    tags = (_VERSION_TAG.fullmatch(each.strip()) for each in if_match.split(","))
    return {int(tag[1]) for tag in tags if tag is not None}


#: The versions of an image that a change is for; None where the request names none.
IfMatch = Annotated[ExpectedVersions, Depends(_parse_if_match)]
IfNoneMatch = Annotated[
    str | None, Header(description="An `ETag`: 304 while the answer would be the same")
]


def etag_matches(condition: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag, compared weakly."""
    if condition is None:
        return False
    named = {each.strip().removeprefix("W/") for each in condition.split(",")}
    return "*" in named or etag in named
