"""Workers killed in the middle of each kind of request, which a lock holds up for that long."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

import pictures
from conftest import Command, Service
from factories import record
from faults import Clients, client_of, held_up
from fixture_types import AddRecords
from imageapi.albums.asset_paths import build_store_key
from imageapi.database.engine import Database

READING = "LOCK TABLE albums, images, events IN ACCESS EXCLUSIVE MODE"
CHANGING = "SELECT version FROM albums WHERE album_id = '{album}' FOR UPDATE"
RENDERING = "SELECT pg_advisory_xact_lock(hashtextextended('{key}', 0))"
TAGS = {"add": ["a", "b"], "remove": ["there"]}


@dataclass(frozen=True)
class Kind:
    """A kind of request: what is asked, at which lock it stands still, how often it changes."""

    method: str
    path: str
    lock: str
    changes: int = 0
    more: Callable[[str], dict[str, Any]] = field(default=lambda _: {})


KINDS = {
    "the queue": Kind("GET", "/images/untag", READING),
    "a page": Kind("GET", "/images?limit=5", READING),
    "an image": Kind("GET", "/images/{id}", READING),
    "tags": Kind("GET", "/tags", READING),
    "events": Kind("GET", "/events", READING),
    "a rendition": Kind("GET", "{full}", RENDERING),
    "a tag": Kind("PUT", "/images/{id}/tags/a", CHANGING, 1),
    "a tag away": Kind("DELETE", "/images/{id}/tags/there", CHANGING, 1),
    "many tags": Kind(
        "POST", "/images/tags", CHANGING, 1, lambda id_: {"json": {"public_ids": [id_], **TAGS}}
    ),
    "an edit": Kind("PATCH", "/images/{id}", CHANGING, 1, lambda _: {"json": {"rotation": 90}}),
    "a deletion": Kind("DELETE", "/images/{id}", CHANGING, 1),
    "a restoring": Kind("POST", "/images/{deleted}/restore", CHANGING, 1),
    "an upload": Kind(
        "POST", "/images", CHANGING, 1, lambda _: {"files": {"file": pictures.jpeg(seed=9)}}
    ),
}


@pytest.fixture(scope="module")
def two_workers(
    imageapi: Command, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("killed")
    store = {"IMAGEAPI_STORE_URL": str(folder / "pictures")}
    with (
        (folder / "log").open("wb") as log,
        imageapi.serving("--workers", "2", log=log, **store) as service,
    ):
        yield service


def workers_of(service: Service) -> list[psutil.Process]:
    """Those that are alive."""
    workers = []
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is none either
            if "spawn_main" in str(child.cmdline()):
                workers.append(child)
    return workers


def kill_workers(service: Service) -> None:
    """As the system does that has no memory left."""
    workers = workers_of(service)
    assert workers
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, 10)


async def answered(client: httpx.AsyncClient, method: str, url: str, **more: Any) -> httpx.Response:
    """The answer, of those who take the place of the killed."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(httpx.TransportError):
            answer = await client.request(method, url, **more)
            if answer.status_code != 503:
                return answer
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
async def test_worker_killed_in_the_middle(
    two_workers: Service, server: str, album: str, kind: Kind
) -> None:
    """Its client gets no response and nothing was changed; the same request again is done, once."""
    base = f"/api/v1/albums/{album}"
    async with client_of(two_workers.address, album) as client:
        image, deleted = [
            (
                await answered(
                    client,
                    "POST",
                    f"{base}/images",
                    files={"file": pictures.jpeg(seed=seed)},
                    data={"tags": "there"},
                )
            ).json()
            for seed in (1, 2)
        ]
        await client.delete(f"{base}/images/{deleted['public_id']}")
        events = (await client.get(f"{base}/events")).json()
        listed = (await client.get(f"{base}/images")).json()
        named = {"id": image["public_id"], "deleted": deleted["public_id"]}
        path = kind.path.format(**named, full=image["thumbnails"]["full"])
        url = path if path.startswith("/assets/") else base + path
        more = kind.more(image["public_id"])
        lock = kind.lock.format(album=album, key=await key_of(server, image))

        async with held_up(server, lock) as somebody_waits:
            asking = asyncio.create_task(client.request(kind.method, url, **more))
            await somebody_waits()
            kill_workers(two_workers)
            with pytest.raises(httpx.TransportError):
                await asking
        assert (await answered(client, "GET", f"{base}/events")).json() == events
        assert (await answered(client, "GET", f"{base}/images")).json() == listed
        assert (await answered(client, kind.method, url, **more)).is_success
        after = (await client.get(f"{base}/events")).json()
        assert after[: len(events)] == events
        assert len(after) == len(events) + kind.changes
        assert [each["version"] for each in after] == list(range(1, len(after) + 1))


async def key_of(server: str, image: dict[str, Any]) -> str:
    """Where the rendition will be kept, which is what is made alone."""
    administrator = await asyncpg.connect(server)
    album, public_id = image["album_id"], image["public_id"]
    picture = await administrator.fetchval(
        "SELECT picture FROM images WHERE album_id = $1 AND public_id = $2", album, public_id
    )
    await administrator.close()
    return build_store_key(album, picture, Path(image["thumbnails"]["full"]).name)


async def test_others_go_on_while_a_worker_is_killed(
    two_workers: Service, add: AddRecords, album: str
) -> None:
    """Clients of the killed worker see the connection end; what was answered holds."""
    records = [record(album, number) for number in range(20)]
    await add(records)
    public_ids = [each["public_id"] for each in records]
    tagged: set[tuple[str, str]] = set()
    broken = 0
    is_over = False

    async def write(name: str) -> None:
        nonlocal broken
        number = 0
        while not is_over:
            number += 1
            public_id, tag = public_ids[number % 20], f"{name}-{number}"
            async with client_of(two_workers.address, album) as client:
                try:
                    path = f"/api/v1/albums/{album}/images/{public_id}/tags/{tag}"
                    answer = await client.put(path)
                except httpx.TransportError:
                    broken += 1
                    continue
            assert answer.status_code in (200, 503)
            if answer.is_success:
                tagged.add((public_id, tag))

    writing = [asyncio.create_task(write(f"k{each}")) for each in range(4)]
    for _ in range(3):
        before = len(tagged)
        async with asyncio.timeout(60):
            while len(tagged) < before + 10 or len(workers_of(two_workers)) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        workers_of(two_workers)[0].kill()
    is_over = True
    await asyncio.gather(*writing)
    async with client_of(two_workers.address, album) as client:
        clients = Clients(client, public_ids, tagged, album)
        assert await clients.recovered() < 30
        assert await clients.lost() == set()
    assert broken < len(tagged)
