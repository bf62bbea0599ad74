"""Routes for pictures: public and cacheable. A path that shows a picture is signed."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.responses import StreamingResponse

from imageapi.albums.asset_paths import (
    ORIGINAL,
    build_original_name,
    build_store_key,
    is_signed,
    parse_view,
)
from imageapi.api.dependencies import PublicIdPath, ResourcesDep
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import problem_responses
from imageapi.database.images import StoredImage
from imageapi.http.errors import NothingHere
from imageapi.http.preconditions import IfNoneMatch, etag_matches
from imageapi.http.ranges import parse_range
from imageapi.imaging.errors import DecodersBusy
from imageapi.imaging.formats import MEDIA_TYPES
from imageapi.records.ids import ALBUM_ID
from imageapi.resources import Resources
from imageapi.storage.errors import StoreUnavailable
from imageapi.storage.store import Store

router = APIRouter(prefix="/assets", tags=["pictures"])

#: Pages of any origin may show the pictures, and measure how long they take.
_FOR_ALL_ORIGINS = {"Cross-Origin-Resource-Policy": "cross-origin", "Timing-Allow-Origin": "*"}
_BLANK = files("imageapi").joinpath("assets", "blank.jpg").read_bytes()
_BLANK_ETAG = f'"{sha256(_BLANK).hexdigest()[:32]}"'
_DAY_SECONDS, _YEAR_SECONDS = 86400, 31_536_000
#: The headers of every response that shows a picture.
_HEADERS = ("ETag", *_FOR_ALL_ORIGINS)
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It has not changed since", **document_headers(*_HEADERS)}
}
_BINARY_SCHEMA = {"schema": {"type": "string", "format": "binary"}}
_ORIGINAL_CONTENT = dict.fromkeys(MEDIA_TYPES.values(), _BINARY_SCHEMA)

_NO_PICTURE = "There is no such picture."


@dataclass(frozen=True, slots=True)
class SignedPicture:
    """The picture at a signed path: an image, and the file name of its original or rendition."""

    album_id: str
    image: StoredImage
    name: str
    etag: str


async def _find_signed_picture(
    album_id: Annotated[str, Path(description="The album's id")],
    public_id: PublicIdPath,
    signature: Annotated[str, Path(description="What makes the path unguessable")],
    name: Annotated[str, Path(description="What is shown, as `mini-120.jpg` or `original.png`")],
    resources: ResourcesDep,
) -> SignedPicture:
    """Return the picture at the path; raises NothingHere, ImageNotFound."""
    if ALBUM_ID.fullmatch(album_id) is None:
        raise NothingHere(_NO_PICTURE)
    image = await resources.images.get(album_id, public_id)
    if image.asset_key is None or not is_signed(image.asset_key, name, signature):
        raise NothingHere(_NO_PICTURE)
    return SignedPicture(album_id, image, name, f'"{signature}"')


PictureDep = Annotated[SignedPicture, Depends(_find_signed_picture)]


@router.get(
    "/blank.jpg",
    operation_id="getBlankPicture",
    response_class=Response,
    response_description="A grey picture",
    responses={
        200: {"content": {"image/jpeg": _BINARY_SCHEMA}, **document_headers(*_HEADERS)},
        **_NOT_MODIFIED,
        **problem_responses(),
    },
)
async def get_blank_picture(resources: ResourcesDep, if_none_match: IfNoneMatch = None) -> Response:
    """Stand in for a picture where there is none to show."""
    headers = _build_headers(resources, _BLANK_ETAG)
    if etag_matches(if_none_match, _BLANK_ETAG):
        return Response(status_code=304, headers=headers)
    return Response(_BLANK, headers=headers, media_type="image/jpeg")


@router.get(
    "/{album_id}/{public_id:uuid}/{signature}/{name}",  # noqa: FAST003 - PictureDep takes them
    operation_id="getPicture",
    response_class=Response,
    response_description="The picture: a rendition is a JPEG, an original what it came as",
    responses={
        200: {"content": _ORIGINAL_CONTENT, **document_headers(*_HEADERS, "Accept-Ranges")},
        206: {
            "description": "The part of the original that was asked for",
            "content": _ORIGINAL_CONTENT,
            **document_headers(*_HEADERS, "Accept-Ranges", "Content-Range"),
        },
        **_NOT_MODIFIED,
        416: {
            "description": "The original has no such part",
            **document_headers(*_HEADERS, "Accept-Ranges", "Content-Range"),
        },
        **problem_responses(NothingHere, StoreUnavailable, DecodersBusy),
    },
)
async def get_picture(
    picture: PictureDep,
    resources: ResourcesDep,
    request: Request,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show a rendition, or the original, by the path that the image's record or answer names."""
    headers = _build_headers(resources, picture.etag)
    if etag_matches(if_none_match, picture.etag):
        return Response(status_code=304, headers=headers)
    if picture.name == build_original_name(picture.image.format):
        return await _original_response(resources.backend.store, picture, request, headers)
    return await _rendition_response(resources, picture, headers)


def _build_headers(
    resources: Resources, etag: str, max_age_seconds: int = _YEAR_SECONDS
) -> dict[str, str]:
    """Return the headers of a picture that never changes, so that a client need not ask again.

    ``immutable`` (RFC 8246) keeps browsers from asking also where a page is loaded anew.
    """
    cache_control = f"{resources.assets_cache}, max-age={max_age_seconds}, immutable"
    return {"Cache-Control": cache_control, "ETag": etag, **_FOR_ALL_ORIGINS}


async def _rendition_response(
    resources: Resources, picture: SignedPicture, headers: dict[str, str]
) -> Response:
    view = parse_view(picture.name)
    if view is None:
        raise NothingHere(_NO_PICTURE)
    rendition = await resources.renditions.get(picture.album_id, picture.image, picture.name, view)
    if not rendition:
        # Not for a year: a later version of the service may be able to decode the picture.
        headers = _build_headers(resources, _BLANK_ETAG, _DAY_SECONDS)
        return Response(_BLANK, headers=headers, media_type="image/jpeg")
    return Response(rendition, headers=headers, media_type="image/jpeg")


async def _original_response(
    store: Store, picture: SignedPicture, request: Request, headers: dict[str, str]
) -> Response:
    """Return the original, or the one range of it that the request names (RFC 9110 §14)."""
    assert picture.image.picture is not None
    key = build_store_key(picture.album_id, picture.image.picture, ORIGINAL)
    size = await store.size(key)
    headers |= {"Accept-Ranges": "bytes"}
    is_same = request.headers.get("if-range", picture.etag) == picture.etag
    part = parse_range(request.headers.get("range"), size) if is_same else None
    if part is not None and part.length == 0:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    start, end = part or (0, size)
    status, media_type = 200 if part is None else 206, MEDIA_TYPES[picture.image.format]
    headers["Content-Length"] = str(end - start)
    if getattr(request.state, "is_head", False):
        return Response(None, status, headers, media_type)
    return StreamingResponse(store.stream(key, start, end), status, headers, media_type)
