"""The route for the queue: the images of an album that nobody has tagged yet.

`untagged_fast_path` answers most of its requests before they get here.
"""

from fastapi import APIRouter, Request, Response

from imageapi.api.dependencies import MayListImages, ResourcesDep
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import ALBUM_ERRORS, problem_responses
from imageapi.api.pagination import PAGE_HEADERS, After, Limit, list_response
from imageapi.api.responses import json_text_response
from imageapi.database.images import UNTAGGED_ONLY
from imageapi.records.image import Image

#: No GuardedRoute: clients of the documented exchange may send any parameter, for example a number
#: that defeats caches.
router = APIRouter(tags=["queue"])


@router.get(
    "/images/untag",
    operation_id="listUntaggedImages",
    response_model=list[Image],
    response_description="The images, an empty list where none is left",
    responses={
        200: document_headers(*PAGE_HEADERS),
        **problem_responses(*ALBUM_ERRORS),
    },
)
async def list_untagged_images(
    album_id: MayListImages,
    resources: ResourcesDep,
    request: Request,
    limit: Limit = None,
    after: After = None,
) -> Response:
    """List the images of an album that nobody has tagged yet, oldest first.

    Without `limit` and `after` the whole list comes, however long it is; with either,
    `X-Total-Count` says how many there are in all, and `Link` leads to the next page.
    """
    if limit is None and after is None:
        cached = await resources.untagged_cache.find_list(album_id)
        if cached is not None:
            return json_text_response(cached.text)
    return await list_response(resources.images, album_id, UNTAGGED_ONLY, request, limit, after)
