"""Faults: clients get 503 in time, no answered change is lost, and nothing has to be restarted."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

import pictures
from conftest import IMAGEAPI, Command, Service
from factories import HEADER, claims, record, signed
from faults import (
    ALBUM,
    Clients,
    SlowRelay,
    checked,
    client_of,
    longest_seconds,
    processes_of,
    stopped,
    under_load,
)
from imageapi.auth.claims import ABILITIES
from imageapi.deadlines import Deadlines
from imageapi.embedded_postgres.client import run_embedded_server
from in_process import InProcess
from s3 import Bucket, s3_server
from short_deadlines import A_TENTH, PROGRAM

RECORDS = [record(ALBUM, number) for number in range(20)]
PUBLIC_IDS = [each["public_id"] for each in RECORDS]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A PostgreSQL of the test's own: its address, and its data directory."""
    with run_embedded_server(tmp_path / "data") as dsn:
        yield dsn, tmp_path / "data"


@pytest.fixture
def command(cluster: tuple[str, Path], environment: dict[str, str], tmp_path: Path) -> Command:
    """Commands on that PostgreSQL, with images in it."""
    command = Command({**environment, "IMAGEAPI_DATABASE_URL": cluster[0]}, tmp_path)
    run = InProcess(command.environment, tmp_path)
    assert run("import", "-", stdin=json.dumps(RECORDS).encode()).returncode == 0
    return command


@pytest.fixture
def short_deadlines(command: Command) -> Command:
    """Serves that PostgreSQL with a tenth of the deadlines."""
    return Command(command.environment, command.folder, PROGRAM)


@pytest.fixture
def fired_at(command: Command, tmp_path: Path) -> Iterator[Service]:
    """The service over that PostgreSQL."""
    with (tmp_path / "log").open("wb") as log, command.serving(log=log) as service:
        yield service


@pytest.fixture
def impatient_service(short_deadlines: Command, tmp_path: Path) -> Iterator[Service]:
    """The same with a tenth of the deadlines."""
    with (tmp_path / "log").open("wb") as log, short_deadlines.serving(log=log) as service:
        yield service


async def test_database_that_is_killed(
    fired_at: Service, cluster: tuple[str, Path], tmp_path: Path
) -> None:
    async with under_load(fired_at.address, PUBLIC_IDS) as clients:
        await asyncio.sleep(1)
        for _ in range(2):
            os.kill(processes_of(cluster[1])[0], signal.SIGKILL)
            await asyncio.sleep(1)
        assert await clients.recovered() < 10
        await asyncio.sleep(0.5)
        await checked(clients)
        assert clients.seen.statuses[503] > 0
        assert set(clients.seen.kinds) == {"database-away"}
    requests = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    away = [each for each in requests if each.get("status") == 503]
    assert {"list_untagged_images", "list_tags", "tag_image"} <= {each["route"] for each in away}
    assert all(each["album"] == ALBUM for each in away if each["route"] == "list_untagged_images")


async def test_backends_that_are_killed(fired_at: Service, cluster: tuple[str, Path]) -> None:
    """As by an operator who ends sessions, or a failover: at any moment of a change."""
    administrator = await asyncpg.connect(cluster[0])
    async with under_load(fired_at.address, PUBLIC_IDS) as clients:
        clients.pause_seconds = 0.0
        for _ in range(40):
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND application_name = 'imageapi'"
            )
            await asyncio.sleep(0.05)
        assert await clients.recovered() < 5
        await checked(clients)
    await administrator.close()


async def test_database_that_hangs(impatient_service: Service, cluster: tuple[str, Path]) -> None:
    deadlines = A_TENTH.database
    async with under_load(impatient_service.address, PUBLIC_IDS, deadlines=deadlines) as clients:
        await asyncio.sleep(0.5)
        with stopped(processes_of(cluster[1])):
            await asyncio.sleep(longest_seconds(deadlines) + 2)
        assert await clients.recovered() < 10
        await checked(clients)
        assert clients.seen.statuses[503] > 0


async def test_database_behind_a_lock(fired_at: Service, cluster: tuple[str, Path]) -> None:
    """A migration by hand, say: nobody waits for it forever. With the deadlines of production."""
    administrator = await asyncpg.connect(cluster[0])
    async with under_load(fired_at.address, PUBLIC_IDS) as clients:
        await asyncio.sleep(0.5)
        async with administrator.transaction():
            await administrator.execute("LOCK TABLE albums, images IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(Deadlines().database.change_seconds + 3)
            asking = await administrator.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )
            assert asking < 20  # what was given up ends at the server too
        assert await clients.recovered() < 10
        await checked(clients)
        assert clients.seen.statuses[503] > 0
    await administrator.close()


