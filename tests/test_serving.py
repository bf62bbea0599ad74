"""The service as a process: on its own database, stopped, killed, with several workers."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import time
import traceback
from pathlib import Path

import httpx
import pytest
import structlog

from conftest import Command, Service
from factories import DOCUMENTED_ALBUM, DOCUMENTED_BODY, SAMPLE, record
from fixture_types import TokenFor
from imageapi.logging import configure_logs
from in_process import InProcess


@pytest.fixture
def at_home(environment: dict[str, str], tmp_path: Path) -> Command:
    """Commands on the embedded database of a folder of the test's own."""
    kept = {name: value for name, value in environment.items() if not name.startswith("IMAGEAPI_")}
    return Command(kept, tmp_path)


def token(run: Command | InProcess, album: str) -> dict[str, str]:
    printed = run("token", album).stdout.decode().strip()
    return {"Authorization": f'Token token="{printed}"'}


def listed(service: Service, album: str, headers: dict[str, str]) -> httpx.Response:
    url = f"{service.address}/api/v1/albums/{album}/images/untag"
    return httpx.get(url, headers={**headers, "Accept-Encoding": "identity"}, timeout=30)


def gone(data_dir: Path, seconds: float = 30) -> bool:
    """Whether PostgreSQL stops cleanly within the time."""
    deadline = time.monotonic() + seconds
    while (data_dir / "postgres/postmaster.pid").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_first_run_to_the_documented_bytes(at_home: Command) -> None:
    assert at_home("import", str(SAMPLE)).returncode == 0
    with at_home.serving("--show-curl", DOCUMENTED_ALBUM) as service:
        assert service.process.stdout is not None
        line = next(
            line for line in iter(service.process.stdout.readline, b"") if line.startswith(b"curl")
        )
        answer = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
        assert answer.stdout == DOCUMENTED_BODY
        # A second command beside the running service shares its database.
        assert at_home("export", DOCUMENTED_ALBUM).stdout == DOCUMENTED_BODY
        assert listed(service, DOCUMENTED_ALBUM, token(at_home, DOCUMENTED_ALBUM)).is_success
    assert service.process.returncode == 0
    assert gone(at_home.folder / "data", 0)
    secret = at_home.folder / "data/token_secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert len(secret.read_text().strip()) >= 32


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_service_has_all_that_was_committed(at_home: Command, workers: str) -> None:
    here = InProcess(at_home.environment, at_home.folder)
    here("import", str(SAMPLE))
    headers = token(here, DOCUMENTED_ALBUM)
    with contextlib.suppress(AssertionError), at_home.serving("--workers", workers) as service:
        assert listed(service, DOCUMENTED_ALBUM, headers).content == DOCUMENTED_BODY
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
    with at_home.serving() as service:
        assert listed(service, DOCUMENTED_ALBUM, headers).content == DOCUMENTED_BODY
    assert gone(at_home.folder / "data")


