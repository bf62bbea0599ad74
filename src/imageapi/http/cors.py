"""Cross-origin requests (CORS): which web pages may call, and what they may send and read."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.http.errors import OriginRefused
from imageapi.http.problem_handlers import problem_for

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "X-Request-Id")
_EXPOSED_HEADERS = (
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "X-Request-Id",
    "X-Runtime",
    "X-Total-Count",
)
#: How long a browser may remember the response to a preflight request.
_MAX_AGE_SECONDS = 3600


class Cors(CORSMiddleware):
    """Starlette's CORS middleware for these origins; a refused preflight is a problem response."""

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
        response = super().preflight_response(request_headers)
        return response if response.status_code == 200 else _RefusedPreflight(response)  # noqa: PLR2004


class _RefusedPreflight(Response):
    """The problem response in place of Starlette's refusal, with its CORS headers.

    Starlette asks for a response before it passes the scope, which has the request's id.
    """

    def __init__(self, refusal: Response) -> None:
        super().__init__(status_code=refusal.status_code)
        replaced = ("content-length", "content-type")
        self._error = OriginRefused(
            {name: value for name, value in refusal.headers.items() if name not in replaced}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_for(self._error, scope["state"]["request_id"])
        await response(scope, receive, send)
