"""Faults of the parts around the service, and clients that measure what becomes of them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import psutil

from factories import HEADER, claims, signed
from imageapi.auth.claims import ABILITIES
from imageapi.database.deadlines import DatabaseDeadlines

ALBUM = "under-fire"
OK_AND_AWAY = {200, 503}


def longest_seconds(deadlines: DatabaseDeadlines) -> float:
    """Nobody waits longer: a connection, then a change. And a little, on these machines."""
    return deadlines.connect_seconds + deadlines.change_seconds + 3


@dataclass
class Seen:
    """What clients saw: answers by status, and the longest that one of them waited, in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    longest_seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    recovery_seconds: float = 0.0

    def note(self, answer: httpx.Response, seconds: float) -> None:
        """Count the answer, which must be of those that a fault may have."""
        self.statuses[answer.status_code] += 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        if not answer.is_success:
            self.kinds[answer.json()["type"].rpartition(":")[2]] += 1
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                assert int(answer.headers["Retry-After"]) >= 1


@dataclass
class Clients:
    """Readers and writers that ask one after the other; the writers remember what was answered."""

    service: httpx.AsyncClient
    public_ids: list[str]
    tagged: set[tuple[str, str]] = field(default_factory=set)
    album: str = ALBUM
    seen: Seen = field(default_factory=Seen)
    is_over: bool = False
    pause_seconds: float = 0.02
    deadlines: DatabaseDeadlines = field(default_factory=DatabaseDeadlines)

    async def read(self) -> None:
        """List the queue, whole and in pages, the tags, and one image."""
        images = f"/api/v1/albums/{self.album}/images"
        paths = [
            *(f"{images}/untag", f"{images}/untag?limit=5", f"/api/v1/albums/{self.album}/tags"),
            *(f"{images}/{self.public_ids[0]}", "/api/v1/albums"),
        ]
        number = 0
        while not self.is_over:
            number += 1
            await self._ask("GET", paths[number % len(paths)])

    async def write(self, name: str) -> None:
        """Tag one image after the other; what was answered must hold."""
        number = 0
        while not self.is_over:
            public_id = self.public_ids[number % len(self.public_ids)]
            tag = f"{name}-{number}"
            path = f"/api/v1/albums/{self.album}/images/{public_id}/tags/{tag}"
            if (await self._ask("PUT", path)).is_success:
                self.tagged.add((public_id, tag))
            number += 1

    async def _ask(self, method: str, path: str) -> httpx.Response:
        started = time.monotonic()
        answer = await self.service.request(method, path)
        self.seen.note(answer, time.monotonic() - started)
        await asyncio.sleep(self.pause_seconds)
        return answer

    async def seeing(self, at_least: Mapping[int, int], patience_seconds: float = 60) -> None:
        """Wait until so many answers of these statuses were seen."""
        async with asyncio.timeout(patience_seconds):
            while any(  # noqa: ASYNC110 - nobody tells
                self.seen.statuses[status] < count for status, count in at_least.items()
            ):
                await asyncio.sleep(0.05)

    async def lost(self) -> set[tuple[str, str]]:
        """Answered tags that are not there."""
        answer = await self.service.get(f"/api/v1/albums/{self.album}/images")
        images = answer.raise_for_status().json()
        there = {(image["public_id"], tag) for image in images for tag in image["infos"]["tags"]}
        return self.tagged - there

    async def recovered(self, patience_seconds: float = 30) -> float:
        """How long it takes until everything is answered as before, in seconds."""
        started = time.monotonic()
        images = f"/api/v1/albums/{self.album}/images"
        asked = [
            ("GET", f"{images}/untag"),
            ("GET", f"{images}?limit=5"),
            ("PUT", f"{images}/{self.public_ids[0]}/tags/again"),
            ("GET", "/readyz"),
        ]
        for method, path in asked * 2:
            while not (await self.service.request(method, path)).is_success:
                assert time.monotonic() - started < patience_seconds, path
                await asyncio.sleep(0.05)
        self.seen.recovery_seconds = time.monotonic() - started
        return self.seen.recovery_seconds


def client_of(address: str, album: str = ALBUM) -> httpx.AsyncClient:
    """Somebody who may do all, and waits longer than the service should make anybody."""
    token = signed(HEADER, claims(album, *ABILITIES))
    return httpx.AsyncClient(
        base_url=address,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    )


@asynccontextmanager
async def under_load(
    address: str,
    public_ids: list[str],
    writers: int = 3,
    deadlines: DatabaseDeadlines | None = None,
) -> AsyncIterator[Clients]:
    """Three readers and some writers, who ask until the end of the block.

    ``deadlines`` are those of the service, by default those of production.
    """
    async with client_of(address) as http:
        clients = Clients(http, public_ids, deadlines=deadlines or DatabaseDeadlines())
        asking = [asyncio.create_task(clients.read()) for _ in range(3)]
        asking += [asyncio.create_task(clients.write(f"w{each}")) for each in range(writers)]
        try:
            yield clients
        finally:
            clients.is_over = True
            await asyncio.gather(*asking)


@asynccontextmanager
async def held_up(server: str, lock: str) -> AsyncIterator[Callable[[], Any]]:
    """What stands at this lock stays there; what is yielded waits until so many do."""
    administrator, watcher = [await asyncpg.connect(server) for _ in range(2)]

    async def somebody_waits(count: int = 1) -> None:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND application_name = 'imageapi'"
        )
        async with asyncio.timeout(9):  # a read is not held up for longer
            while await watcher.fetchval(waiting) < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    try:
        async with administrator.transaction():
            await administrator.execute(lock)
            yield somebody_waits
    finally:
        await administrator.close()
        await watcher.close()


async def checked(clients: Clients) -> None:
    """Nobody saw anything else than 200 and 503, nobody waited too long, nothing is lost."""
    assert set(clients.seen.statuses) <= OK_AND_AWAY, clients.seen
    assert clients.seen.statuses[200] > 0
    assert clients.seen.longest_seconds < longest_seconds(clients.deadlines)
    assert await clients.lost() == set()
    seen = clients.seen
    print(  # noqa: T201 - with -s, the table of docs/operating.md
        f"\n{dict(seen.statuses)}, longest wait {seen.longest_seconds:.1f} s, "
        f"as before in {seen.recovery_seconds:.1f} s, none of {len(clients.tagged)} changes lost"
    )


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that do nothing, as on a machine that hangs."""
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def processes_of(data_dir: Path) -> list[int]:
    """The processes of the embedded PostgreSQL, its first one first."""
    postmaster = int((data_dir / "postgres/postmaster.pid").read_text().split()[0])
    process = psutil.Process(postmaster)
    return [postmaster, *(child.pid for child in process.children(recursive=True))]


class SlowRelay:
    """A TCP relay that can stop forwarding, or break all connections, on request."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._flows.set()
        self.break_off()
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def hold(self) -> None:
        """Let nothing through from now on."""
        self._flows.clear()

    def let_go(self) -> None:
        """Let everything through again."""
        self._flows.set()

    def break_off(self) -> None:
        """Reset what is open."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, onward = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(onward)
        await asyncio.gather(
            self._copy(reader, onward), self._copy(there, writer), return_exceptions=True
        )
        for each in (writer, onward):
            self._writers.discard(each)
            each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
