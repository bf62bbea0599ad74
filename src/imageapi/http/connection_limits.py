"""HTTP/1.1 with an end to patience, of which uvicorn's protocol has no end."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from imageapi.http.header_case import build_refusal
from imageapi.http.problem_types import HEAD_TOO_LARGE, UNREADABLE

#: How large a head may be, and how many lines it may have.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
#: So many requests of one connection may wait for the one before them.
MAX_PIPELINED_REQUESTS = 32


@dataclass(frozen=True, slots=True)
class ConnectionDeadlines:
    """How long a client is waited for, in seconds; the defaults are those of the service."""

    #: The head of a request, from the end of the one before.
    head_seconds: float = 10
    #: A client that reads nothing of what was written to it.
    unread_seconds: float = 30
    #: What is left of a body after the answer.
    linger_seconds: float = 5
    #: A connection on which no request is under way, once the service stops.
    stopping_seconds: float = 3


class _LimitExceeded(Exception):
    """A head is larger, or more requests wait behind each other, than is read."""


class _AmbiguousHost(Exception):
    """Two who read the head could take it for requests for different hosts."""


#: A target in absolute form, and the host that it names (RFC 9112 §3.2.2).
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to its patience: it has none of its own.

    A head has to be there in time, and is limited. An answer has to be read. A body that nobody
    wants is read for a while, so that its sender sees the answer. When the service stops, clients
    that keep their connections hear of it with their next answer: none is closed on a request that
    is on its way.
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
        """Wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more, and answer none of those who wait behind each other."""
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self.pipeline.clear()
        if self._is_answering() and self._running is not self.cycle:
            self._disconnect_running()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, within the limits."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        was_in_head, was_in_body, cycle = self._is_in_head, self._is_in_body, self.cycle
        try:
            self.feed(data)
        except httptools.HttpParserError as error:
            self.refuse(error.__context__)
            return
        if was_in_head and self._is_in_head:  # the parser keeps what is no whole line to itself
            self._received_bytes += len(data)
            if self._received_bytes > MAX_HEAD_BYTES:
                self.refuse(_LimitExceeded())
                return
        is_nothing = not was_in_body and not self._is_in_body and cycle is self.cycle
        if self._head_timer is None and (self._is_in_head or is_nothing):
            self._wait_for_head()

    def feed(self, data: bytes) -> None:
        """Parse what has come; raises HttpParserError."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        self._head_bytes = self._received_bytes = self._head_lines = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take more of the target."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind a body is none (RFC 9110 §6.5.1)."""
        self._head_lines += 1
        self._count(name + value)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, or let the request wait for those before it."""
        self._is_in_head, self._is_in_body = False, True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            raise _LimitExceeded
        if not self._is_for_one_host():
            raise _AmbiguousHost
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body has ended."""
        self._is_in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next head, or for the end of a body that nobody wants, but not forever."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)
        elif self._is_in_body and not self.pipeline:
            self.loop.call_later(
                self.deadlines.linger_seconds, self._close_unless_complete, self.cycle
            )

    def pause_writing(self) -> None:
        """Let the client read what is written before more is."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(
            self.deadlines.unread_seconds, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Write on."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, and do not wait for ever until the last answer is read."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)

    def shutdown(self) -> None:
        """Close the connection once no request is under way, nor may be on its way."""
        if self._is_answering():
            super().shutdown()
        if not self._is_stopping or self._is_in_head:
            self._is_stopping = True
            self.loop.call_later(self.deadlines.stopping_seconds, self.shutdown)
        else:
            super().shutdown()

    def refuse(self, reason: BaseException | None) -> None:
        """Say that what comes is no request that is read, once the one under way is answered."""
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.keep_alive = False
            if running is not self.cycle or not self._is_in_body:
                self.flow.pause_reading()
                return
            self._disconnect_running()  # its body is broken: it waits for the rest in vain
        if running is not None and self._is_in_body and running.response_started:
            self.transport.close()
            return
        is_too_much = isinstance(reason, _LimitExceeded)
        self.transport.write(build_refusal(HEAD_TOO_LARGE if is_too_much else UNREADABLE))
        self.transport.close()
        self.loop.call_later(self.deadlines.unread_seconds, self.transport.abort)

    def _is_for_one_host(self) -> bool:
        """Whether all that names a host names the same one (RFC 9112 §3.2)."""
        named = [value.lower() for name, value in self.headers if name == b"host"]
        target = _ABSOLUTE.match(self.url)
        if not named:
            return self.parser.get_http_version() != "1.1" and target is None
        return len(named) == 1 and (target is None or target[1].lower() == named[0])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _disconnect_running(self) -> None:
        """Let the request that is being answered know that nobody listens."""
        assert self._running is not None
        self._running.disconnected = True
        self._running.message_event.set()

    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _count(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes > MAX_HEAD_BYTES or self._head_lines > MAX_HEADERS:
            raise _LimitExceeded

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.deadlines.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._is_answering():
            self._wait_for_head()
        else:
            self.transport.abort()

    def _close_unless_complete(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and self._is_in_body:
            self.transport.close()
