"""HTTP/1.1 as documented, where uvicorn alone would answer otherwise.

Header names keep the case of the contract, and an upgrade that is offered is passed over. What is
no HTTP at all, which no application ever sees, is answered by `patience`.
"""

from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from imageapi.http.connection_limits import LimitedHttpProtocol
from imageapi.http.header_case import with_header_case

#: In ``scope["extensions"]``: a function that takes an answer's head and body as they go over the
#: wire, sends them in one piece, and says whether it could.
WHOLE_RESPONSE = "imageapi.whole_answer"


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


class HeaderCase:
    """ASGI application around another: next to the server, so that nothing else sees its names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the names of headers as written."""
        cycle = getattr(send, "__self__", None)
        if isinstance(cycle, RequestResponseCycle):
            scope.setdefault("extensions", {})[WHOLE_RESPONSE] = partial(_send_whole, cycle)

        async def send_as_written(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": with_header_case(message["headers"])}
            await send(message)

        await self.app(scope, receive, send_as_written)


def _build_framing_head(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A request's head that says only how long its body is; empty where it has none."""
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"content-length", b"transfer-encoding") and value != b"0"
    ]
    return b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")) if lines else b""


class _BodyCallbacks:
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


class DocumentedProtocol(LimitedHttpProtocol):
    """HTTP/1.1 with the contract's headers on whatever it answers; upgrades are passed over."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.app = HeaderCase(self.app)

    def feed(self, data: bytes) -> None:
        """Parse what has come; an upgrade that is offered is not taken (RFC 9110 §7.8).

        The parser takes it for accepted, and what follows for another protocol: Java's client
        offers HTTP/2 with every request, bodies included.
        """
        while data:
            try:
                super().feed(data)
                data = b""
            except httptools.HttpParserUpgrade as offer:
                framing = _build_framing_head(self.headers)
                self.parser = httptools.HttpRequestParser(_BodyCallbacks(self) if framing else self)
                data = framing + data[offer.args[0] :]

    def on_message_complete(self) -> None:
        """Let the application know that the body has ended, unless it has yet to come."""
        if not self.parser.should_upgrade() or not _build_framing_head(self.headers):
            super().on_message_complete()
