"""Disks that are really full: small file systems of the tests' own, filled to the last byte."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest

import pictures
from conftest import Command
from embedded_processes import postmaster_pid
from factories import record
from faults import ALBUM, checked, client_of, under_load
from imageapi.embedded_postgres.client import run_embedded_server

RECORDS = [record(ALBUM, number) for number in range(20)]
PUBLIC_IDS = [each["public_id"] for each in RECORDS]
IMAGES = f"/api/v1/albums/{ALBUM}/images"


class Disk:
    """A small disk; what fills it can be taken away again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("ab", buffering=0) as file:
            for block in (bytes(2**20), bytes(2**12)):
                with suppress(OSError):
                    while True:
                        file.write(block)

    def make_room(self) -> None:
        """Take away what filled it."""
        self._filler.unlink()


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A file system in memory of so many megabytes."""
    root = tmp_path / "disk"
    root.mkdir()
    options = f"size={request.param}M,mode=755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", root], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        assert "CI" not in os.environ, mounted.stderr
        pytest.skip("no file system can be mounted here: only root may; CI runs this")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize("disk", [150], indirect=True)
async def test_database_on_a_full_disk(
    disk: Disk, environment: dict[str, str], tmp_path: Path
) -> None:
    """The embedded one: changes are refused, then PostgreSQL ends, and comes back with the room."""
    data_dir = disk.root / "data"
    own = {name: value for name, value in environment.items() if "DATABASE" not in name}
    command = Command({**own, "IMAGEAPI_DATA_DIR": str(data_dir)}, tmp_path)
    assert command("import", "-", stdin=json.dumps(RECORDS).encode()).returncode == 0
    with (tmp_path / "log").open("wb") as log, command.serving(log=log) as service:
        before = postmaster_pid(data_dir)
        async with under_load(service.address, PUBLIC_IDS) as clients:
            await asyncio.sleep(1)
            disk.fill()
            await asyncio.sleep(1)
            await end_what_is_written_ahead(data_dir)
            await asyncio.sleep(1)  # what was answered before is counted
            answered_before = clients.seen.statuses[200]
            await asyncio.sleep(2)
            assert clients.seen.statuses[200] == answered_before
            disk.make_room()
            assert await clients.recovered(60) < 60  # PostgreSQL may have to be started again
            await asyncio.sleep(0.5)
            await checked(clients)
            assert set(clients.seen.kinds) == {"database-away"}
            assert postmaster_pid(data_dir) != before


async def end_what_is_written_ahead(data_dir: Path) -> None:
    """Have PostgreSQL need a new file for its log: it ends, as where all of them are full."""
    with run_embedded_server(data_dir) as dsn:
        administrator = await asyncpg.connect(dsn)
        async with asyncio.timeout(20):
            while not administrator.is_closed():
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await administrator.execute(
                        "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()"
                    )


@pytest.mark.parametrize("disk", [4], indirect=True)
async def test_store_on_a_full_disk(disk: Disk, imageapi: Command, tmp_path: Path) -> None:
    """Nothing more comes in; what is there is shown, also what has yet to be made."""
    store = disk.root / "pictures"
    album = f"{ALBUM}-{tmp_path.name}"
    images = f"/api/v1/albums/{album}/images"

    async def add(seed: int) -> httpx.Response:
        file = {"file": ("a.jpg", pictures.jpeg(seed=seed))}
        return await client.post(images, files=file)

    async def check_works() -> None:
        listed = (await client.get(images)).json()
        assert len(listed) == 1
        tagged = await client.put(f"{images}/{listed[0]['public_id']}/tags/full")
        assert tagged.status_code == 200

    with (
        (tmp_path / "log").open("wb") as log,
        imageapi.serving(log=log, IMAGEAPI_STORE_URL=str(store)) as service,
    ):
        async with client_of(service.address, album) as client:
            first = await add(1)
            assert first.status_code == 201
            disk.fill()
            for _ in range(3):
                refused = await add(2)
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
                assert refused.json()["type"] == "urn:imageapi:problem:store-away"
            await check_works()
            for name in ("mini", "large", "full"):
                shown = await client.get(first.json()["thumbnails"][name])
                assert shown.headers["Content-Type"] == "image/jpeg", shown.text
            assert list((store / ".incoming").iterdir()) == []
            disk.make_room()
            await check_works()
            assert (await add(2)).status_code == 201
            shown = await client.get(first.json()["thumbnails"]["full"])
            assert shown.status_code == 200
    kept = {path.name for path in store.rglob("*") if path.is_file()}
    assert {"original"} < kept