async def test_database_without_a_free_connection(
    fired_at: Service, cluster: tuple[str, Path]
) -> None:
    async with AsyncExitStack() as held:

        async def take_all() -> None:
            while True:
                try:
                    connection = await asyncpg.connect(cluster[0])
                except asyncpg.PostgresError:
                    return
                held.push_async_callback(connection.close)

        await take_all()
        async with client_of(fired_at.address) as client:
            album = f"/api/v1/albums/{ALBUM}"
            for _ in range(2):
                for method, path, more in (
                    ("GET", "/tags", {}),
                    ("GET", "/images/untag", {}),
                    ("PUT", f"/images/{PUBLIC_IDS[0]}/tags/a", {}),
                    ("POST", "/images", upload(1)),
                ):
                    answer = await client.request(method, album + path, **more)
                    assert answer.status_code == 503, path
                    assert answer.json()["type"] == "urn:imageapi:problem:database-away"
    async with under_load(fired_at.address, PUBLIC_IDS) as clients:
        assert await clients.recovered() < 10
        await checked(clients)


#: What PostgreSQL says in the middle of a change, and may not say the next time.
REFUSALS = [
    *("disk_full", "deadlock_detected", "lock_not_available", "io_error", "out_of_memory"),
    *("idle_in_transaction_session_timeout", "read_only_sql_transaction", "query_canceled"),
]


async def test_changes_that_the_database_refuses(
    fired_at: Service, cluster: tuple[str, Path]
) -> None:
    """Reads go on, no change is half made."""
    administrator = await asyncpg.connect(cluster[0])
    await administrator.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'not now' USING ERRCODE = (SELECT code FROM refusal); END $$;"
        "CREATE TABLE refusal AS SELECT 'disk_full' AS code;"
        "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    async with under_load(fired_at.address, PUBLIC_IDS) as clients:
        for code in REFUSALS:
            await administrator.execute("UPDATE refusal SET code = $1", code)
            seen = clients.seen.statuses
            await clients.seeing({200: seen[200] + 5, 503: seen[503] + 9})
        assert clients.tagged == set()
        answer = await clients.service.get(f"/api/v1/albums/{ALBUM}/images")
        assert {len(image["infos"]["tags"]) for image in answer.json()} == {1}
        await administrator.execute("DROP TRIGGER refuse ON events")
        assert await clients.recovered() < 5
        await clients.seeing({200: clients.seen.statuses[200] + 20})
        await checked(clients)
        assert set(clients.seen.kinds) == {"database-away"}
    await administrator.close()


async def test_database_that_is_slow(impatient_service: Service, cluster: tuple[str, Path]) -> None:
    """Changes of an album wait for each other; a wait that is too long is a 503."""
    administrator = await asyncpg.connect(cluster[0])
    await administrator.execute(
        "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END $$;"
        "CREATE TRIGGER rest BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION rest()"
    )
    async with under_load(
        impatient_service.address, PUBLIC_IDS, writers=8, deadlines=A_TENTH.database
    ) as clients:
        await clients.seeing({200: 50, 503: 2})
        assert clients.tagged
        await administrator.execute("DROP TRIGGER rest ON events")
        assert await clients.recovered() < longest_seconds(A_TENTH.database)
        await checked(clients)
        assert set(clients.seen.kinds) == {"database-away"}
    await administrator.close()


async def test_schema_that_is_not_current(fired_at: Service, cluster: tuple[str, Path]) -> None:
    administrator = await asyncpg.connect(cluster[0])
    await administrator.execute("ALTER TABLE images RENAME TO elsewhere")
    async with client_of(fired_at.address) as client:
        images = f"/api/v1/albums/{ALBUM}/images"
        for method, path in (
            *(("GET", f"{images}/untag"), ("GET", images), ("GET", f"/api/v1/albums/{ALBUM}/tags")),
            ("PUT", f"{images}/{PUBLIC_IDS[0]}/tags/a"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), path
            assert answer.json()["type"] == "urn:imageapi:problem:schema-outdated"
    await administrator.close()


def upload(seed: int) -> dict[str, Any]:
    return {"files": {"file": ("a.jpg", pictures.jpeg(seed=seed))}}


@asynccontextmanager
async def over_s3(command: Command, log: Path) -> AsyncIterator[tuple[Service, SlowRelay, Bucket]]:
    """The service over a bucket, with a relay between that holds back or breaks off."""
    with s3_server() as endpoint:
        bucket = Bucket(endpoint, "under-fire")
        host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
        async with SlowRelay(host, int(port)) as relay:
            more = {
                **bucket.environment,
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}",
                "IMAGEAPI_STORE_URL": f"s3://{bucket.name}",
            }
            with log.open("wb") as file, command.serving(log=file, **more) as service:
                yield service, relay, bucket


