"""A primary with a synchronous standby, several hosts in the URL: what becomes of a failover."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from conftest import Command, Service
from factories import record
from faults import ALBUM, checked, under_load
from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.client import run_embedded_server
from imageapi.embedded_postgres.data_directory import DataDirectory
from imageapi.embedded_postgres.privileges import Account, choose_account

RECORDS = [record(ALBUM, number) for number in range(20)]
PUBLIC_IDS = [each["public_id"] for each in RECORDS]
PROGRAMS = Binaries.locate()


class Server:
    """A PostgreSQL on a data directory that is there, without anybody who starts it again."""

    def __init__(self, cluster: Path, sockets: Path, account: Account | None) -> None:
        self.sockets = sockets
        self._account = account
        sockets.mkdir(mode=0o700)
        if account is not None:
            os.chown(sockets, account.uid, account.gid)
        settings = [f"-cunix_socket_directories={sockets}", "-clisten_addresses="]
        with (sockets / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS.postgres, "-D", cluster, *settings],
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=account.become if account else None,  # noqa: PLW1509
            )

    @property
    def url(self) -> str:
        return f"postgresql://imageapi@/imageapi?host={self.sockets}&port=5432"

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A session of an administrator's, once there can be one."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return await asyncpg.connect(self.url)
            except (OSError, asyncpg.PostgresError):
                assert self.process.poll() is None, (self.sockets / "log").read_text()
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """As a machine that is switched off."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Close all sessions, write down what is to be, and end."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@contextmanager
def server_on(cluster: Path, sockets: Path, account: Account | None) -> Iterator[Server]:
    server = Server(cluster, sockets, account)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


class Pair:
    """The primary, and what is needed to make its standby."""

    def __init__(self, folder: Path, account: Account | None, primary: Server) -> None:
        self.folder = folder
        self.account = account
        self.primary = primary
        self.standby_sockets = folder / "s"
        hosts = f"{primary.sockets},{self.standby_sockets}"
        ports = "port=5432,5432"
        self.url = f"postgresql://imageapi@/imageapi?host={hosts}&{ports}"

    @contextmanager
    def standby(self) -> Iterator[Server]:
        """A standby that follows, begun with a copy of the primary."""
        copy = self.folder / "standby"
        copy.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(copy, self.account.uid, self.account.gid)
        asked = [
            "--pgdata",
            copy,
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--wal-method=stream",
        ]
        done = subprocess.run(
            [PROGRAMS.postgres.with_name("pg_basebackup"), *asked, "--dbname", self.primary.url],
            capture_output=True,
            cwd="/",
            check=False,
            preexec_fn=self.account.become if self.account else None,
        )
        assert done.returncode == 0, done.stderr.decode()
        with server_on(copy, self.standby_sockets, self.account) as standby:
            yield standby


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    data = tmp_path / "data"
    with run_embedded_server(data):
        account = choose_account(DataDirectory(data), [PROGRAMS.postgres, PROGRAMS.initdb])
    with server_on(data / "postgres", tmp_path / "p", account) as primary:
        yield Pair(tmp_path, account, primary)


@contextmanager
def service_over(pair: Pair, environment: dict[str, str], folder: Path) -> Iterator[Service]:
    command = Command({**environment, "IMAGEAPI_DATABASE_URL": pair.url}, folder)
    assert command("import", "-", stdin=json.dumps(RECORDS).encode()).returncode == 0
    with (folder / "log").open("wb") as log, command.serving("--workers", "2", log=log) as service:
        yield service


async def follow_synchronously(pair: Pair) -> None:
    """Let changes be answered once the standby has them, too."""
    administrator = await pair.primary.connect()
    await administrator.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await administrator.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        following = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        while not await administrator.fetchval(following):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    await administrator.close()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_failover_loses_nothing_and_needs_no_restart(
    pair: Pair, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    await (await pair.primary.connect()).close()
    with service_over(pair, environment, tmp_path) as service, pair.standby() as standby:
        await follow_synchronously(pair)
        async with under_load(service.address, PUBLIC_IDS) as clients:
            await clients.seeing({200: 50})
            if how == "killed":
                pair.primary.kill()
            else:
                await asyncio.to_thread(pair.primary.stop)
            await clients.seeing({503: 20})
            administrator = await standby.connect()
            await administrator.execute("SELECT pg_promote()")
            await administrator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await administrator.execute("SELECT pg_reload_conf()")
            await administrator.close()
            assert await clients.recovered() < 20
            before = clients.seen.statuses[200]
            await clients.seeing({200: before + 50})
            await checked(clients)
            assert set(clients.seen.kinds) == {"database-away"}
