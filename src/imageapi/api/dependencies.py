"""What a route may ask for, each a type with a name."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Request, Response
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase

from imageapi.albums.editor import Editor
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.albums.renditions import Renditions
from imageapi.albums.uploader import Uploader
from imageapi.auth.authorization import find_token
from imageapi.auth.claims import ABILITIES
from imageapi.auth.errors import TokenMissing
from imageapi.auth.tokens import Tokens, VerifiedToken
from imageapi.database.engine import Database
from imageapi.database.events import AlbumEvents
from imageapi.database.images import Images
from imageapi.database.rate_limits import RateLimiter
from imageapi.http.errors import NothingHere
from imageapi.records.ids import ALBUM_ID
from imageapi.storage.store import Store

AlbumIdPath = Annotated[
    str,
    Path(description="The album's id", json_schema_extra={"pattern": f"^{ALBUM_ID.pattern}$"}),
]


class TokenVerifier(SecurityBase):
    """A dependency that yields the request's token, verified, with its abilities map.

    In the OpenAPI document it marks who needs a token; `document.SECURITY` says how it is sent.
    Raises TokenRefused, IssuerUnavailable, RateExceeded.
    """

    model = HTTPBearerModel()
    scheme_name = "Bearer"

    async def __call__(self, request: Request) -> VerifiedToken:
        """The token that the request bears."""
        return await self.verify_request(request)

    async def verify_request(self, request: Request) -> VerifiedToken:
        """The token, whose text the answer's headers then bear; counted once for each request."""
        known: VerifiedToken | None = getattr(request.state, "token", None)
        if known is not None:
            return known
        headers = [value for name, value in request.scope["headers"] if name == b"authorization"]
        if len(headers) > 1:
            raise TokenMissing("The request bears more than one Authorization header.")
        tokens: Tokens = request.app.state.tokens
        token = (
            await tokens.verify_header(headers[0]) if headers else tokens.verify(find_token(None))
        )
        request.state.verified_token = token.text
        request.state.user_id = token.user_id
        rates: RateLimiter | None = request.app.state.user_rate_limiter
        if rates is not None:
            await rates.count_request(token.user_id or token.text)
        request.state.token = token
        return token


class May(TokenVerifier):
    """A dependency that lets a request pass if its token grants the ability on its album.

    What it yields is the album's id. A test walks all routes and fails on any without one. It
    verifies the token itself: each dependency of a dependency costs a request some 50 µs.
    """

    def __init__(self, ability: str) -> None:
        assert ability in ABILITIES
        self.ability = ability

    async def __call__(  # type: ignore[override]  # it asks for more, and yields what that is
        self, request: Request, album_id: AlbumIdPath
    ) -> str:
        """The album's id; raises TokenRefused, NothingHere, AbilityMissing."""
        await self.require_ability(request, album_id)
        return album_id

    async def require_ability(self, request: Request, album_id: str) -> VerifiedToken:
        """The request's token, which grants the ability on the album."""
        token = await self.verify_request(request)
        if ALBUM_ID.fullmatch(album_id) is None:
            raise NothingHere("There is no such album.")
        token.require(self.ability, album_id)
        request.state.album_id = album_id  # for the log, now that it is one of the token's
        return token


class MayChange(May):
    """As `May`, for a change; what it yields is an editor of the album, in the token's name."""

    async def __call__(self, request: Request, album_id: AlbumIdPath) -> Editor:  # type: ignore[override]
        """An editor of the album; raises TokenRefused, NothingHere, AbilityMissing."""
        token = await self.require_ability(request, album_id)
        state = request.app.state
        return Editor(state.database, state.serializer, album_id, token.user_id)


class MayAdd(May):
    """As `May`, for adding pictures; what it yields adds them, in the token's name."""

    async def __call__(self, request: Request, album_id: AlbumIdPath) -> Uploader:  # type: ignore[override]
        """An uploader into the album; raises TokenRefused, NothingHere, AbilityMissing."""
        token = await self.require_ability(request, album_id)
        return Uploader(request.app.state.backend, album_id, token.user_id)


class AuthorizeBeforeBody(APIRoute):
    """A route that asks who comes before it reads what they bring.

    FastAPI reads a body before it asks dependencies: anybody could have half a megabyte kept for
    as long as they take to send them, and would hear of a comma in it before being told to go.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request, behind the guards that the route depends on."""
        answer = super().get_route_handler()
        calls = [each.call for each in self.dependant.dependencies]
        guards = [call for call in calls if isinstance(call, May)]

        async def guarded(request: Request) -> Response:
            for guard in guards:
                await guard.require_ability(request, request.path_params["album_id"])
            return await answer(request)

        return guarded if self.body_field is not None else answer


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _images(request: Request) -> Images:
    return Images(request.app.state.database)


async def _events(request: Request) -> AlbumEvents:
    return AlbumEvents(request.app.state.database)


async def _serializer(request: Request) -> RecordSerializer:
    serializer: RecordSerializer = request.app.state.serializer
    return serializer


async def _store(request: Request) -> Store:
    store: Store = request.app.state.backend.store
    return store


async def _renditions(request: Request) -> Renditions:
    renditions: Renditions = request.app.state.renditions
    return renditions


MayListImages = Annotated[str, Depends(May("image_list"))]
MayAddImages = Annotated[Uploader, Depends(MayAdd("image_create"))]
MayTagImages = Annotated[Editor, Depends(MayChange("image_tag"))]
MayUpdateImages = Annotated[Editor, Depends(MayChange("image_update"))]
MayDeleteImages = Annotated[Editor, Depends(MayChange("image_delete"))]
TokenDep = Annotated[VerifiedToken, Depends(TokenVerifier())]
DatabaseDep = Annotated[Database, Depends(_database)]
#: Of paths with ``{public_id:uuid}``: what is no UUID leads nowhere.
PublicIdPath = Annotated[UUID, Path(description="The image's id")]
ImagesDep = Annotated[Images, Depends(_images)]
EventsDep = Annotated[AlbumEvents, Depends(_events)]
SerializerDep = Annotated[RecordSerializer, Depends(_serializer)]
RenditionsDep = Annotated[Renditions, Depends(_renditions)]
StoreDep = Annotated[Store, Depends(_store)]
