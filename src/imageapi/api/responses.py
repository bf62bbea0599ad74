"""JSON responses whose text is stored as JSON already: nothing is parsed or serialized again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse

from imageapi.albums.asset_paths import build_asset_path, build_original_name
from imageapi.database.images import StoredImage

#: A longer text is sent, and compressed, in several pieces.
MAX_PIECE_CHARACTERS = 1024 * 1024

_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def json_array_response(
    records: Sequence[str], headers: Mapping[str, str] | None = None
) -> Response:
    """Return the records as a compact JSON array.

    An array of more than `MAX_PIECE_CHARACTERS` is streamed: compressing it in one step would
    block the event loop, and with it all other requests.
    """
    text = f"[{','.join(records)}]"
    if len(text) <= MAX_PIECE_CHARACTERS:
        return json_text_response(text, headers)

    async def texts() -> AsyncIterator[str]:
        yield text

    return _streaming_response(texts(), headers)


async def json_chunks_response(
    chunks: AsyncGenerator[list[str], None], headers: Mapping[str, str] | None = None
) -> Response:
    """Return the records of all chunks as one array, streamed if there is more than one chunk.

    Raises what reading the first two chunks raises. An error in a later one breaks the response
    off.
    """
    first: list[str] = await anext(chunks, [])
    second: list[str] | None = await anext(chunks, None)
    if second is None:
        return json_array_response(first, headers)

    async def texts() -> AsyncIterator[str]:
        async with aclosing(chunks):
            yield f"[{','.join(first)}"
            if second:
                yield f",{','.join(second)}"
            async for records in chunks:
                if records:
                    yield f",{','.join(records)}"
            yield "]"

    return _streaming_response(texts(), headers)


def _streaming_response(texts: AsyncIterator[str], headers: Mapping[str, str] | None) -> Response:
    async def pieces() -> AsyncIterator[str]:
        async for text in texts:
            for start in range(0, len(text), MAX_PIECE_CHARACTERS):
                yield text[start : start + MAX_PIECE_CHARACTERS]
                await asyncio.sleep(
                    0
                )  # let other tasks run: a fast client never makes this one wait

    return StreamingResponse(pieces(), headers={**_HEADERS, **(headers or {})})


def json_text_response(
    text: str | bytes, headers: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    """Return the JSON text unchanged."""
    return Response(text, status, headers={**_HEADERS, **(headers or {})})


def image_response(
    album_id: str,
    image: StoredImage,
    headers: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    """Return one image with its ``ETag``, and a ``Link`` to the original if the store has it."""
    own = {"ETag": get_etag(image)}
    if image.asset_key is not None:
        name = build_original_name(image.format)
        path = build_asset_path(album_id, str(image.public_id), image.asset_key, name)
        own["Link"] = f'<{path}>; rel="enclosure"'
    return json_text_response(image.record, {**own, **(headers or {})}, status)


def get_etag(image: StoredImage) -> str:
    """Return the image's version as an entity tag (RFC 9110 §8.8.3)."""
    return f'"{image.version}"'
