"""The load generator: keep-alive connections that send the next request after each response.

It is a plain ``asyncio.Protocol``, which parses only the status and the length of a response. It is
written in Python: a server that can send tens of thousands of responses per second has to wait for
it, and is faster than the result says.

When the time is over, it waits for the responses of requests that are already sent, and does not
count them. A server goes on with requests whose client has disconnected, and this would slow down
the server that is measured next.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_END_OF_HEAD = b"\r\n\r\n"
_OK = b"HTTP/1.1 200"
_LAST_RESPONSES_SECONDS = 60.0


class UnexpectedResponse(Exception):
    """There was no response, one that is not 200 with a length, or the connection was closed."""


@dataclass
class Measurement:
    """The complete responses within ``seconds``; ``latencies`` are in seconds, one for each.

    ``busy_seconds`` is the CPU time that the load generator itself used.
    """

    seconds: float
    busy_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds


class _Client(asyncio.Protocol):
    """One connection. If it fails, it sets the exception of ``failed``.

    ``ended`` is set when the response to its last request is complete, or it has failed.
    """

    def __init__(
        self,
        requests: Sequence[bytes],
        first: int,
        latencies: list[float],
        failed: "asyncio.Future[None]",
    ) -> None:
        self._requests = itertools.cycle([*requests[first:], *requests[:first]])
        self._last_size_bytes = -1  # of the whole response before: the next one often has the same
        self._latencies = latencies
        self._failed = failed
        self._head = b""
        self._missing_bytes = 0  # of the body
        self._sent_at = 0.0
        self._finishing = False
        self.ended = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._send_next()

    def data_received(self, data: bytes) -> None:
        if self._missing_bytes:
            self._missing_bytes -= len(data)
        elif len(data) == self._last_size_bytes and data.startswith(_OK):
            pass
        elif not self._parse_head(self._head + data):
            return
        if self._missing_bytes == 0:
            self._finish_response()
        elif self._missing_bytes < 0:
            self._fail("the response is longer than its Content-Length")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def finish(self) -> None:
        """Send no more requests, and count no more responses."""
        self._finishing = True

    def abort(self) -> None:
        """Close the connection at once, even if a response is incomplete."""
        if self._transport is not None:
            self._transport.abort()

    def _finish_response(self) -> None:
        if self._finishing:
            self.ended.set()
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        self._send_next()

    def _send_next(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def _parse_head(self, data: bytes) -> bool:
        """Return whether the head is complete; if so, compute how much of the body is missing."""
        end = data.find(_END_OF_HEAD)
        self._head = data if end < 0 else b""
        if end < 0:
            return False
        length = _CONTENT_LENGTH.search(data, 0, end)
        if length is None or not data.startswith(_OK):
            self._fail(f"unexpected response {data[:200]!r}")
            return False
        self._last_size_bytes = end + len(_END_OF_HEAD) + int(length[1])
        self._missing_bytes = self._last_size_bytes - len(data)
        return True

    def _fail(self, reason: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(UnexpectedResponse(reason))
        self.ended.set()


async def measure(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Measurement:
    """Put load on the server at 127.0.0.1:port for `seconds`. Raise UnexpectedResponse.

    Each connection sends all requests in turn, and each starts with a different one.
    """
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    measurement = Measurement(seconds)
    started, started_busy = time.perf_counter(), time.process_time()
    clients = [
        (
            await loop.create_connection(
                partial(_Client, requests, number % len(requests), measurement.latencies, failed),
                "127.0.0.1",
                port,
            )
        )[1]
        for number in range(connections)
    ]
    try:
        await asyncio.wait([failed], timeout=seconds)
        measurement.seconds = time.perf_counter() - started
        measurement.busy_seconds = time.process_time() - started_busy
        await _finish(clients)
        if failed.done():
            failed.result()
        if not measurement.latencies:
            raise UnexpectedResponse(f"no response within {seconds:g} s")
    finally:
        failed.cancel()
        for client in clients:
            client.abort()
    return measurement


async def _finish(clients: Sequence[_Client]) -> None:
    """Wait for the last responses; raise UnexpectedResponse if they take too long."""
    for client in clients:
        client.finish()
    try:
        async with asyncio.timeout(_LAST_RESPONSES_SECONDS):
            for client in clients:
                await client.ended.wait()
    except TimeoutError as error:
        raise UnexpectedResponse("the last responses do not come") from error
