"""The queue: the images of an album that nobody has tagged yet."""

from fastapi import APIRouter, Request, Response

from imageapi.api.dependencies import MayListImages, TheImages
from imageapi.api.document import with_headers
from imageapi.api.errors import UnfitParameter
from imageapi.api.pages import PAGE_HEADERS, After, Limit, listed
from imageapi.api.problems import OF_ALBUM, problem_responses
from imageapi.database.repository import UNTAGGED_ONLY
from imageapi.records.image import Image

router = APIRouter(tags=["queue"])


@router.get(
    "/images/untag",
    operation_id="listUntaggedImages",
    response_model=list[Image],
    response_description="The images, an empty list where none is left",
    responses={200: with_headers(*PAGE_HEADERS), **problem_responses(*OF_ALBUM, UnfitParameter)},
)
async def list_untagged_images(
    album_id: MayListImages,
    images: TheImages,
    request: Request,
    limit: Limit = None,
    after: After = None,
) -> Response:
    """List the images of an album that nobody has tagged yet, oldest first.

    Without `limit` and `after` the whole list comes, however long it is; with either,
    `X-Total-Count` says how many there are in all, and `Link` leads to the next page.
    """
    return await listed(images, album_id, UNTAGGED_ONLY, request, limit, after)
