"""The load: keep-alive connections, each asking again as soon as it is answered.

A plain ``asyncio.Protocol`` over sockets, which reads no more of an answer than its status and its
length. It is written in Python: a server that answers tens of thousands of requests per second
waits for it, and is faster than it says.

When the time is over, what was asked is still waited for, uncounted: a server goes on with requests
whose client has left, and would do so at the cost of whoever is measured next.
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
_LAST_ANSWERS_SECONDS = 60.0


class UnexpectedAnswer(Exception):
    """No answer, one that is not a 200 with its length, or a connection that was closed."""


@dataclass
class Measurement:
    """What was counted: whole answers within ``seconds``, and how long each took, in seconds.

    ``busy_seconds`` is how long the generator itself was at work.
    """

    seconds: float
    busy_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds


class _Client(asyncio.Protocol):
    """One connection. ``failed`` is given its exception, if it comes to that.

    ``ended`` is set when it has had the answer to its last request, or has failed.
    """

    def __init__(
        self,
        requests: Sequence[bytes],
        first: int,
        latencies: list[float],
        failed: "asyncio.Future[None]",
    ) -> None:
        self._requests = itertools.cycle([*requests[first:], *requests[:first]])
        self._whole = -1  # bytes of an answer that was like the one before
        self._latencies = latencies
        self._failed = failed
        self._head = b""
        self._missing = 0  # bytes of the body still to come
        self._asked = 0.0
        self._leaving = False
        self.ended = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._ask()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        elif len(data) == self._whole and data.startswith(_OK):
            pass
        elif not self._begins(self._head + data):
            return
        if self._missing == 0:
            self._answered()
        elif self._missing < 0:
            self._fail("answered more than was announced")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def finish(self) -> None:
        """Ask no more, and count no more."""
        self._leaving = True

    def leave(self) -> None:
        """Close the connection, whatever is still to come."""
        if self._transport is not None:
            self._transport.abort()

    def _answered(self) -> None:
        if self._leaving:
            self.ended.set()
            return
        self._latencies.append(time.perf_counter() - self._asked)
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def _begins(self, data: bytes) -> bool:
        """Whether the head of the answer is there; how much of the body is not, is noted."""
        end = data.find(_END_OF_HEAD)
        self._head = data if end < 0 else b""
        if end < 0:
            return False
        length = _CONTENT_LENGTH.search(data, 0, end)
        if length is None or not data.startswith(_OK):
            self._fail(f"answered {data[:200]!r}")
            return False
        self._whole = end + len(_END_OF_HEAD) + int(length[1])
        self._missing = self._whole - len(data)
        return True

    def _fail(self, reason: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(UnexpectedAnswer(reason))
        self.ended.set()


async def measure(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Measurement:
    """Load the server at 127.0.0.1 for that long; raises UnexpectedAnswer.

    Each connection asks all of the requests in turn, each beginning with another.
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
            raise UnexpectedAnswer(f"no answer within {seconds:g} s")
    finally:
        failed.cancel()
        for client in clients:
            client.leave()
    return measurement


async def _finish(clients: Sequence[_Client]) -> None:
    """Wait for the answers under way; raises UnexpectedAnswer if they take too long."""
    for client in clients:
        client.finish()
    try:
        async with asyncio.timeout(_LAST_ANSWERS_SECONDS):
            for client in clients:
                await client.ended.wait()
    except TimeoutError as error:
        raise UnexpectedAnswer("the last answers do not come") from error
