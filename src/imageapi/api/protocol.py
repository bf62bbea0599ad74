"""HTTP/1.1 as documented, where uvicorn alone would answer otherwise.

Header names keep the case of the contract, and what is no HTTP at all, which no application ever
sees, is answered with a problem and the documented headers too.
"""

import asyncio
import time
from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
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


#: In ``scope["extensions"]``: a function that takes an answer's head and body as they go over the
#: wire, sends them in one piece, and says whether it could.
WHOLE_ANSWER = "imageapi.whole_answer"

STATUS_OK = STATUS_LINE[200]


def wire_head(status_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in as_written(headers))
    return b"%b%b\r\n" % (status_line, lines)


def _send_whole(cycle: RequestResponseCycle, head: bytes, body: bytes) -> bool:
    """Send the answer at once, where nothing has been sent, and the client keeps up and stays."""
    if (
        cycle.response_started
        or cycle.disconnected
        or cycle.flow.write_paused
        or not cycle.keep_alive
    ):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.writelines((head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True


class DocumentedCase:
    """ASGI application around another: next to the server, so that nothing else sees its names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the names of headers as written."""
        cycle = getattr(send, "__self__", None)
        if isinstance(cycle, RequestResponseCycle):
            scope.setdefault("extensions", {})[WHOLE_ANSWER] = partial(_send_whole, cycle)

        async def send_as_written(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": as_written(message["headers"])}
            await send(message)

        await self.app(scope, receive, send_as_written)


def _framing(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A request's head that says only how long its body is; empty where it has none."""
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"content-length", b"transfer-encoding") and value != b"0"
    ]
    return b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")) if lines else b""


class _Resumed:
    """What a parser calls that begins anew with a body: all but what stands in the head."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._is_known = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._is_known:
            self._protocol.on_headers_complete()
        self._is_known = False


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

    def data_received(self, data: bytes) -> None:
        """Parse what has come; an upgrade that is offered is not taken (RFC 9110 §7.8).

        The parser takes it for accepted, and what follows for another protocol: Java's client
        offers HTTP/2 with every request, bodies included.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            framing = _framing(self.headers)
            self.parser = httptools.HttpRequestParser(_Resumed(self) if framing else self)
            self.data_received(b"".join((framing, data[offer.args[0] :])))
        except httptools.HttpParserError:
            self.send_400_response("")

    def on_message_complete(self) -> None:
        """Let the application know that the body has ended, unless it has yet to come."""
        if not self.parser.should_upgrade() or not _framing(self.headers):
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Answer that the request is no HTTP, and close the connection."""
        id_ = request_id(None)
        answer = problem(UNREADABLE, "This is not an HTTP/1.1 request.", id_)
        headers = documented(answer.raw_headers, None, id_, time.perf_counter())
        headers.append((b"connection", b"close"))
        head = wire_head(STATUS_LINE[answer.status_code], headers)
        self.transport.write(head + bytes(answer.body))
        self.transport.close()
