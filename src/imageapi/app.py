"""The service as an ASGI application: its routes, its middleware, and when resources are open."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from imageapi import __version__
from imageapi.api import albums, assets, events, images, openapi, operations, tags, untag, uploads
from imageapi.api.dependencies import ALBUM_PATH, BEFORE_FREE_TEXT, get_resources
from imageapi.api.untagged_fast_path import UntaggedFastPath
from imageapi.database.rate_limits import RateLimiter
from imageapi.deadlines import Deadlines
from imageapi.http.addresses import Addresses
from imageapi.http.admission import Admission
from imageapi.http.body_limits import BodyLimit
from imageapi.http.client_address import ForwardedClient, normalize_client
from imageapi.http.cors import Cors
from imageapi.http.head_requests import HeadRequests
from imageapi.http.list_headers import ListHeaders
from imageapi.http.problem_handlers import add_problem_handlers
from imageapi.http.request_log import RequestLog
from imageapi.http.response_headers import DocumentedHeaders
from imageapi.logging import configure_logs
from imageapi.metrics import REQUESTS_UNDER_WAY
from imageapi.resources import hide_settings_in_logs, open_resources
from imageapi.server import end_with_parent, exempt_from_garbage_collection
from imageapi.settings import Settings, load_settings


class ImageAPI(FastAPI):
    """FastAPI with middleware outside its own, which sees the response to every error.

    Middleware that is added with ``add_middleware`` does not see the response to an unhandled
    error.
    """

    def __init__(self, settings: Settings, body_seconds: float, **options: Any) -> None:
        is_traced = settings.opentelemetry
        super().__init__(telemetry=_build_telemetry_config(is_traced), **options)
        self.full_stack = super().__call__
        self._fast_path: ASGIApp = self.full_stack
        if not (is_traced or settings.rate_limit or settings.address_rate_limit):
            self._fast_path = UntaggedFastPath(
                self.full_stack, self.state, settings.trusted_hosts, settings.cors_origins
            )
        self._settings = settings
        self._body_seconds = body_seconds
        self._running_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by the fast path if it is one for a whole queue."""
        if scope["type"] != "http":
            await self.full_stack(scope, receive, send)
            return
        scope["client"] = normalize_client(scope.get("client"))
        self._running_requests += 1
        # Decided now and stored with the request: more requests may come while this one waits.
        is_overloaded = self._running_requests > self._settings.max_requests
        scope.setdefault("state", {})["is_overloaded"] = is_overloaded
        respond = self.full_stack if is_overloaded else self._fast_path
        with REQUESTS_UNDER_WAY.track_inprogress():
            try:
                await respond(scope, receive, send)
            finally:
                self._running_requests -= 1

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap FastAPI's stack, from the inside out; `RequestLog` is the outermost.

        Starlette calls this once, before the lifespan has opened the resources.
        """
        settings = self._settings
        stack: ASGIApp = Admission(
            Addresses(super().build_middleware_stack(), BEFORE_FREE_TEXT),
            settings.trusted_hosts,
            self._get_address_rate_limiter,
        )
        if settings.trusted_proxies:
            stack = ForwardedClient(stack, settings.trusted_proxies)
        if settings.cors_origins:
            stack = Cors(stack, settings.cors_origins)
        limited = BodyLimit(CompressMiddleware(stack), self._body_seconds)
        return RequestLog(DocumentedHeaders(HeadRequests(ListHeaders(limited))))

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document in its published form."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete_document(super().openapi())
        return self.openapi_schema

    def _get_address_rate_limiter(self) -> RateLimiter | None:
        return get_resources(self.state).address_rate_limiter


def _build_telemetry_config(is_traced: bool) -> TelemetryConfig:
    """Return the configuration of FastAPI's OpenTelemetry: a span for each request under /api/.

    An asset URL is a capability: whoever has it can fetch the picture. So the URLs of assets must
    never appear in traces. Metrics, logs and spans of operations stay off, because they would quote
    what clients sent.
    """
    return {
        "auto_configure": is_traced,
        "tracing": is_traced,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: not scope["path"].startswith("/api/"),
    }


def create_app(
    settings: Settings,
    deadlines: Deadlines | None = None,
    on_started: Callable[[], object] = lambda: None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Its lifespan opens the resources, and raises what `open_resources` raises; nothing is opened
    before. Then it calls ``on_started``. The default deadlines are those of production; tests pass
    shorter ones.
    """
    deadlines = deadlines or Deadlines()
    hide_settings_in_logs(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, deadlines) as app.state.resources:
            on_started()
            yield

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
    _add_routes(app)
    add_problem_handlers(app, _build_method_lookup(app))
    return app


def from_environment(deadlines: Deadlines | None = None) -> FastAPI:
    """Create the service with the settings of the environment, in each of uvicorn's workers."""
    end_with_parent()
    configure_logs()
    return create_app(load_settings(), deadlines, exempt_from_garbage_collection)


def _add_routes(app: FastAPI) -> None:
    # Tags before images: else /images/tags would be taken for the path of an image.
    for router in (untag.router, tags.router, uploads.router, images.router, events.router):
        app.include_router(router, prefix=ALBUM_PATH)
    for router in (albums.router, assets.router, operations.router):
        app.include_router(router)
    operations.mount_docs_parts(app)


def _build_method_lookup(app: FastAPI) -> Callable[[str], list[str]]:
    """Return a function from a path to its methods, for the header ``Allow``.

    If several templates match a path, the one with the fewest parameters counts.
    """
    methods_by_template: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.methods is not None:
            methods_by_template.setdefault(route.path, set()).update(route.methods)
    by_parameters = sorted(methods_by_template, key=lambda template: template.count("{"))
    patterns = [
        (compile_path(template)[0], methods_by_template[template]) for template in by_parameters
    ]

    def get_methods(path: str) -> list[str]:
        matching = (methods for pattern, methods in patterns if pattern.fullmatch(path))
        methods = next(matching, {"GET"})  # no route: a mounted folder of files
        return sorted(methods | {"HEAD"}) if "GET" in methods else sorted(methods)

    return get_methods
