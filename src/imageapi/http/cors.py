"""Cross-origin requests (CORS): which web pages may call, and what they may send and read."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.http.errors import OriginRefused
from imageapi.http.problem_handlers import problem_for

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: Beside those that every page may send. Tracing libraries, frameworks and a reload add some of
#: these to every request, whatever the page wants.
_ALLOWED_HEADERS = (
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "Pragma",
    "Range",
    "Traceparent",
    "Tracestate",
    "X-Request-Id",
    "X-Requested-With",
)
#: Beside those that every page may read.
_EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Allow",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
    "X-Runtime",
    "X-token",
    "X-Total-Count",
)
#: How long a browser may remember the response to a preflight request.
_MAX_AGE_SECONDS = 3600
_MAX_ORIGIN_CHARACTERS = 200


class Cors(CORSMiddleware):
    """Starlette's CORS middleware for these origins, with other responses to preflight requests.

    The console of a browser names the method or the header that a page may not use, but only where
    the preflight request was successful and its origin allowed. So the response to an allowed
    origin says what is allowed, and leaves the refusal to the browser. Another origin is told
    nothing; its response is a problem.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            origins,
            allow_methods=_METHODS,
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
            max_age=_MAX_AGE_SECONDS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a browser that asks whether a page may send a request."""
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            return _RefusedPreflight(origin)
        headers = {**self.preflight_headers, "Access-Control-Allow-Origin": origin}
        return PlainTextResponse("OK", headers=headers)


class _RefusedPreflight(Response):
    """The problem response to the preflight request of a page that may not call.

    Starlette asks for a response before it passes the scope, which has the request's id.
    """

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._error = OriginRefused(origin[:_MAX_ORIGIN_CHARACTERS])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_for(self._error, scope["state"]["request_id"])
        await response(scope, receive, send)
