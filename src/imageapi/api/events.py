"""What happened to an album."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from imageapi.api.answers import json_array
from imageapi.api.dependencies import MayListImages, TheImages, TheRendering
from imageapi.api.pages import Limit, next_page
from imageapi.database.repository import Event
from imageapi.records.values import Moment

router = APIRouter(tags=["events"])


class AlbumEvent(BaseModel):
    """One change of an album: by whom, of which images, and what was before and after.

    `before` and `after` map an image's id to what changed of it; `null` where it was not there.
    """

    version: int
    at: Moment
    user_id: str | None
    kind: str = Field(
        description="`add`, `import`, `tag`, `update`, `delete`, `restore`, `purge` or `render`"
    )
    public_ids: list[UUID]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@router.get("/events", operation_id="listEvents", response_model=list[AlbumEvent])
async def list_events(
    album_id: MayListImages,
    images: TheImages,
    rendering: TheRendering,
    request: Request,
    *,
    after: Annotated[int, Query(ge=0, lt=2**63, description="A version of the album")] = 0,
    limit: Limit = None,
) -> Response:
    """List what happened to the album after a version, oldest first."""
    events = await images.events(album_id, after, None if limit is None else limit + 1)
    shown = events[:limit]
    headers = {}
    if limit is not None and len(events) > limit:
        headers = next_page(request, limit, shown[-1].version)
    return json_array([_text(event, rendering.moment(event.at)) for event in shown], headers)


def _text(event: Event, at: str) -> str:
    ids = ",".join(f'"{public_id}"' for public_id in event.public_ids)
    user_id = json.dumps(event.user_id, ensure_ascii=False)
    return (
        f'{{"version":{event.version},"at":"{at}","user_id":{user_id},"kind":"{event.kind}",'
        f'"public_ids":[{ids}],"before":{event.before},"after":{event.after}}}'
    )
