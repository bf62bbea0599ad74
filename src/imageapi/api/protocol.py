"""HTTP/1.1 as documented, where uvicorn alone would answer otherwise.

Header names keep the case of the contract, and what is no HTTP at all, which no application ever
sees, is answered with a problem and the documented headers too.
"""

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from imageapi.api.headers import documented, request_id
from imageapi.api.problems import UNREADABLE, problem


class _AsWritten(bytes):
    """A header's name that uvicorn, which asks for its lower case, sends as it is."""

    __slots__ = ()

    def lower(self) -> bytes:
        return self


class _ContentLength(_AsWritten):
    """The one of them that uvicorn must know, lest it think that the answer is chunked."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == b"content-length"

    def __hash__(self) -> int:
        return hash(b"content-length")


_AS_WRITTEN = {
    name.lower(): _AsWritten(name)
    for name in (
        b"Cache-Control",
        b"Pragma",
        b"Expires",
        b"X-Frame-Options",
        b"X-XSS-Protection",
        b"X-Content-Type-Options",
        b"X-Download-Options",
        b"X-Permitted-Cross-Domain-Policies",
        b"X-token",
        b"Content-Type",
        b"Vary",
        b"P3P",
        b"X-Request-Id",
        b"X-Runtime",
        b"Link",
        b"X-Total-Count",
        b"Allow",
        b"Retry-After",
        b"WWW-Authenticate",
        b"Content-Encoding",
        b"ETag",
        b"Location",
    )
} | {b"content-length": _ContentLength(b"Content-Length")}


def as_written(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with their names in the case of the contract."""
    return [(_AS_WRITTEN.get(name, name), value) for name, value in headers]


class DocumentedCase:
    """ASGI application around another: next to the server, so that nothing else sees its names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the names of headers as written."""

        async def send_as_written(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": as_written(message["headers"])}
            await send(message)

        await self.app(scope, receive, send_as_written)


class DocumentedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1 with the contract's headers on whatever it answers."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app = DocumentedCase(self.app)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Answer that the request is no HTTP, and close the connection."""
        id_ = request_id(None)
        answer = problem(UNREADABLE, "This is not an HTTP/1.1 request.", id_)
        headers = documented(answer.raw_headers, None, id_, time.perf_counter())
        lines = [b"%b: %b\r\n" % header for header in as_written(headers)]
        lines.append(b"connection: close\r\n\r\n")
        self.transport.write(
            b"".join([STATUS_LINE[answer.status_code], *lines, bytes(answer.body)])
        )
        self.transport.close()
