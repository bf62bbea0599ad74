"""Routes for tags: count them, add them to images, remove them."""

import json
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from imageapi.api.dependencies import (
    MayListImages,
    MayTagImages,
    PublicIdPath,
    ResourcesDep,
)
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.header_docs import document_headers
from imageapi.api.openapi import ALBUM_ERRORS, JSON_BODY_ERRORS, problem_responses
from imageapi.api.responses import image_response, json_text_response
from imageapi.database.errors import ImageChanged
from imageapi.http.preconditions import IfMatch
from imageapi.records.fields import MAX_TAGS, Count, GivenTag, Version, invalid_value
from imageapi.records.image import Image

router = APIRouter(tags=["tags"], route_class=GuardedRoute)

MAX_IMAGES_PER_CHANGE = 1000

TagPath = Annotated[
    GivenTag,
    Path(description="A tag, 1 to 100 characters; trimmed, and brought to Unicode's form NFC"),
]

_ONE_TAG_RESPONSES = {
    200: document_headers("ETag", "Link"),
    **problem_responses(*ALBUM_ERRORS, ImageChanged),
}


class TagCount(BaseModel):
    """A tag, and how many images bear it."""

    tag: str = Field(description="The tag")
    images: Count = Field(description="How many images bear it")


class TagChanges(BaseModel):
    """Images, and the tags to give them and to take away from them."""

    model_config = ConfigDict(extra="forbid")

    public_ids: list[UUID] = Field(
        min_length=1,
        max_length=MAX_IMAGES_PER_CHANGE,
        description="The images; repeated ones count once",
    )
    add: list[GivenTag] = Field(
        default=[], max_length=MAX_TAGS, description="Tags to give them, behind those they have"
    )
    remove: list[GivenTag] = Field(
        default=[], max_length=MAX_TAGS, description="Tags to take away; none of those to add"
    )

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if not set(self.add).isdisjoint(self.remove):
            raise invalid_value("must not add and remove the same tag")
        return self


class TagsChanged(BaseModel):
    """The album's version afterwards, and how many images changed."""

    version: Version = Field(description="The album's, after the change")
    images: Count = Field(description="How many images changed")


@router.get(
    "/tags",
    operation_id="listTags",
    response_model=list[TagCount],
    response_description="The tags, an empty list where there are none",
    responses=problem_responses(*ALBUM_ERRORS),
)
async def list_tags(album_id: MayListImages, resources: ResourcesDep) -> Response:
    """List the album's tags, most used first."""
    tags = await resources.images.list_tags(album_id)
    counts = [{"tag": tag, "images": count} for tag, count in tags]
    return json_text_response(json.dumps(counts, ensure_ascii=False, separators=(",", ":")))


@router.put(
    "/images/{public_id:uuid}/tags/{tag:text}",
    operation_id="tagImage",
    response_model=Image,
    response_description="The image as it is now",
    responses=_ONE_TAG_RESPONSES,
)
async def tag_image(
    editor: MayTagImages, public_id: PublicIdPath, tag: TagPath, if_match: IfMatch
) -> Response:
    """Give the image a tag, behind those it has; may be repeated without harm."""
    return image_response(editor.album_id, await editor.tag(public_id, tag, if_match))


@router.delete(
    "/images/{public_id:uuid}/tags/{tag:text}",
    operation_id="untagImage",
    response_model=Image,
    response_description="The image as it is now",
    responses=_ONE_TAG_RESPONSES,
)
async def untag_image(
    editor: MayTagImages, public_id: PublicIdPath, tag: TagPath, if_match: IfMatch
) -> Response:
    """Take a tag away; may be repeated without harm. Without any it is in the queue again."""
    return image_response(editor.album_id, await editor.untag(public_id, tag, if_match))


@router.post(
    "/images/tags",
    operation_id="tagImages",
    response_model=TagsChanged,
    response_description="How many images changed, and the album's version",
    responses=problem_responses(*ALBUM_ERRORS, *JSON_BODY_ERRORS),
)
async def tag_images(editor: MayTagImages, changes: TagChanges) -> Response:
    """Tag many images at once: all of them, or none if one is not there."""
    result = await editor.tag_many(changes.public_ids, changes.add, changes.remove)
    changed = TagsChanged(version=result.version, images=result.images)
    return json_text_response(changed.model_dump_json())
