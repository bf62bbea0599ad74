"""The images of an album, whether tagged or not."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from imageapi.albums.errors import Conflict
from imageapi.api.answers import etag, json_image
from imageapi.api.conditions import IfMatch, IfNoneMatch, names
from imageapi.api.dependencies import (
    MayDeleteImages,
    MayListImages,
    MayUpdateImages,
    TheImages,
    ThePublicId,
)
from imageapi.api.errors import TooLarge, UnfitParameter
from imageapi.api.pages import After, Limit, listed
from imageapi.api.problems import problem_responses
from imageapi.database.errors import ImageChanged
from imageapi.database.repository import Box, Filter
from imageapi.records.image import Image
from imageapi.records.values import FormatName, Pixels, Position, Tag

router = APIRouter(tags=["images"])

_EDGES = Box(-180, -90, 180, 90)


def read_box(bbox: str | None) -> Box | None:
    """The box of ``west,south,east,north`` in degrees (RFC 7946 §5); raises UnfitParameter."""
    if bbox is None:
        return None
    try:
        box = Box(*(float(part) for part in bbox.split(",")))
    except (TypeError, ValueError) as error:
        raise UnfitParameter("/query/bbox", "is not west,south,east,north") from error
    fits = all(
        low <= value <= high
        for value, low, high in zip(
            box,
            (_EDGES.west, _EDGES.south) * 2,
            (_EDGES.east, _EDGES.north) * 2,
            strict=True,
        )
    )
    if not fits or box.south > box.north:
        raise UnfitParameter("/query/bbox", "is not -180 to 180 and -90 to 90, south before north")
    return box


async def _filter(
    *,
    tag: Annotated[list[Tag], Query(max_length=20, description="Repeatable: all of them")] = [],  # noqa: B006 - FastAPI copies it
    untagged: Annotated[bool | None, Query(description="Only those without, or with, tags")] = None,
    created_after: Annotated[AwareDatetime | None, Query()] = None,
    created_before: Annotated[AwareDatetime | None, Query()] = None,
    bbox: Annotated[
        str | None, Query(description="Degrees: west,south,east,north; west may exceed east")
    ] = None,
    format: Annotated[FormatName | None, Query()] = None,  # noqa: A002 - the contract's name
) -> Filter:
    return Filter(tag, untagged, created_after, created_before, read_box(bbox), format)


@router.get("/images", operation_id="listImages", response_model=list[Image])
async def list_images(
    album_id: MayListImages,
    images: TheImages,
    wanted: Annotated[Filter, Depends(_filter)],
    request: Request,
    *,
    limit: Limit = None,
    after: After = None,
) -> Response:
    """List the images of an album that all the given filters hold for, oldest first.

    Pages as those of the queue.
    """
    return await listed(images, album_id, wanted, request, limit, after)


class ImageChanges(BaseModel):
    """What to change of an image; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    rotation: Literal[0, 90, 180, 270] = Field(
        default=0, description="Degrees clockwise; the crop is turned along"
    )
    crop_x: Pixels = Field(default=0.0, description="Pixels of the rotated image")
    crop_y: Pixels = 0.0
    crop_w: Pixels = Field(default=0.0, description="All four 0: the whole image")
    crop_h: Pixels = 0.0
    gps_html: Position | None = Field(default=None, description="Position from the browser")


@router.get(
    "/images/{public_id}",
    operation_id="getImage",
    response_model=Image,
    responses={304: {"description": "Not modified"}},
)
async def get_image(
    album_id: MayListImages,
    public_id: ThePublicId,
    images: TheImages,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read one image.

    Its `ETag` is the album's version at the image's last change; `Link` with `rel="enclosure"`
    leads to the original, where it is here.
    """
    image = await images.get(album_id, public_id)
    if names(if_none_match, etag(image)):
        return Response(status_code=304, headers={"ETag": etag(image)})
    return json_image(album_id, image)


@router.patch(
    "/images/{public_id}",
    operation_id="updateImage",
    response_model=Image,
    responses=problem_responses(ImageChanged, TooLarge),
)
async def update_image(
    editor: MayUpdateImages, public_id: ThePublicId, changes: ImageChanges, if_match: IfMatch
) -> Response:
    """Rotate, crop, place. The original is never altered; the paths of its renditions change."""
    given = changes.model_dump(exclude_unset=True)
    return json_image(editor.album_id, await editor.edit(public_id, given, if_match))


@router.delete(
    "/images/{public_id}",
    operation_id="deleteImage",
    status_code=204,
    responses=problem_responses(ImageChanged),
)
async def delete_image(
    editor: MayDeleteImages, public_id: ThePublicId, if_match: IfMatch
) -> Response:
    """Put the image into the trash; it can be restored for as long as trash is kept."""
    await editor.delete(public_id, if_match)
    return Response(status_code=204)


@router.post(
    "/images/{public_id}/restore",
    operation_id="restoreImage",
    response_model=Image,
    responses=problem_responses(ImageChanged, Conflict),
)
async def restore_image(
    editor: MayDeleteImages, public_id: ThePublicId, if_match: IfMatch
) -> Response:
    """Take the image back out of the trash; may be repeated without harm."""
    return json_image(editor.album_id, await editor.restore(public_id, if_match))
