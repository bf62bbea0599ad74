"""The tags of an album."""

import json

from fastapi import APIRouter, Response
from pydantic import BaseModel

from imageapi.api.answers import json_text
from imageapi.api.dependencies import MayListImages, TheImages

router = APIRouter(tags=["tags"])


class TagCount(BaseModel):
    """A tag, and how many images bear it."""

    tag: str
    images: int


@router.get("/tags", operation_id="listTags", response_model=list[TagCount])
async def list_tags(album_id: MayListImages, images: TheImages) -> Response:
    """List the album's tags, most used first."""
    counted = [{"tag": tag, "images": count} for tag, count in await images.tags(album_id)]
    return json_text(json.dumps(counted, ensure_ascii=False, separators=(",", ":")))