@pytest.mark.parametrize("fault", ["hangs", "breaks off"])
async def test_store_that_fails(short_deadlines: Command, tmp_path: Path, fault: str) -> None:
    images = f"/api/v1/albums/{ALBUM}/images"
    async with (
        over_s3(short_deadlines, tmp_path / "log") as (service, relay, _),
        client_of(service.address) as client,
        asyncio.timeout(120),
    ):
        first = await client.post(images, **upload(1))
        assert first.status_code == 201
        relay.hold()
        if fault == "breaks off":
            relay.break_off()
        started = asyncio.get_running_loop().time()
        asked = [
            client.post(images, **upload(2)),
            client.get(first.json()["thumbnails"]["full"]),
            client.get(f"{images}/untag"),
            client.put(f"{images}/{PUBLIC_IDS[0]}/tags/while-it-is-away"),
        ]
        posted, shown, listed, tagged = await asyncio.gather(*asked)
        took = asyncio.get_running_loop().time() - started
        assert [posted.status_code, shown.status_code] == [503, 503]
        assert posted.json()["type"] == "urn:imageapi:problem:store-away"
        assert [listed.status_code, tagged.status_code] == [200, 200]
        deadlines = A_TENTH.store
        assert took < deadlines.write_seconds + deadlines.response_seconds + 5
        relay.let_go()
        relay.break_off()
        assert (await client.post(images, **upload(2))).status_code in (200, 201)
        assert (await client.get(first.json()["thumbnails"]["full"])).status_code == 200
        untagged = (await client.get(f"{images}/untag")).json()
        assert len(untagged) == len(RECORDS) - 1 + 2


async def test_clients_that_leave(command: Command, tmp_path: Path) -> None:
    """In the middle of uploads, of lists, and of what they have just asked: nothing stays."""
    store = tmp_path / "pictures"
    images = f"/api/v1/albums/{ALBUM}/images"
    with (
        (tmp_path / "log").open("wb") as log,
        command.serving(log=log, IMAGEAPI_STORE_URL=str(store)) as service,
    ):
        token = signed(HEADER, claims(ALBUM, *ABILITIES))
        head = f"Host: a\r\nAuthorization: Bearer {token}\r\n"
        form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        requests = [
            f"POST {images} HTTP/1.1\r\n{head}{form}{part}".encode()
            + pictures.jpeg()
            + bytes(10**6),
            f"GET {images} HTTP/1.1\r\n{head}\r\n".encode(),
            f"GET {images}/untag HTTP/1.1\r\n{head}\r\n".encode() * 10,
            f"PUT {images}/{PUBLIC_IDS[0]}/tags/left HTTP/1.1\r\n{head}\r\n".encode(),
        ]
        for number in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(requests[number % len(requests)])
            if number % 3:
                await asyncio.sleep(0.005)
            writer.transport.abort()
        async with client_of(service.address) as client:
            clients = Clients(client, PUBLIC_IDS)
            assert await clients.recovered() < 10
            async with asyncio.timeout(10):
                while list((store / ".incoming").iterdir()):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
            listed = (await client.get(images)).json()
            assert {each["public_id"] for each in listed} == set(PUBLIC_IDS)
            counts = (await client.get("/metrics")).text
            assert "imageapi_requests_under_way 1.0" in counts
            assert "imageapi_uploads_under_way 0.0" in counts
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line for line in lines if line["level"] != "info"] == []


async def test_service_without_a_free_descriptor(command: Command, tmp_path: Path) -> None:
    """A good token is not taken for a bad one; when there are some again, all is as before."""
    limited = Command(
        command.environment, command.folder, ["sh", "-c", 'ulimit -n 80; exec "$@"', "-", IMAGEAPI]
    )
    with (tmp_path / "log").open("wb") as log, limited.serving(log=log) as service:
        idle = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(120)]
        connections = psutil.Process(service.process.pid).net_connections
        async with asyncio.timeout(8):
            while len(connections()) < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        statuses = set()
        for number, (reader, writer) in enumerate(idle):
            path = (f"/api/v1/albums/{ALBUM}/tags", "/docs/parts/swagger-ui.css")[number % 2]
            token = signed(HEADER, claims(ALBUM, *ABILITIES, x=len(statuses)))
            with suppress(OSError, asyncio.IncompleteReadError):
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: a\r\n"
                    f"Authorization: Bearer {token}\r\n\r\n".encode()
                )
                line = await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
                statuses.add(int(line.split()[1]))
        assert statuses == {503}
        for _, writer in idle:
            writer.close()
        # While no descriptor is free, libuv accepts a new connection only to close it.
        async with asyncio.timeout(8):
            while len(connections()) >= 50:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with client_of(service.address) as client:
            clients = Clients(client, PUBLIC_IDS)
            assert await clients.recovered() < 20
