"""Pages of a list: the parameters ``limit`` and ``after``, and the headers of a page."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request, Response

from imageapi.api.parameters import WrittenAsInJson
from imageapi.api.responses import json_array_response, json_chunks_response
from imageapi.database.images import Cursor, Filter, Images
from imageapi.http.errors import InvalidParameter

MAX_PAGE_IMAGES = 1000
#: The headers that a page has beside those of every response.
PAGE_HEADERS = ("Link", "X-Total-Count")

Limit = Annotated[
    int | None,
    Query(
        ge=1,
        le=MAX_PAGE_IMAGES,
        description="At most so many; without it all of them",
        examples=[25],
        json_schema_extra={"format": "int32"},
    ),
    WrittenAsInJson,
]
After = Annotated[
    str | None,
    Query(description='Where to go on, from the `Link: <…>; rel="next"` header of a page'),
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_BYTES = 8


def encode_cursor(cursor: Cursor) -> str:
    """Return the cursor as opaque text for ``after``: microseconds since 1970, then the id."""
    microseconds = (cursor.created_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(microseconds.to_bytes(_TIME_BYTES) + cursor.public_id.bytes).decode()


def decode_cursor(after: str | None) -> Cursor | None:
    """Return the cursor; raises InvalidParameter if `encode_cursor` did not write the text."""
    if after is None:
        return None
    try:
        raw = urlsafe_b64decode(after.encode("ascii"))
        time, public_id = raw[:_TIME_BYTES], UUID(bytes=raw[_TIME_BYTES:])
        return Cursor(_EPOCH + int.from_bytes(time) * _MICROSECOND, public_id)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidParameter(
            "/query/after", "must be from the header Link of a page of this list"
        ) from error


async def list_response(  # noqa: PLR0917 - the parameters of a route, in their order
    images: Images,
    album_id: str,
    wanted: Filter,
    request: Request,
    limit: int | None,
    after: str | None,
) -> Response:
    """Return a page of the images with its headers; without ``limit``, all images after the cursor.

    Raises InvalidParameter.
    """
    cursor = decode_cursor(after)
    headers = {}
    if cursor is not None or limit is not None:
        headers["X-Total-Count"] = str(await images.count(album_id, wanted))
    if limit is None:
        return await json_chunks_response(images.iterate_chunks(album_id, wanted, cursor), headers)
    page = await images.list_page(album_id, wanted, limit, cursor)
    if page.last is not None:
        headers |= next_page_header(request, limit, encode_cursor(page.last))
    return json_array_response(page.records, headers)


def next_page_header(request: Request, limit: int, after: str | int) -> dict[str, str]:
    """Return the header ``Link`` to the next page, a path with the request's other parameters."""
    other_parameters = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("limit", "after")
    ]
    query = urlencode([*other_parameters, ("limit", limit), ("after", after)])
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}
