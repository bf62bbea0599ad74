"""The whole wiring of the service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from imageapi import __version__
from imageapi.albums.places import Places
from imageapi.albums.rendering import Rendering
from imageapi.albums.showing import Renditions
from imageapi.albums.studio import Limits, open_studio
from imageapi.api import albums, assets, document, events, images, operations, tags, untag, uploads
from imageapi.api.headers import DocumentedHeaders
from imageapi.api.heads import HeadAsGet
from imageapi.api.journal import Journal
from imageapi.api.lean import LeanQueue
from imageapi.api.limits import BodyLimit
from imageapi.api.problems import add_problem_handlers
from imageapi.auth.issuer import Issuer
from imageapi.auth.secret import the_secret
from imageapi.auth.tokens import Rules, Tokens
from imageapi.database.opening import open_database
from imageapi.database.queue import UntaggedLists
from imageapi.logs import configure_logs
from imageapi.serving import end_with_parent
from imageapi.settings import Settings, load_settings


class ImageAPI(FastAPI):
    """FastAPI with what must stand around even the answer to an unhandled error."""

    def __init__(self, *, is_traced: bool, **options: Any) -> None:
        super().__init__(telemetry=_telemetry(is_traced), **options)
        self.ordinary = super().__call__
        self._lean = self.ordinary if is_traced else LeanQueue(self.ordinary, self.state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, the queue's ordinary request before all that follows."""
        await self._lean(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the stack from outside; the first named is the outermost."""
        stack = super().build_middleware_stack()
        if self.state.trusted_proxies:
            # uvicorn describes ASGI by other types than Starlette.
            stack = cast("ASGIApp", ProxyHeadersMiddleware(stack, self.state.trusted_proxies))  # type: ignore[arg-type]
        return Journal(DocumentedHeaders(HeadAsGet(BodyLimit(CompressMiddleware(stack)))))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, in its published form."""
        if self.openapi_schema is None:
            self.openapi_schema = document.complete(super().openapi())
        return self.openapi_schema


def _telemetry(is_traced: bool) -> TelemetryConfig:
    """FastAPI's own OpenTelemetry: a span for each request, and nothing that quotes what was sent.

    Paths of pictures are as good as the pictures: none is told to anybody.
    """
    return {
        "auto_configure": is_traced,
        "tracing": is_traced,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: not scope["path"].startswith("/api/"),
    }


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            _open_tokens(settings) as app.state.tokens,
            open_database(settings.database_address, settings.data_dir) as database,
        ):
            app.state.database = database
            app.state.untagged = UntaggedLists(database)
            limits = Limits(settings.limit_bytes, settings.limit_pixels)
            studio = open_studio(database, settings.store_address, app.state.rendering, limits)
            async with studio as app.state.studio:
                app.state.renditions = Renditions(app.state.studio)
                with closing(Places(settings.geoip_database)) as app.state.places:
                    yield
                await app.state.renditions.close()
            await app.state.untagged.close()

    app = ImageAPI(
        is_traced=settings.opentelemetry,
        title="Image API",
        version=__version__,
        summary="The queue of photographs nobody has tagged yet",
        description=document.DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/", "description": "The service that this document comes from"}],
        openapi_tags=document.TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    # Tags before images: /images/tags is no image's address.
    for router in (untag.router, tags.router, uploads.router, images.router, events.router):
        app.include_router(router, prefix="/api/v1/albums/{album_id}")
    for router in (albums.router, assets.router, operations.router):
        app.include_router(router)
    operations.mount_docs_parts(app)
    add_problem_handlers(app)
    app.state.rendering = Rendering(settings.time_zone, settings.sizes)
    app.state.trusted_proxies = settings.trusted_proxies
    app.state.methods_of = _methods_of(app)
    return app


def from_environment() -> FastAPI:
    """The service as the environment sets it: what each of uvicorn's workers calls."""
    end_with_parent()
    configure_logs()
    return create_app(load_settings())


@asynccontextmanager
async def _open_tokens(settings: Settings) -> AsyncIterator[Tokens]:
    """What verifies tokens; within, the keys of their issuer are kept fresh."""
    url = settings.token_jwks_url
    issuer = None if url is None else Issuer(url)
    refreshing = None if issuer is None else asyncio.create_task(issuer.keep_fresh())
    secret = the_secret(settings.configured_secret, settings.secret_file)
    rules = Rules(settings.token_audience, settings.token_issuer, settings.token_leeway_seconds)
    try:
        yield Tokens(secret, *settings.accepted_secrets, issuer=issuer, rules=rules)
    finally:
        if refreshing is not None:
            refreshing.cancel()


def _methods_of(app: FastAPI) -> Callable[[str], list[str]]:
    """A function from a path to the methods that are known for it, for ``Allow``.

    Of several templates that match, the one with the fewest parameters is the path's own.
    """
    templates: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.methods is not None:
            templates.setdefault(route.path, set()).update(route.methods)
    known = [
        (compile_path(template)[0], methods)
        for template, methods in sorted(templates.items(), key=lambda each: each[0].count("{"))
    ]

    def methods_of(path: str) -> list[str]:
        matching = (methods for regex, methods in known if regex.match(path))
        methods = next(matching, {"GET"})  # else a mounted folder of files
        return sorted(methods | {"HEAD"}) if "GET" in methods else sorted(methods)

    return methods_of
