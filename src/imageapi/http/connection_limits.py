"""uvicorn's HTTP/1.1 protocol, with the timeouts and size limits that it lacks.

They are for the head of a request, a response that is not read, the rest of a body after the
response, and requests that wait behind one another.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from imageapi.http.header_case import build_refusal
from imageapi.http.host_header import add_missing_path, is_for_one_host
from imageapi.http.problem_types import HEAD_TOO_LARGE, UNREADABLE

#: The limits of a request's head: its bytes, and its header lines.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
#: How many requests of one connection may wait for the response to the one before them.
MAX_PIPELINED_REQUESTS = 32
#: The parser knows others, too, but only these have the framing that it reads.
_VERSIONS = ("1.0", "1.1")


@dataclass(frozen=True, slots=True)
class ConnectionDeadlines:
    """How long the service waits for a client, in seconds; the defaults are for production."""

    #: For the head of a request, from the end of the request before.
    head_seconds: float = 10
    #: For a client that reads nothing of what was written to it.
    unread_seconds: float = 30
    #: For the rest of a body after the response to it.
    linger_seconds: float = 5
    #: For a request on an idle connection, once the service stops.
    stopping_seconds: float = 3


class _LimitExceeded(Exception):
    """A head is too large, or too many requests of a connection wait."""


class _InvalidHead(Exception):
    """The head is of another version of HTTP, has a fragment, or does not name one host."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with timeouts and size limits.

    The head of a request must arrive in time, and is limited in size. The client must read the
    response. What the application leaves of a body is read for a while, so that the client sees the
    response instead of a reset connection. When the service stops, the next response on a
    connection closes it; an idle connection stays open for a moment, so that a request which the
    client has just sent is still answered.
    """

    deadlines: ClassVar[ConnectionDeadlines] = ConnectionDeadlines()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._running: RequestResponseCycle | None = None
        self._is_in_head = self._is_in_body = self._is_stopping = False
        self._head_bytes = self._received_bytes = self._head_lines = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers, and drop the requests that wait."""
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self.pipeline.clear()
        if self._has_running_request() and self._running is not self.cycle:
            self._report_disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, within the limits."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        was_in_head, was_in_body, cycle = self._is_in_head, self._is_in_body, self.cycle
        try:
            self.feed(data)
        except httptools.HttpParserError as error:
            self.refuse(error.__context__)
            return
        if was_in_head and self._is_in_head:  # the parser reports no header before its line ends
            self._received_bytes += len(data)
            if self._received_bytes > MAX_HEAD_BYTES:
                self.refuse(_LimitExceeded())
                return
        # Line breaks between requests, for example, which begin no head.
        is_between_requests = not was_in_body and not self._is_in_body and cycle is self.cycle
        if self._head_timer is None and (self._is_in_head or is_between_requests):
            self._start_head_timer()

    def feed(self, data: bytes) -> None:
        """Parse received data; raises HttpParserError."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Count the bytes and lines of a new head."""
        self._is_in_head = True
        self._head_bytes = self._received_bytes = self._head_lines = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count and store a piece of the target."""
        self._count_in_head(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count and store a header; a trailer, after a body, is not stored (RFC 9110 §6.5.1)."""
        self._head_lines += 1
        self._count_in_head(name + value)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, or let it wait for those before it.

        Raises _LimitExceeded, _InvalidHead.
        """
        self._is_in_head, self._is_in_body = False, True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            raise _LimitExceeded
        version = self.parser.get_http_version()
        if (
            version not in _VERSIONS
            or b"#" in self.url
            or not is_for_one_host(self.url, self.headers, version)
        ):
            raise _InvalidHead
        if not self.url.startswith(b"/"):
            self.url = add_missing_path(self.url)
        if version == "1.0":
            self.expect_100_continue = False  # such a client does not know it (RFC 9110 §10.1.1)
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Note that the body has ended."""
        self._is_in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Set a deadline for what the client does after the response.

        It must read the response before the connection is closed, or end the rest of its body.
        """
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)
        elif self._is_in_body and not self.pipeline:
            self.loop.call_later(
                self.deadlines.linger_seconds, self._close_unless_complete, self.cycle
            )

    def pause_writing(self) -> None:
        """Stop writing until the client has read, and set its deadline."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(
            self.deadlines.unread_seconds, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Go on writing, without a deadline."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection; abort it if the client does not read the last response in time."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)

    def shutdown(self) -> None:
        """Close the connection ``stopping_seconds`` later, because the service stops.

        A request whose head is arriving by then is waited for, and a running request is finished:
        its response closes the connection.
        """
        if self._has_running_request():
            super().shutdown()
        if not self._is_stopping or self._is_in_head:
            self._is_stopping = True
            self.loop.call_later(self.deadlines.stopping_seconds, self.shutdown)
        else:
            super().shutdown()

    def refuse(self, reason: BaseException | None) -> None:
        """Send an error response and close the connection, because no valid request follows.

        Where a request is running, its response is sent instead, as the last one.
        """
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.keep_alive = False
            if running is not self.cycle or not self._is_in_body:
                self.flow.pause_reading()
                return
            self._report_disconnect()  # its body is broken: the rest would never arrive
        if running is not None and self._is_in_body and running.response_started:
            self.transport.close()
            return
        problem_type = HEAD_TOO_LARGE if isinstance(reason, _LimitExceeded) else UNREADABLE
        self.transport.write(build_refusal(problem_type))
        self.transport.close()
        self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _report_disconnect(self) -> None:
        """Report to the application that the client of the running request has disconnected."""
        assert self._running is not None
        self._running.disconnected = True
        self._running.message_event.set()

    def _has_running_request(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _count_in_head(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes > MAX_HEAD_BYTES or self._head_lines > MAX_HEADERS:
            raise _LimitExceeded

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.deadlines.head_seconds, self._abort_late_head)

    def _abort_late_head(self) -> None:
        if self._has_running_request():
            self._start_head_timer()
        else:
            self.transport.abort()

    def _close_unless_complete(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and self._is_in_body:
            self.transport.close()
