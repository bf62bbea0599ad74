"""The images of an album, whether tagged or not."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AwareDatetime

from imageapi.api.answers import json_text
from imageapi.api.dependencies import MayListImages, TheImages, ThePublicId
from imageapi.api.errors import UnfitParameter
from imageapi.api.pages import After, Limit, listed
from imageapi.database.repository import Box, Filter
from imageapi.records.image import Image
from imageapi.records.values import FormatName, Tag

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
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Read one image. Its `ETag` is the album's version at the image's last change."""
    image = await images.get(album_id, public_id)
    etag = f'"{image.version}"'
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return json_text(image.record, {"ETag": etag})


def _names(condition: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag, compared weakly (RFC 9110 §13.1.2)."""
    named = {each.strip().removeprefix("W/") for each in condition.split(",")}
    return "*" in named or etag in named
