"""JSON answers made of texts that are JSON already."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse

from imageapi.database.repository import StoredImage
from imageapi.pictures.naming import asset_path, original_name

_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def json_array(records: Sequence[str], headers: Mapping[str, str] | None = None) -> Response:
    """The records as a compact JSON array; nothing in them is parsed or written anew."""
    return json_text(f"[{','.join(records)}]", headers)


async def json_chunks(
    chunks: AsyncGenerator[list[str], None], full: int, headers: Mapping[str, str] | None = None
) -> Response:
    """The records of all chunks as one array: sent as they come, but a single chunk in one piece.

    A chunk of less than ``full`` records is the last.
    """
    first = await anext(chunks)
    if len(first) < full:
        await chunks.aclose()
        return json_array(first, headers)

    async def texts() -> AsyncIterator[str]:
        async with aclosing(chunks):
            yield f"[{','.join(first)}"
            async for records in chunks:
                if records:
                    yield f",{','.join(records)}"
            yield "]"

    return StreamingResponse(texts(), headers={**_HEADERS, **(headers or {})})


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