async def refusing(port: int) -> None:
    """Return when nothing listens on the port any more."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                socket.create_connection(("127.0.0.1", port), 1).close()
                await asyncio.sleep(0.01)


async def test_sigterm_lets_requests_under_way_finish(
    imageapi: Command, album: str, may: TokenFor, tmp_path: Path
) -> None:
    """A client that has read a little of a long answer gets the rest of it."""
    (tmp_path / "a.json").write_text(
        json.dumps([record(album, number) for number in range(20_000)])
    )
    assert imageapi("import", str(tmp_path / "a.json")).returncode == 0
    with imageapi.serving() as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=2**12)
        path = f"/api/v1/albums/{album}/images/untag"
        authorization = may(album)["Authorization"]
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n".encode()
        )
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        service.process.send_signal(signal.SIGTERM)
        await refusing(service.port)
        assert service.process.poll() is None
        body = b""
        while size := int(await asyncio.wait_for(reader.readuntil(b"\r\n"), 60), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert len(json.loads(body)) == 20_000
        writer.close()
        assert service.process.wait(20) == 0


CHANGE = b'{"public_ids":["00000000-0000-4000-8000-000000000000"],"add":["a"]}'
CHUNKED = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, CHANGE[:9], len(CHANGE) - 9, CHANGE[9:])


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(CHANGE), CHANGE),
        (b"Transfer-Encoding: chunked", CHUNKED),
        (b"Content-Length: 0", b""),
        (b"X-Nothing: at all", b""),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2, 50])
async def test_an_offered_upgrade_is_passed_over(
    service: Service,
    may: TokenFor,
    album: str,
    upgrade: bytes,
    framing: bytes,
    body: bytes,
    pieces: int,
) -> None:
    """Java's client offers HTTP/2 with every request."""
    authorization = may(album, "image_tag", "image_list")["Authorization"].encode()
    offering = (
        b"POST /api/v1/albums/%b/images/tags HTTP/1.1\r\nHost: test\r\nAuthorization: %b\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAEAAEAA\r\n"
        b"Content-Type: application/json\r\n%b\r\n\r\n%b"
    ) % (album.encode(), authorization, upgrade, framing, body)
    plain = b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    sent = offering + plain
    length = -(-len(sent) // pieces)
    for start in range(0, len(sent), length):
        writer.write(sent[start : start + length])
        await writer.drain()
        await asyncio.sleep(0 if pieces == 1 else 0.002)
    answers = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    assert answers.startswith(b"HTTP/1.1 404" if body else b"HTTP/1.1 422")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.endswith(b'{"status":"ok"}')


def test_several_workers_answer_and_stop(imageapi: Command, may: TokenFor, album: str) -> None:
    with imageapi.serving("--workers", "3") as service:
        for _ in range(20):
            answer = listed(service, album, may(album))
            assert (answer.status_code, answer.content) == (200, b"[]")
    assert service.process.returncode == 0


def test_address_in_use_is_one_line(imageapi: Command, service: Service) -> None:
    result = imageapi("serve", "--port", str(service.port))
    assert result.returncode == 1
    expected = f"imageapi: cannot listen on 127.0.0.1 port {service.port}: Address already in use\n"
    assert result.stderr.decode() == expected


def test_log_holds_no_token_and_no_query(imageapi: Command, may: TokenFor, album: str) -> None:
    headers = may(album)
    token_text = headers["Authorization"].split('"')[1]
    with imageapi.serving() as service:
        for path in (
            f"/api/v1/albums/{album}/images/untag?token={token_text}",
            f"/api/v1/albums/{token_text[:30]}/images/untag",
            f"/{token_text}",
        ):
            httpx.get(service.address + path, headers=headers, timeout=60)
        service.process.send_signal(signal.SIGTERM)
        _, errors = service.process.communicate(timeout=30)
    lines = [json.loads(line) for line in errors.decode().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["route"] for line in requests] == ["list_untagged_images"] * 2 + [None]
    assert [line["status"] for line in requests] == [200, 403, 404]
    assert token_text[:30] not in errors.decode()


def test_ctrl_c_stops_it_as_sigterm_does(imageapi: Command) -> None:
    with imageapi.serving() as service:
        assert httpx.get(f"{service.address}/healthz", timeout=60).status_code == 200
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(30) == 0


@pytest.mark.parametrize("how", ["exception", "text"])
def test_log_names_an_exception_without_its_stack(
    capfd: pytest.CaptureFixture[str], how: str
) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    configure_logs()
    try:
        _fail_loudly(how)
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = before
    (line,) = capfd.readouterr().err.splitlines()
    assert "ZeroDivisionError" in line
    assert "Traceback" not in line
    assert "/" not in line


def _fail_loudly(how: str) -> None:
    log = logging.getLogger("uvicorn.error")
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        if how == "exception":
            log.error("Exception in ASGI application\n", exc_info=error)  # noqa: TRY400
        else:
            log.error(traceback.format_exc())  # noqa: TRY400


def test_data_directory_that_cannot_be_is_one_line(at_home: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    here = InProcess(at_home.environment, at_home.folder)
    for run, *command in (
        (at_home, "serve", "--port", "0"),
        (here, "export", "a"),
        (here, "import", str(SAMPLE)),
    ):
        result = run(*command, IMAGEAPI_DATA_DIR=str(file))
        assert result.returncode == 1
        assert result.stdout == b""
        assert result.stderr.startswith(b"imageapi: ")
        assert result.stderr.count(b"\n") == 1
