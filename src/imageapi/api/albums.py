"""Routes about the token: the albums that it may list, and its abilities."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from imageapi.api.dependencies import ResourcesDep, TokenDep
from imageapi.api.guarded_route import GuardedRoute
from imageapi.api.openapi import TOKEN_ERRORS, problem_responses
from imageapi.api.responses import json_text_response
from imageapi.http.errors import InvalidParameter
from imageapi.records.fields import Count, Moment
from imageapi.records.ids import ALBUM_ID

router = APIRouter(prefix="/api/v1", tags=["albums"], route_class=GuardedRoute)


class AlbumCounts(BaseModel):
    """An album, how many images it has, and how many of them nobody has tagged yet."""

    album_id: str = Field(description="Its id")
    images: Count = Field(description="How many there are")
    untagged: Count = Field(description="How many of them nobody has tagged yet")


class Access(BaseModel):
    """What is granted on an album."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    granted: Mapping[str, bool] = Field(alias="Access", description="Ability to true")


class TokenAbilities(BaseModel):
    """What a token may do in which album, in the token's own form, and until when."""

    user_id: str | None = Field(description="Whom it is for, as the token says")
    expires_at: Moment = Field(description="Until when it is good")
    abilities: Mapping[str, Access] = Field(description="What is granted, by the album's id")


_COUNTS = TypeAdapter(list[AlbumCounts])


@router.get(
    "/albums",
    operation_id="listAlbums",
    response_model=list[AlbumCounts],
    response_description="The albums, an empty list where the token may list none",
    responses=problem_responses(*TOKEN_ERRORS, InvalidParameter),
)
async def list_albums(token: TokenDep, resources: ResourcesDep) -> Response:
    """List the albums that the token may list, by their ids."""
    counts = []
    for album_id in sorted(token.albums_with("image_list")):
        if ALBUM_ID.fullmatch(album_id):
            total, untagged = await resources.images.count_all_and_untagged(album_id)
            counts.append(AlbumCounts(album_id=album_id, images=total, untagged=untagged))
    return json_text_response(_COUNTS.dump_json(counts).decode())


@router.get(
    "/token",
    operation_id="getToken",
    response_model=TokenAbilities,
    response_description="What the token may do",
    responses=problem_responses(*TOKEN_ERRORS, InvalidParameter),
)
async def get_token(token: TokenDep, resources: ResourcesDep) -> Response:
    """Say what the token that was sent may do, and until when."""
    expires_at = datetime.fromtimestamp(token.expires_at, UTC)
    abilities = {
        "user_id": token.user_id,
        "expires_at": resources.serializer.format_moment(expires_at),
        "abilities": {
            album_id: {"Access": dict.fromkeys(sorted(granted), True)}
            for album_id, granted in token.abilities.items()
        },
    }
    return json_text_response(json.dumps(abilities, separators=(",", ":")))
