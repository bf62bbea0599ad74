"""What a route can depend on: each is a type with a name, for the route's signature."""

import re
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import State

from imageapi.albums.editor import Editor
from imageapi.albums.uploader import Uploader
from imageapi.auth.authorization import find_token
from imageapi.auth.claims import ABILITIES
from imageapi.auth.errors import TokenMissing
from imageapi.auth.tokens import Tokens, VerifiedToken
from imageapi.http.errors import NothingHere
from imageapi.records.ids import ALBUM_ID
from imageapi.resources import Resources

#: The path of an album, under which most routes are.
ALBUM_PATH = "/api/v1/albums/{album_id}"
#: The start of a path that ends with a tag, which is free text: slashes may be in it.
BEFORE_FREE_TEXT = re.compile(rb"/api/v1/albums/[^/]+/(?:images/[^/]+/)?tags/")


class _TextConvertor(PathConvertor):
    """The rest of a path, as `PathConvertor` has it, but with line ends.

    Without them a tag that ends with a line end would be taken for the tag without it.
    """

    regex = "(?s:.*)"


#: For a tag in a path: ``{tag:text}``. Routes are compiled when their modules are imported.
register_url_convertor("text", _TextConvertor())

AlbumIdPath = Annotated[
    str,
    Path(description="The album's id", json_schema_extra={"pattern": f"^{ALBUM_ID.pattern}$"}),
]


def get_resources(state: State) -> Resources:
    """Return the resources of the application that has this state, once its lifespan began."""
    resources: Resources = state.resources
    return resources


async def _get_resources(request: Request) -> Resources:
    return get_resources(request.app.state)


class TokenVerifier(SecurityBase):
    """A dependency that yields the verified token of the request, with its abilities.

    Raises TokenRefused, IssuerUnavailable, RateExceeded. In the OpenAPI document it marks the
    operations that need a token; `openapi.SECURITY` describes how clients send one.
    """

    model = HTTPBearerModel()
    scheme_name = "Bearer"

    async def __call__(self, request: Request) -> VerifiedToken:
        """Return the request's token."""
        return await self.verify_request(request)

    async def verify_request(self, request: Request) -> VerifiedToken:
        """Verify the request's token and count the request against the user's rate.

        Both happen once in a request: a second call returns the same token. Its text goes to
        ``request.state.verified_token``, from where it gets into the header ``X-token``.
        """
        verified: VerifiedToken | None = getattr(request.state, "token", None)
        if verified is not None:
            return verified
        resources = get_resources(request.app.state)
        token = await _verify_header(resources.tokens, request)
        request.state.verified_token = token.text
        request.state.user_id = token.user_id
        if resources.user_rate_limiter is not None:
            await resources.user_rate_limiter.count_request(token.rate_name)
        request.state.token = token
        return token


async def _verify_header(tokens: Tokens, request: Request) -> VerifiedToken:
    headers = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(headers) > 1:
        raise TokenMissing("The request bears more than one Authorization header.")
    return await tokens.verify_header(headers[0]) if headers else tokens.verify(find_token(None))


class May(TokenVerifier):
    """A dependency that refuses a request unless its token grants the ability on its album.

    It yields the album's id. Raises TokenRefused, NothingHere, AbilityMissing, and what a
    TokenVerifier raises. A test walks all routes and fails on any that has none of these and is
    not on the list of public routes. It verifies the token itself instead of depending on
    TokenDep, because each dependency of a dependency costs a request about 50 µs.
    """

    def __init__(self, ability: str) -> None:
        assert ability in ABILITIES
        self.ability = ability

    async def __call__(  # type: ignore[override]  # it has another parameter and another result
        self, request: Request, album_id: AlbumIdPath
    ) -> str:
        """Return the album's id."""
        await self.require_ability(request, album_id)
        return album_id

    async def require_ability(self, request: Request, album_id: str) -> VerifiedToken:
        """Return the request's token if it grants the ability on the album, else raise.

        Raises TokenRefused, NothingHere, AbilityMissing.
        """
        token = await self.verify_request(request)
        if ALBUM_ID.fullmatch(album_id) is None:
            raise NothingHere("There is no such album.")
        token.require(self.ability, album_id)
        request.state.album_id = album_id  # for the log, which names only albums of the token
        return token


class MayChange(May):
    """Like `May`, for routes that change images: yields an editor of the album for this user."""

    async def __call__(self, request: Request, album_id: AlbumIdPath) -> Editor:  # type: ignore[override]
        """Return the editor, which records the token's user with each change."""
        token = await self.require_ability(request, album_id)
        resources = get_resources(request.app.state)
        return Editor(resources.database, resources.serializer, album_id, token.user_id)


class MayAdd(May):
    """Like `May`, for routes that add pictures: yields an uploader into the album."""

    async def __call__(self, request: Request, album_id: AlbumIdPath) -> Uploader:  # type: ignore[override]
        """Return the uploader, which records the token's user with each picture."""
        token = await self.require_ability(request, album_id)
        return Uploader(get_resources(request.app.state).backend, album_id, token.user_id)


MayListImages = Annotated[str, Depends(May("image_list"))]
MayAddImages = Annotated[Uploader, Depends(MayAdd("image_create"))]
MayTagImages = Annotated[Editor, Depends(MayChange("image_tag"))]
MayUpdateImages = Annotated[Editor, Depends(MayChange("image_update"))]
MayDeleteImages = Annotated[Editor, Depends(MayChange("image_delete"))]
TokenDep = Annotated[VerifiedToken, Depends(TokenVerifier())]
ResourcesDep = Annotated[Resources, Depends(_get_resources)]
#: The image's id in a path, as ``{public_id:uuid}``: any other text is a 404.
PublicIdPath = Annotated[UUID, Path(description="The image's id")]
