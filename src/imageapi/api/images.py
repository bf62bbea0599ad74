"""Routes for the images of an album: list, read, change, delete, restore."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from imageapi.albums.errors import Conflict
from imageapi.api.dependencies import (
    MayDeleteImages,
    MayListImages,
    MayUpdateImages,
    PublicIdPath,
    ResourcesDep,
)
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import ALBUM_ERRORS, JSON_BODY_ERRORS, problem_responses
from imageapi.api.pagination import PAGE_HEADERS, After, Limit, list_response
from imageapi.api.parameters import EXAMPLE_MOMENT, Moment, parse_number
from imageapi.api.responses import get_etag, image_response
from imageapi.database.errors import ImageChanged
from imageapi.database.images import Box, Filter
from imageapi.http.errors import InvalidParameter
from imageapi.http.preconditions import IfMatch, IfNoneMatch, etag_matches
from imageapi.records.fields import (
    FormatName,
    GivenTag,
    Pixels,
    Position,
    Rotation,
)
from imageapi.records.image import Image
from imageapi.records.positions import is_position

router = APIRouter(tags=["images"], route_class=GuardedRoute)


def parse_box(bbox: str | None) -> Box | None:
    """Parse ``west,south,east,north`` in degrees (RFC 7946 §5); raises InvalidParameter."""
    if bbox is None:
        return None
    try:
        box = Box(*(float(parse_number(part)) for part in bbox.split(",")))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameter("/query/bbox", "must be west,south,east,north in degrees") from error
    is_on_earth = is_position(box.south, box.west) and is_position(box.north, box.east)
    if not is_on_earth or box.south > box.north:
        raise InvalidParameter(
            "/query/bbox", "must be -180 to 180 and -90 to 90, south before north"
        )
    return box


async def _parse_filter(
    *,
    tag: Annotated[
        list[GivenTag], Query(max_length=20, description="Only those with it; repeatable: with all")
    ] = [],  # noqa: B006 - FastAPI copies it
    untagged: Annotated[bool | None, Query(description="Only those without, or with, tags")] = None,
    created_after: Annotated[
        Moment | None, Query(description="Only those made later", examples=[EXAMPLE_MOMENT])
    ] = None,
    created_before: Annotated[
        Moment | None, Query(description="Only those made earlier", examples=[EXAMPLE_MOMENT])
    ] = None,
    bbox: Annotated[
        str | None,
        Query(
            description="Only those within: degrees west,south,east,north; west may exceed east",
            examples=["-10,38.5,-9,39"],
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the contract's name
        FormatName | None, Query(description="As in `infos`", examples=["jpg"])
    ] = None,
) -> Filter:
    return Filter(tag, untagged, created_after, created_before, parse_box(bbox), format)


@router.get(
    "/images",
    operation_id="listImages",
    response_model=list[Image],
    response_description="The images, an empty list where none is like that",
    responses={
        200: document_headers(*PAGE_HEADERS),
        **problem_responses(*ALBUM_ERRORS),
    },
)
async def list_images(
    album_id: MayListImages,
    resources: ResourcesDep,
    wanted: Annotated[Filter, Depends(_parse_filter)],
    request: Request,
    *,
    limit: Limit = None,
    after: After = None,
) -> Response:
    """List the images of an album that all the given filters hold for, oldest first.

    Pages as those of the queue.
    """
    return await list_response(resources.images, album_id, wanted, request, limit, after)


class ImageChanges(BaseModel):
    """What to change of an image; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    rotation: Rotation = Field(default=0, description="Degrees clockwise; the crop is turned along")
    crop_x: Pixels = Field(default=0.0, description="Left edge in pixels of the rotated image")
    crop_y: Pixels = Field(default=0.0, description="Upper edge in pixels of the rotated image")
    crop_w: Pixels = Field(default=0.0, description="Width in pixels; all four 0: the whole image")
    crop_h: Pixels = Field(default=0.0, description="Height in pixels")
    gps_html: Position | None = Field(
        default=None, description="Position from the browser: latitude, longitude; null: unknown"
    )


@router.get(
    "/images/{public_id:uuid}",
    operation_id="getImage",
    response_model=Image,
    response_description="The image",
    responses={
        200: document_headers("ETag", "Link"),
        304: {"description": "It has not changed since", **document_headers("ETag")},
        **problem_responses(*ALBUM_ERRORS),
    },
)
async def get_image(
    album_id: MayListImages,
    public_id: PublicIdPath,
    resources: ResourcesDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read one image.

    Its `ETag` is the album's version at the image's last change; `Link` with `rel="enclosure"`
    leads to the original, where it is here.
    """
    image = await resources.images.get(album_id, public_id)
    if etag_matches(if_none_match, get_etag(image)):
        headers = {"ETag": get_etag(image), "Vary": "Accept-Encoding"}
        return Response(status_code=304, headers=headers)
    return image_response(album_id, image)


@router.patch(
    "/images/{public_id:uuid}",
    operation_id="updateImage",
    response_model=Image,
    response_description="The image as it is now",
    responses={
        200: document_headers("ETag", "Link"),
        **problem_responses(*ALBUM_ERRORS, *JSON_BODY_ERRORS, ImageChanged),
    },
)
async def update_image(
    editor: MayUpdateImages, public_id: PublicIdPath, changes: ImageChanges, if_match: IfMatch
) -> Response:
    """Rotate, crop, place. The original is never altered; the paths of its renditions change."""
    fields = changes.model_dump(exclude_unset=True)
    return image_response(editor.album_id, await editor.edit(public_id, fields, if_match))


@router.delete(
    "/images/{public_id:uuid}",
    operation_id="deleteImage",
    status_code=204,
    response_description="It is in the trash",
    responses=problem_responses(*ALBUM_ERRORS, ImageChanged),
)
async def delete_image(
    editor: MayDeleteImages, public_id: PublicIdPath, if_match: IfMatch
) -> Response:
    """Put the image into the trash; it can be restored for as long as trash is kept."""
    await editor.delete(public_id, if_match)
    return Response(status_code=204)


@router.post(
    "/images/{public_id:uuid}/restore",
    operation_id="restoreImage",
    response_model=Image,
    response_description="The image",
    responses={
        200: document_headers("ETag", "Link"),
        **problem_responses(*ALBUM_ERRORS, ImageChanged, Conflict),
    },
)
async def restore_image(
    editor: MayDeleteImages, public_id: PublicIdPath, if_match: IfMatch
) -> Response:
    """Take the image back out of the trash; may be repeated without harm."""
    return image_response(editor.album_id, await editor.restore(public_id, if_match))
