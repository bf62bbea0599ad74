"""JSON answers made of texts that are JSON already."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse

from imageapi.database.repository import StoredImage
from imageapi.pictures.naming import asset_path, original_name

#: So many characters are sent, and compressed, in one piece.
LARGEST_PIECE = 1024 * 1024

_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def json_array(records: Sequence[str], headers: Mapping[str, str] | None = None) -> Response:
    """The records as a compact JSON array; nothing in them is parsed or written anew.

    A large one is sent, and compressed, bit by bit, lest everybody else wait for it.
    """
    text = f"[{','.join(records)}]"
    if len(text) <= LARGEST_PIECE:
        return json_text(text, headers)

    async def texts() -> AsyncIterator[str]:
        yield text

    return _stream(texts(), headers)


async def json_chunks(
    chunks: AsyncGenerator[list[str], None], headers: Mapping[str, str] | None = None
) -> Response:
    """The records of all chunks as one array, sent as they come; one chunk as `json_array`."""
    first: list[str] = await anext(chunks, [])
    second: list[str] | None = await anext(chunks, None)
    if second is None:
        return json_array(first, headers)

    async def texts() -> AsyncIterator[str]:
        async with aclosing(chunks):
            yield f"[{','.join(first)}"
            if second:
                yield f",{','.join(second)}"
            async for records in chunks:
                if records:
                    yield f",{','.join(records)}"
            yield "]"

    return _stream(texts(), headers)


def _stream(texts: AsyncIterator[str], headers: Mapping[str, str] | None) -> Response:
    async def pieces() -> AsyncIterator[str]:
        async for text in texts:
            for start in range(0, len(text), LARGEST_PIECE):
                yield text[start : start + LARGEST_PIECE]
                await asyncio.sleep(0)  # others' turn: a socket that takes all never waits

    return StreamingResponse(pieces(), headers={**_HEADERS, **(headers or {})})


def json_text(text: str, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """The JSON text as it is."""
    return Response(text, status, headers={**_HEADERS, **(headers or {})})


def json_image(
    album_id: str,
    image: StoredImage,
    headers: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    """One image, with its ``ETag``, and where its original is to be had, if it is here."""
    own = {"ETag": etag(image)}
    if image.asset_key is not None:
        name = original_name(image.format)
        path = asset_path(album_id, str(image.public_id), image.asset_key, name)
        own["Link"] = f'<{path}>; rel="enclosure"'
    return json_text(image.record, {**own, **(headers or {})}, status)


def etag(image: StoredImage) -> str:
    """The image's version as an entity tag (RFC 9110 §8.8.3)."""
    return f'"{image.version}"'
