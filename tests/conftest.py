"""One real PostgreSQL for the whole run, the real application over it, and who calls it."""

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import asyncpg
import httpx
import hypothesis
import pytest
from fastapi import FastAPI

from factories import DOCUMENTED_ALBUM, DOCUMENTED_RECORD, HEADER, SECRET, claims, signed
from fixture_types import AddRecords, TokenFor
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.app import create_app
from imageapi.database.bulk_import import add_images
from imageapi.database.copy_format import CopyLines, format_lines
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.embedded_postgres.client import run_embedded_server
from imageapi.records.parse import parse_record
from imageapi.settings import Settings
from imageapi.transfer.record_reader import build_new_image
from in_process import InProcess
from pooler import PGBOUNCER, pgbouncer

# The same examples each time, on however slow a machine; --hypothesis-profile=explore goes further.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("same")

IMAGEAPI = Path(sys.executable).with_name("imageapi")

#: Ways from the service to its database.
WAYS_TO_THE_DATABASE = ("direct", "pgbouncer", "hosts")
#: Ways from the client to the service: one service of three workers, or two services in turn.
WAYS_TO_THE_SERVICE = ("workers", "services")
WAYS = (*WAYS_TO_THE_DATABASE, *WAYS_TO_THE_SERVICE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-examples",
        action="store_true",
        help="write what test_openapi.py sees into the OpenAPI document's examples",
    )
    parser.addoption(
        "--through",
        choices=WAYS,
        action="append",
        help="run every test by this way, and by each other that is given; by default tests "
        "marked every_way run by every way, the others directly",
    )
    parser.addoption(
        "--at-least",
        type=int,
        default=0,
        help="fail when fewer tests pass, so that a run of too few tests is no success",
    )


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run the tests: one more than there are cores, 4 at most.

    Many tests wait for a service to start, to end or to give up. One more process uses that time,
    a second one more would make tests of tight moments slower than they allow for.
    """
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test by the ways that can change its outcome.

    A test without `replicas` asks no service in another process, and a test marked `inside` needs
    the application in this one: ways to the service are nothing to them. The parameter is that of
    a session fixture, so pytest groups the tests by it, and each way is set up once in a process.
    """
    if "through" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker
    through = metafunc.config.getoption("--through")
    ways = through or (WAYS if mark("every_way") else ("direct",))
    if "replicas" not in metafunc.fixturenames or mark("inside"):
        ways = [way for way in ways if way in WAYS_TO_THE_DATABASE]
    ids = [pytest.HIDDEN_PARAM if way == "direct" else way for way in ways]
    metafunc.parametrize("way", ways, ids=ids, indirect=True, scope="session")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if is_too_few(config):
        terminalreporter.write_line(
            f"Fewer than {config.getoption('--at-least')} tests passed.", red=True
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which fewer tests passed than `--at-least`."""
    if is_too_few(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_too_few(config: pytest.Config) -> bool:
    """Whether too few tests passed, asked of the process that knows the results of all."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return False
    return len(reporter.stats.get("passed", ())) < config.getoption("--at-least")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remove the settings of the person who runs the tests, and hide their `.env` file."""
    for name in [name for name in os.environ if name.startswith("IMAGEAPI_")]:
        del os.environ[name]
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded PostgreSQL, stopped at the end."""
    with run_embedded_server(tmp_path_factory.mktemp("data")) as dsn:
        yield dsn


@asynccontextmanager
async def empty_database(server: str, name: str) -> AsyncIterator[str]:
    """The address of a database with nothing in it, not even a schema."""
    administrator = await asyncpg.connect(server)
    await administrator.execute(f"CREATE DATABASE {name}")
    try:
        yield server.replace("/imageapi?", f"/{name}?")
    finally:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()


@pytest.fixture
async def empty_dsn(server: str) -> AsyncIterator[str]:
    """A database of the test's own."""
    async with empty_database(server, "of_a_test") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def way(request: pytest.FixtureRequest) -> str:
    """How the service reaches its database, or clients the service; see `pytest_generate_tests`."""
    return str(request.param)


@pytest.fixture(scope="session")
def through(
    way: str, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The settings that lead the service to its database."""
    if way == "pgbouncer":
        if PGBOUNCER is None:
            assert "CI" not in os.environ, "CI installs pgbouncer"
            pytest.skip("pgbouncer is not installed; CI runs this")
        with pgbouncer(server, tmp_path_factory.mktemp("pgbouncer")) as dsn:
            yield {"database_url": dsn, "database_pooler": "true"}
    elif way == "hosts":  # the first of them is not there
        folder = tmp_path_factory.mktemp("nobody")
        url = server.replace("?host=", f"?host={folder},").replace("port=5432", "port=5432,5432")
        yield {"database_url": f"{url}&target_session_attrs=read-write"}
    else:
        yield {"database_url": server}


@pytest.fixture(scope="session")
def settings(through: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(**through, token_secret=SECRET, data_dir=tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="session")
async def database(server: str) -> AsyncIterator[Database]:
    """The session's database, migrated."""
    database = Database(server)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def app(database: Database, settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
def replicas(
    way: str, imageapi: "Command", database: Database, settings: Settings
) -> Iterator[list["Service"]]:
    """The processes behind `client`: one of three workers, two services, or none."""
    workers, count = {"workers": ("3", 1), "services": ("1", 2)}.get(way, ("", 0))
    data = {"IMAGEAPI_DATA_DIR": str(settings.data_dir)}
    with ExitStack() as serving:
        yield [
            serving.enter_context(
                imageapi.serving("--workers", workers, log=subprocess.DEVNULL, **data)
            )
            for _ in range(count)
        ]


@pytest.fixture(scope="session")
async def client(app: FastAPI, replicas: list["Service"]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application itself, without a socket between, or of its replicas."""
    if replicas:
        address, turns = replicas[0].address, InTurn(replicas)
        async with httpx.AsyncClient(base_url=address, transport=turns, timeout=60) as client:
            yield client
        return
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class InTurn(httpx.AsyncHTTPTransport):
    """Asks one service after the other, as a balancer before them does."""

    def __init__(self, services: Sequence["Service"]) -> None:
        super().__init__()
        self._ports = itertools.cycle([service.port for service in services])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._ports))
        return await super().handle_async_request(request)


@pytest.fixture
def album() -> str:
    """An album of the test's own: tests share the database, never an album."""
    return f"album-{uuid.uuid4()}"


@pytest.fixture
def add(database: Database, settings: Settings) -> AddRecords:
    async def add(records: Iterable[dict[str, Any]]) -> list[str]:
        serializer = RecordSerializer(settings.time_zone, settings.sizes)
        images = [build_new_image(parse_record(each), serializer) for each in records]

        async def incoming() -> AsyncIterator[CopyLines]:
            yield format_lines(images)

        await add_images(database, incoming(), serializer.name)
        return [image.record for image in images]

    return add


def token_for(album_id: str, *abilities: str) -> dict[str, str]:
    """The header of somebody who may do this in the album: by default, list."""
    token = signed(HEADER, claims(album_id, *(abilities or ("image_list",))))
    return {"Authorization": f'Token token="{token}"'}


@pytest.fixture
def may() -> TokenFor:
    return token_for


class Command:
    """`imageapi` as a person runs it, on the session's database."""

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        program: Sequence[str | Path] = (IMAGEAPI,),
    ) -> None:
        self.environment = environment
        self.folder = folder
        self._program = program

    def __call__(self, *arguments: str, stdin: bytes = b"", **more: str) -> Any:
        return subprocess.run(
            [*self._program, *arguments],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **more},
            timeout=120,
            check=False,
        )

    @contextmanager
    def serving(
        self, *arguments: str, log: int | IO[bytes] = subprocess.PIPE, **more: str
    ) -> Iterator["Service"]:
        """The service as a process of its own on a free port, stopped by SIGTERM at the end.

        A pipe that nobody reads holds 64 KiB of its log: then the service waits.
        """
        process = subprocess.Popen(
            [*self._program, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.folder,
            env={**self.environment, **more},
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline().decode()
            if "listens on http" not in first:
                _, errors = process.communicate(timeout=60)
                raise AssertionError(f"not serving: {first}{errors.decode()}")
            yield Service(process, first.split()[4].rstrip(","))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


class Service:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self.process = process
        self.address = address
        self.port = int(address.rpartition(":")[2])

    async def exchange(self, request: bytes) -> bytes:
        """The answer to the request; a second request shows that it ends where it says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        has_body = length is not None and not request.startswith(b"HEAD")
        body = await reader.readexactly(int(length[1])) if length and has_body else b""
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()
        return head + body

    async def raw(self, request: bytes) -> bytes:
        """Whatever comes back for the bytes until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.fixture(scope="session")
def environment(through: dict[str, str]) -> dict[str, str]:
    """What the commands see: the session's database, and nothing of the tester's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    led = {f"IMAGEAPI_{name.upper()}": value for name, value in through.items()}
    return {**kept, **led, "IMAGEAPI_TOKEN_SECRET": SECRET}


@pytest.fixture(scope="session")
def imageapi(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(environment, tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="session")
def in_process(imageapi: Command) -> InProcess:
    """The same commands, without a process for each: for what is refused, or only read."""
    return InProcess(imageapi.environment, imageapi.folder)


@pytest.fixture(scope="session")
def service(
    imageapi: Command,
    database: Database,
    replicas: list[Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """The service over a socket, with the documented record in it."""
    imported = imageapi("import", "-", stdin=json.dumps([DOCUMENTED_RECORD]).encode())
    assert imported.returncode == 0, imported.stderr
    if replicas:
        yield replicas[0]
        return
    log_path = tmp_path_factory.mktemp("service") / "log"
    with log_path.open("wb") as log, imageapi.serving(log=log) as service:
        yield service


@pytest.fixture
def documented_token() -> str:
    return signed(HEADER, claims(DOCUMENTED_ALBUM, "image_list"))
