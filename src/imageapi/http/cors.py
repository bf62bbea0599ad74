"""Pages from elsewhere: which may call, and what they may send and see."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.http.problem_types import CORS_REFUSED, problem_response

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
_MAX_AGE_SECONDS = 3600


class Cors(CORSMiddleware):
    """Starlette's middleware for these origins; what it refuses is a problem."""

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
        """The answer to a browser that asks whether it may."""
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code == 200 else _CorsRefusal(answer)  # noqa: PLR2004


class _CorsRefusal(Response):
    """A problem, once it is known which request it is of."""

    def __init__(self, answer: Response) -> None:
        super().__init__(status_code=answer.status_code)
        said = ("content-length", "content-type")
        self._told = {name: value for name, value in answer.headers.items() if name not in said}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = "A page from there may not call, or not by this method or with these headers."
        id_ = scope["state"]["request_id"]
        await problem_response(CORS_REFUSED, detail, id_, headers=self._told)(scope, receive, send)
