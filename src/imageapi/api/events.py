"""The route for the changes of an album."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.api.dependencies import MayListImages, ResourcesDep
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import ALBUM_ERRORS, problem_responses
from imageapi.api.pagination import Limit, next_page_header
from imageapi.api.parameters import WrittenAsInJson
from imageapi.api.responses import json_chunks_response
from imageapi.database.events import MAX_VERSION, Event
from imageapi.records.fields import Moment, Pixels, Position, Rotation, Version

router = APIRouter(tags=["events"], route_class=GuardedRoute)


class ImageState(BaseModel):
    """What changed of an image: only that is there."""

    tags: list[str] = Field(default=[], description="The tags that people gave")
    rotation: Rotation = Field(default=0, description="Degrees clockwise")
    crop_x: Pixels = Field(default=0.0, description="Left edge of the kept part in pixels")
    crop_y: Pixels = Field(default=0.0, description="Its upper edge")
    crop_w: Pixels = Field(default=0.0, description="Its width")
    crop_h: Pixels = Field(default=0.0, description="Its height")
    gps_html: Position | None = Field(default=None, description="Position from the browser")
    deleted: bool = Field(default=False, description="Whether it is in the trash")


class AlbumEvent(BaseModel):
    """One change of an album."""

    version: Version = Field(description="The album's, after the change: the event's id")
    at: Moment = Field(description="When it was made")
    user_id: str | None = Field(description="Who made it, as the token said; null: the operator")
    kind: str = Field(
        description="`add`, `import`, `tag`, `update`, `delete`, `restore`, `purge` or `render`"
    )
    public_ids: list[UUID] = Field(description="The images that changed")
    before: Mapping[str, ImageState | None] = Field(
        description="What was, by the image's id; null: the image was not there"
    )
    after: Mapping[str, ImageState | None] = Field(
        description="What is since then, by the image's id; null: the image is no longer there"
    )


@router.get(
    "/events",
    operation_id="listEvents",
    response_model=list[AlbumEvent],
    response_description="The events, an empty list where nothing has happened since",
    responses={200: document_headers("Link"), **problem_responses(*ALBUM_ERRORS)},
)
async def list_events(
    album_id: MayListImages,
    resources: ResourcesDep,
    request: Request,
    *,
    after: Annotated[
        int,
        Query(
            ge=0,
            lt=2**63,
            description="A version of the album: what happened since; 0, or none: all",
            json_schema_extra={"format": "int64"},
        ),
        WrittenAsInJson,
    ] = 0,
    limit: Limit = None,
) -> Response:
    """List what happened to the album after a version, oldest first."""
    last, headers = MAX_VERSION, {}
    if limit is not None:
        versions = await resources.events.list_versions(album_id, after, limit + 1)
        last = versions[:limit][-1] if versions else after
        if len(versions) > limit:
            headers = next_page_header(request, limit, last)
    chunks = resources.events.iterate_chunks(album_id, after, last)
    texts = _serialize_chunks(chunks, resources.serializer)
    return await json_chunks_response(texts, headers)


async def _serialize_chunks(
    chunks: AsyncGenerator[list[Event], None], serializer: RecordSerializer
) -> AsyncGenerator[list[str], None]:
    async with aclosing(chunks):
        async for events in chunks:
            yield [_serialize_event(event, serializer.format_moment(event.at)) for event in events]


def _serialize_event(event: Event, at: str) -> str:
    ids = ",".join(f'"{public_id}"' for public_id in event.public_ids)
    user_id = json.dumps(event.user_id, ensure_ascii=False)
    return (
        f'{{"version":{event.version},"at":"{at}","user_id":{user_id},"kind":"{event.kind}",'
        f'"public_ids":[{ids}],"before":{event.before},"after":{event.after}}}'
    )
