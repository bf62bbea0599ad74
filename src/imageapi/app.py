"""The whole wiring of the service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from typing import Any, Never, cast

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from imageapi import __version__
from imageapi.albums.backend import PictureLimits, open_backend
from imageapi.albums.geoip import GeoipDatabase
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.albums.renditions import Renditions
from imageapi.api import albums, assets, events, images, openapi, operations, tags, untag, uploads
from imageapi.api.untagged_fast_path import UntaggedFastPath
from imageapi.auth.issuer import Issuer
from imageapi.auth.secret_file import load_secret
from imageapi.auth.tokens import Rules, Tokens
from imageapi.database.engine import Database
from imageapi.database.opening import open_database
from imageapi.database.rate_limits import Rate, RateLimiter, sweep_forever
from imageapi.database.untagged_cache import UntaggedCache
from imageapi.deadlines import Deadlines
from imageapi.http.admission import Admission, ConcurrencyLimiter, normalize_client
from imageapi.http.body_limits import BodyLimit
from imageapi.http.cors import Cors
from imageapi.http.head_requests import HeadRequests
from imageapi.http.problem_handlers import add_problem_handlers
from imageapi.http.request_log import RequestLog
from imageapi.http.response_headers import DocumentedHeaders
from imageapi.logging import configure_logs, locate_error
from imageapi.metrics import REQUESTS_UNDER_WAY
from imageapi.server import end_with_parent
from imageapi.settings import RateSetting, Settings, load_settings

#: How long work between requests rests after it broke.
_REST_SECONDS = 10

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class ImageAPI(FastAPI):
    """FastAPI with what must stand around even the answer to an unhandled error."""

    def __init__(self, settings: Settings, body_seconds: float, **options: Any) -> None:
        is_traced = settings.opentelemetry
        super().__init__(telemetry=_build_telemetry_config(is_traced), **options)
        self.full_stack = super().__call__
        self._fast_path: ASGIApp = self.full_stack
        if not (is_traced or settings.rate_limit or settings.address_rate_limit):
            self._fast_path = UntaggedFastPath(self.full_stack, self.state, settings.trusted_hosts)
        self._settings = settings
        self._body_seconds = body_seconds
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, the queue's ordinary request before all that follows."""
        if scope["type"] != "http":
            await self.full_stack(scope, receive, send)
            return
        scope["client"] = normalize_client(scope.get("client"))
        self._under_way += 1
        # Kept with the request: others come while it waits, and are judged for themselves.
        is_overloaded = self._under_way > self._settings.max_requests
        scope.setdefault("state", {})["is_overloaded"] = is_overloaded
        answer = self.full_stack if is_overloaded else self._fast_path
        with REQUESTS_UNDER_WAY.track_inprogress():
            try:
                await answer(scope, receive, send)
            finally:
                self._under_way -= 1

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the stack from outside; the first named is the outermost."""
        settings = self._settings
        stack: ASGIApp = Admission(
            super().build_middleware_stack(), self.state, settings.trusted_hosts
        )
        if settings.trusted_proxies:
            # uvicorn describes ASGI by other types than Starlette.
            stack = cast("ASGIApp", ProxyHeadersMiddleware(stack, list(settings.trusted_proxies)))  # type: ignore[arg-type]
        if settings.cors_origins:
            stack = Cors(stack, settings.cors_origins)
        limited = BodyLimit(CompressMiddleware(stack), self._body_seconds)
        return RequestLog(DocumentedHeaders(HeadRequests(limited)))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, in its published form."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete_document(super().openapi())
        return self.openapi_schema


def _build_telemetry_config(is_traced: bool) -> TelemetryConfig:
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


def create_app(settings: Settings, deadlines: Deadlines | None = None) -> FastAPI:
    """The service as an ASGI application; nothing is opened before its lifespan begins.

    ``deadlines`` are by default those of the service: only tests pass others.
    """
    deadlines = deadlines or Deadlines()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_database(
                settings.database_address,
                settings.data_dir,
                has_deadlines=True,
                is_pooled=settings.database_pooler,
                deadlines=deadlines.database,
            ) as database,
            AsyncExitStack() as opened,
        ):
            app.state.tokens = opened.enter_context(_open_tokens(settings))
            app.state.database = database
            app.state.untagged = UntaggedCache(database)
            app.state.user_rate_limiter = _build_rate_limiter(database, "user", settings.rate_limit)
            app.state.address_rate_limiter = _build_rate_limiter(
                database, "address", settings.address_rate_limit
            )
            limits = PictureLimits(settings.limit_bytes, settings.limit_pixels)
            app.state.backend = await opened.enter_async_context(
                open_backend(
                    database,
                    settings.store_address,
                    app.state.serializer,
                    limits,
                    deadlines.store,
                )
            )
            app.state.places = opened.enter_context(closing(GeoipDatabase(settings.geoip_database)))
            opened.enter_context(_run_in_background(partial(sweep_forever, database)))
            app.state.renditions = Renditions(app.state.backend, deadlines.rendition_seconds)
            yield
            await app.state.renditions.close()
            await app.state.untagged.close()

    app = ImageAPI(
        settings,
        deadlines.body_seconds,
        title="Image API",
        version=__version__,
        summary="The queue of photographs nobody has tagged yet",
        description=openapi.DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/", "description": "The service that this document comes from"}],
        openapi_tags=openapi.TAGS,
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
    app.state.serializer = RecordSerializer(settings.time_zone, settings.sizes)
    app.state.upload_limiter = ConcurrencyLimiter(settings.max_uploads, "uploads")
    app.state.methods_of = _build_method_lookup(app)
    return app


def from_environment(deadlines: Deadlines | None = None) -> FastAPI:
    """The service as the environment sets it: what each of uvicorn's workers calls."""
    end_with_parent()
    configure_logs()
    return create_app(load_settings(), deadlines)


def _build_rate_limiter(
    database: Database, kind: str, rate: RateSetting | None
) -> RateLimiter | None:
    return None if rate is None else RateLimiter(database, kind, Rate(*rate))


@contextmanager
def _open_tokens(settings: Settings) -> Iterator[Tokens]:
    """What verifies tokens; within, the keys of their issuer are kept fresh."""
    secret = load_secret(settings.configured_secret, settings.secret_file)
    secrets = (secret, *settings.accepted_secrets)
    rules = Rules(settings.token_audience, settings.token_issuer, settings.token_leeway_seconds)
    if settings.token_jwks_url is None:
        yield Tokens(*secrets, rules=rules)
        return
    issuer = Issuer(settings.token_jwks_url)
    with _run_in_background(issuer.keep_fresh):
        yield Tokens(*secrets, issuer=issuer, rules=rules)


@contextmanager
def _run_in_background(work: Callable[[], Coroutine[Any, Any, Never]]) -> Iterator[None]:
    """Let the work be done while the block lasts; what breaks it is written down, no more."""

    async def go_on() -> Never:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it
                _log_error(error)
            await asyncio.sleep(_REST_SECONDS)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()


def _log_error(error: Exception) -> None:
    with suppress(Exception):  # the log's disk may be full
        log.error("work between requests broke", error=type(error).__name__, at=locate_error(error))


def _build_method_lookup(app: FastAPI) -> Callable[[str], list[str]]:
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
