"""Clients that send a byte a second, never read, send too much or nonsense: over raw sockets."""

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import pictures
from conftest import Command, Service
from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.http.connection_limits import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED_REQUESTS
from short_deadlines import PROGRAM

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def short_deadlines(
    imageapi: Command, database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service, whose patience is a second."""
    command = Command(imageapi.environment, imageapi.folder, PROGRAM)
    log_path = tmp_path_factory.mktemp("short_deadlines") / "log"
    with log_path.open("wb") as log, command.serving(log=log) as service:
        yield service


async def until_closed(
    service: Service, *pieces: bytes, every: float = 0.0, forever: bytes = b""
) -> tuple[bytes, float]:
    """What came back until the other side closed, and how long that took in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    started = time.monotonic()

    async def write() -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)
        while forever:
            writer.write(forever)
            await writer.drain()
            await asyncio.sleep(every)

    writing = asyncio.create_task(write())
    answer = b""
    try:
        async with asyncio.timeout(30):
            while data := await reader.read(2**16):
                answer += data
    except ConnectionError:
        pass
    took = time.monotonic() - started
    writing.cancel()
    await asyncio.wait([writing])
    if not writing.cancelled():
        writing.exception()
    writer.close()
    return answer, took


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize(
    ("pieces", "forever"),
    [
        ((), b""),
        ((b"GET",), b""),
        ((b"GET / HTTP/1.1\r\nX: ",), b"a"),
        ((b"GET /",), b"a"),
        ((), b"\r\n"),
        ((HEALTH, b"GET / HTTP/1.1\r\n"), b"X: y\r\n"),
    ],
    ids=["nothing", "a beginning", "a header", "a target", "empty lines", "a second request"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    short_deadlines: Service, pieces: tuple[bytes, ...], forever: bytes
) -> None:
    answer, took = await until_closed(short_deadlines, *pieces, every=0.05, forever=forever)
    assert statuses(answer) == ([200] if HEALTH in pieces else [])
    assert took < 4


def of_json(length: int, album: str, headers: dict[str, str]) -> bytes:
    """The head of a request that has a body of this length."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return (
        f"POST /api/v1/albums/{album}/images/tags HTTP/1.1\r\nHost: test\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    ).encode() + "\r\n".join([*lines, "", ""]).encode()


async def test_a_body_that_does_not_come_is_408(
    short_deadlines: Service, album: str, may: TokenFor
) -> None:
    head = of_json(100_000, album, may(album, "image_tag"))
    answer, took = await until_closed(short_deadlines, head, every=0.05, forever=b" ")
    assert statuses(answer) == [408]
    assert b"urn:imageapi:problem:too-slow" in answer
    assert b"connection: close" in answer.lower()
    assert took < 4


async def test_an_upload_that_trickles_is_408_and_leaves_nothing(
    short_deadlines: Service, album: str, may: TokenFor
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in may(album, "image_create").items())
    head = (
        f"POST /api/v1/albums/{album}/images HTTP/1.1\r\nHost: test\r\n{lines}"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\xd8\xff'
    ).encode("latin-1")
    answer, took = await until_closed(short_deadlines, head, every=0.05, forever=b"a")
    assert statuses(answer) == [408]
    assert took < 4


async def test_a_slow_body_that_comes_is_waited_for(
    short_deadlines: Service, album: str, may: TokenFor
) -> None:
    """At twice the least rate, for longer than the patience."""
    body = json.dumps({"public_ids": ["x"], "add": ["a"]}).ljust(24_000).encode()
    head = of_json(len(body), album, {**may(album, "image_tag"), "Connection": "close"})
    pieces = [body[start : start + 800] for start in range(0, len(body), 800)]
    answer, took = await until_closed(short_deadlines, head, *pieces, every=0.1)
    assert statuses(answer) == [422]
    assert took > 2


@pytest.mark.parametrize(("abilities", "status"), [((), 403), (("image_tag",), 413)])
async def test_unwanted_body_is_not_read_forever(
    short_deadlines: Service, album: str, may: TokenFor, abilities: tuple[str, ...], status: int
) -> None:
    head = of_json(10**9, album, may(album, *abilities))
    answer, took = await until_closed(short_deadlines, head, every=0.001, forever=b" " * 4096)
    assert statuses(answer) == [status]
    assert took < 4


@pytest.mark.parametrize(("off_by", "expected"), [(-10, 400), (10, 408), (10**6, 408)])
async def test_form_of_a_wrong_length_leaves_nothing(
    short_deadlines: Service, album: str, may: TokenFor, off_by: int, expected: int
) -> None:
    """Cut off by its length, or waited for in vain."""
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form += pictures.jpeg(seed=4) + b"\r\n--b--\r\n"
    authorization = may(album, "image_create", "image_list")
    path = f"/api/v1/albums/{album}/images"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(form) + off_by}\r\n\r\n"
    )
    answer, _ = await until_closed(short_deadlines, head.encode() + form)
    assert statuses(answer)[0] == expected
    async with httpx.AsyncClient(
        base_url=short_deadlines.address, headers=authorization, trust_env=False, timeout=60
    ) as client:
        assert (await client.get(path)).json() == []


async def test_who_reads_slowly_gets_all_of_it(
    short_deadlines: Service, album: str, may: TokenFor
) -> None:
    """For longer than a body, or a stop in reading, is waited for."""
    headers = may(album, "image_create", "image_list")
    content = pictures.jpeg(seed=1) + bytes(24 * 1024**2)
    async with httpx.AsyncClient(
        base_url=short_deadlines.address, headers=headers, trust_env=False, timeout=60
    ) as client:
        images = f"/api/v1/albums/{album}/images"
        added = await client.post(images, files={"file": content})
        path = added.links["enclosure"]["url"]
    reader, writer = await asyncio.open_connection("127.0.0.1", short_deadlines.port, limit=2**16)
    socket_ = writer.get_extra_info("socket")
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    started = time.monotonic()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(OK)
    read = 0
    while data := await asyncio.wait_for(reader.read(2**16), 20):
        read += len(data)
        await asyncio.sleep(0.01)
    assert read == len(content)
    assert time.monotonic() - started > 2.5  # of one that a body is waited for
    writer.close()


async def test_an_answer_that_is_not_read_is_given_up(
    short_deadlines: Service, imageapi: Command, album: str, may: TokenFor, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record(album, each) for each in range(20_000)]))
    assert imageapi("import", str(tmp_path / "a.json")).returncode == 0
    token = may(album)["Authorization"]
    path = f"/api/v1/albums/{album}/images/untag"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", short_deadlines.port))
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n".encode())
        connection = (client.getsockname(), client.getpeername())

        def is_held() -> bool:
            return any(
                (each.raddr, each.laddr) == connection and each.status == "ESTABLISHED"
                for each in psutil.Process(short_deadlines.process.pid).net_connections()
            )

        async with asyncio.timeout(10):
            while not is_held():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            while is_held():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X" * 2**20,
    ],
    ids=["target", "header", "headers", "endless"],
)
@pytest.mark.parametrize("piece_bytes", [2**20, 1000])
async def test_a_head_that_is_too_large_is_431(
    short_deadlines: Service, head: bytes, piece_bytes: int
) -> None:
    pieces = [head[start : start + piece_bytes] for start in range(0, len(head), piece_bytes)]
    answer, _ = await until_closed(short_deadlines, *pieces)
    assert statuses(answer) in ([431], [])  # what is still on its way may take the answer along
    if len(head) < 2 * MAX_HEAD_BYTES:
        assert b"urn:imageapi:problem:head-too-large" in answer


async def test_trailers_are_no_headers(short_deadlines: Service, album: str, may: TokenFor) -> None:
    """Behind the body nobody says who he is."""
    authorization = may(album, "image_tag")["Authorization"]
    request = (
        f"POST /api/v1/albums/{album}/images/tags HTTP/1.1\r\nHost: test\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"2\r\n{{}}\r\n0\r\nAuthorization: {authorization}\r\n\r\n"
    )
    answer, _ = await until_closed(short_deadlines, request.encode() + LAST)
    assert statuses(answer) == [401, 200]


async def test_endless_trailers_are_given_up(short_deadlines: Service) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    answer, took = await until_closed(short_deadlines, head, forever=b"X: y\r\n" * 100, every=0.01)
    assert statuses(answer) == [405]
    assert took < 5


@pytest.mark.parametrize(("count", "answered"), [(MAX_PIPELINED_REQUESTS, True), (5000, False)])
async def test_requests_may_follow_each_other_but_not_without_end(
    short_deadlines: Service, count: int, answered: bool
) -> None:
    answer, _ = await until_closed(short_deadlines, HEALTH * count + LAST)
    assert (statuses(answer) == [200] * (count + 1)) == answered
    assert set(statuses(answer)) <= {200}
    assert len(statuses(answer)) <= MAX_PIPELINED_REQUESTS + 2


async def test_thousands_of_offered_upgrades_in_one_piece_do_no_harm(
    short_deadlines: Service,
) -> None:
    offer = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer, _ = await until_closed(short_deadlines, offer * 3000)
    assert set(statuses(answer)) <= {200}
    assert (await short_deadlines.raw(LAST)).startswith(OK)


NONSENSE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunks twice": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n"
    ),
    "chunks of a kind": b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "length below nothing": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length with a sign": b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    "length beyond numbers": b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
    "bare CR in a header": b"GET / HTTP/1.1\r\nX: a\rY: b\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n\r\n",
    "chunk that is no number": (
        b"POST /api/v1/albums/a/images/tags HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_refused_and_what_follows_it_is_not_read(
    short_deadlines: Service, nonsense: bytes
) -> None:
    answer, took = await until_closed(short_deadlines, nonsense + HEALTH)
    assert took < 5
    assert 200 not in statuses(answer), answer
    assert all(400 <= status < 500 for status in statuses(answer)), answer
    assert (await short_deadlines.raw(LAST)).startswith(OK)


ODD_TARGETS = [
    *("/api/v1/albums/%2e%2e/images/untag", "/api/v1/albums/..%2f..%2fetc/images/untag"),
    *("//api/v1/albums/a/images/untag", "/api/v1/albums/a/images/untag/"),
    *("/api/v1/albums/a%00b/images/untag", "/api/v1/albums/%ff/images/untag"),
    *("/api/v1/albums/a;b/images/untag", "/API/v1/albums/a/images/untag"),
    *("/assets/../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/docs/parts/../../x"),
    *("/docs/parts/%2e%2e/%2e%2e/pyproject.toml", "http://other/api/v1/nothing", "*", "/%"),
    "/api/v1/albums/" + "a" * 5000 + "/images/untag",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT", "BREW"])
@pytest.mark.parametrize("target", ODD_TARGETS)
async def test_odd_targets_and_methods_lead_nowhere(
    short_deadlines: Service, may: TokenFor, method: str, target: str
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in may("a").items())
    request = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n"
    answer, _ = await until_closed(short_deadlines, request.encode())
    assert all(status in (400, 401, 403, 404, 405) for status in statuses(answer)), answer
    assert b"root:" not in answer
    assert b"[project]" not in answer


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_under_load_drops_no_request(
    imageapi: Command, add: AddRecords, album: str, may: TokenFor, workers: str
) -> None:
    """Everybody who keeps asking on one connection is answered, the last time with its end."""
    await add([record(album)])
    images = f"/api/v1/albums/{album}/images"
    ended: list[str] = []
    answered = [0] * 20
    with imageapi.serving("--workers", workers, log=subprocess.DEVNULL) as service:

        async def ask(name: int) -> None:
            abilities = may(album, "image_list", "image_tag")
            limits = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(
                base_url=service.address,
                headers=abilities,
                limits=limits,
                trust_env=False,
                timeout=60,
            ) as one:
                while True:
                    if name % 4:
                        answer = await one.get(f"{images}/untag")
                    else:
                        path = f"{images}/{record(album)['public_id']}/tags/t{name}"
                        answer = await one.request(random.choice(["PUT", "DELETE"]), path)
                    assert answer.status_code == 200
                    answered[name] += 1
                    if answer.headers.get("Connection") == "close":
                        ended.append("told")
                        return

        asking = [asyncio.create_task(ask(each)) for each in range(20)]
        async with asyncio.timeout(60):
            while min(answered) < 5:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        service.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*asking), 20)
        assert service.process.wait(20) == 0
    assert ended == ["told"] * 20
