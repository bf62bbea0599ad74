"""A request leaves nothing for Python's garbage collector, whose passes hold up every other one."""

import asyncio
import gc
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.http.server_protocol import DocumentedProtocol

REQUESTS = 25
LIST, CHANGE = ("image_list",), ("image_list", "image_tag")


@pytest.fixture
async def port(app: FastAPI) -> AsyncIterator[int]:
    """The port of the application behind its own HTTP protocol, in this process."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", proxy_headers=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: DocumentedProtocol(config, state, {}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send_requests(port: int, request: bytes, count: int) -> set[bytes]:
    """Send the request so often on one connection; return the status lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses = set()
    for _ in range(count):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        statuses.add(head.partition(b"\r\n")[0])
        if b"content-length: " in head and not request.startswith(b"HEAD"):
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()
    return statuses


async def count_garbage(port: int, request: bytes, status: bytes) -> Counter[str]:
    """Count the objects that only the garbage collector could free, by their type."""
    await send_requests(port, request, 3)  # fills caches
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        assert await send_requests(port, request, REQUESTS) == {b"http/1.1 " + status}
        gc.collect()
        return Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.inside
@pytest.mark.parametrize(
    ("start", "more", "abilities", "status"),
    [
        ("GET {album}/images/untag", "", LIST, b"200 ok"),
        ("GET {album}/images/untag?limit=2", "", LIST, b"200 ok"),
        ("GET {album}/images/untag", "Accept-Encoding: gzip\r\n", LIST, b"200 ok"),
        ("HEAD {album}/images/untag?limit=2", "", LIST, b"200 ok"),
        ("GET {album}/images?limit=2", "", LIST, b"200 ok"),
        ("GET {album}/tags", "", LIST, b"200 ok"),
        ("PUT {album}/images/{image}/tags/tree", "", CHANGE, b"200 ok"),
        ("GET {album}/images?limit=none", "", LIST, b"422 unprocessable entity"),
        ("GET {album}/images/{image}/nothing", "", LIST, b"404 not found"),
        ("GET {album}/tags", "", CHANGE[1:], b"403 forbidden"),
        ("GET /assets/blank.jpg", "", LIST, b"200 ok"),
        ("GET /healthz", "", LIST, b"200 ok"),
    ],
)
async def test_request_leaves_no_garbage(
    port: int,
    add: AddRecords,
    may: TokenFor,
    start: str,
    more: str,
    abilities: tuple[str, ...],
    status: bytes,
) -> None:
    album, image = f"garbage-{uuid.uuid4()}", str(uuid.uuid4())
    await add([record(album, public_id=image)])
    line = start.format(album=f"/api/v1/albums/{album}", image=image)
    token = may(album, *abilities)["Authorization"]
    request = f"{line} HTTP/1.1\r\nHost: test\r\nAuthorization: {token}\r\n{more}\r\n"
    garbage = await count_garbage(port, request.encode(), status)
    assert {name: count for name, count in garbage.items() if count >= REQUESTS} == {}


WORKER = """
import asyncio, gc
from imageapi.app import from_environment

async def start():
    app = from_environment()
    assert gc.get_freeze_count() == 0
    async with app.router.lifespan_context(app):
        print(gc.get_freeze_count())

asyncio.run(start())
"""


def test_worker_exempts_what_it_imported(environment: Mapping[str, str]) -> None:
    worker = subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, capture_output=True, text=True, check=False
    )
    assert worker.returncode == 0, worker.stderr
    assert int(worker.stdout) > 50_000
