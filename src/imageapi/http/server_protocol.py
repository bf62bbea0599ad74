"""The HTTP/1.1 protocol of the service, where uvicorn's differs from what is documented.

Header names have the documented case, and an offered upgrade is ignored. The response to data that
is not HTTP, which no application sees, is sent by `connection_limits`.
"""

from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from imageapi.http.connection_limits import LimitedHttpProtocol
from imageapi.http.header_case import with_header_case

#: The key in ``scope["extensions"]`` of a function that sends a response in one piece. It takes the
#: head and the body as they go over the wire, and returns whether it could send them.
WHOLE_RESPONSE = "imageapi.whole_response"


def _send_whole(cycle: RequestResponseCycle, head: bytes, body: bytes) -> bool:
    """Send a response at once, and return True.

    Return False, and send nothing, where a part was sent already, the client reads too slowly or
    has left, or the connection is to be closed.
    """
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
    """ASGI middleware that sends header names in the documented case.

    It stands next to the server, so that all other middleware sees names in lower case.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response with header names in the documented case."""
        cycle = getattr(send, "__self__", None)
        extensions = scope.setdefault("extensions", {})
        if isinstance(cycle, RequestResponseCycle):
            extensions[WHOLE_RESPONSE] = partial(_send_whole, cycle)

        async def send_with_case(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": with_header_case(message["headers"])}
            await send(message)

        try:
            await self.app(scope, receive, send_with_case)
        finally:
            # The cycle has the scope, and the scope the cycle: only the garbage collector, whose
            # passes hold up every request, could free the two (tests/test_garbage.py).
            extensions.pop(WHOLE_RESPONSE, None)


def _build_framing_head(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a request's head with only its framing headers; empty where it has no body."""
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"content-length", b"transfer-encoding") and value != b"0"
    ]
    return b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")) if lines else b""


class _BodyCallbacks:
    """Callbacks of a second parser, which reads a body behind a head that was parsed before.

    The head that it is fed only frames the body (`_build_framing_head`). So the callbacks of this
    head are not passed on; those of the body, and of later requests, are.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._is_in_framing_head = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_in_framing_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_in_framing_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_framing_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._is_in_framing_head:
            self._protocol.on_headers_complete()
        self._is_in_framing_head = False


class DocumentedProtocol(LimitedHttpProtocol):
    """HTTP/1.1 with the documented header names on every response; upgrades are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = HeaderCase(self.app)

    def feed(self, data: bytes) -> None:
        """Parse received data, and ignore an offered upgrade (RFC 9110 §7.8).

        The parser assumes that an upgrade is accepted, and that another protocol follows. But
        Java's client offers HTTP/2 with every request, also with a body. So a new parser reads on
        behind the head.
        """
        while data:
            try:
                super().feed(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                framing = _build_framing_head(self.headers)
                self.parser = httptools.HttpRequestParser(_BodyCallbacks(self) if framing else self)
                data = framing + data[upgrade.args[0] :]

    def on_message_complete(self) -> None:
        """Report the end of the body, unless the parser stopped at an upgrade before the body."""
        if not self.parser.should_upgrade() or not _build_framing_head(self.headers):
            super().on_message_complete()
