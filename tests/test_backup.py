"""The recipe of docs/backup.md, while people add, tag and delete."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

import asyncpg
import httpx

import pictures
from conftest import Command
from factories import PROJECT, record
from faults import ALBUM, client_of
from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.client import run_embedded_server

IMAGES = f"/api/v1/albums/{ALBUM}/images"
BACKUP, RESTORE = re.findall(
    r"```sh\n(.*?)```", (PROJECT / "docs/backup.md").read_text(), re.DOTALL
)
RECORDS = [record(ALBUM, number) for number in range(10)]


def run(block: str, command: Command, variables: dict[str, str]) -> None:
    """The lines of the page, with PostgreSQL's tools and the service's commands on PATH."""
    tools = Binaries.locate().postgres.parent
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-euc", block],
        env={**command.environment, **variables, "PATH": path},
        cwd=command.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class People:
    """Three who add and tag pictures, and delete every fifth."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._is_over = False
        #: What was answered, and not deleted afterwards.
        self.tagged: set[tuple[str, str]] = set()

    async def __aenter__(self) -> Self:
        self._change_album = [asyncio.create_task(self._change(name)) for name in range(3)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._change_album)

    async def having_tagged(self, count: int) -> set[tuple[str, str]]:
        """Wait until so many are tagged, and return those."""
        async with asyncio.timeout(60):
            while len(self.tagged) < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        return set(self.tagged)

    async def _change(self, name: int) -> None:
        number = 0
        while not self._is_over:
            number += 1
            file = {"file": ("a.jpg", pictures.jpeg(16, 16, seed=name * 10_000 + number))}
            added = (await self._client.post(IMAGES, files=file)).json()["public_id"]
            tag = f"t{name}-{number}"
            answer = await self._client.put(f"{IMAGES}/{added}/tags/{tag}")
            assert answer.status_code == 200
            if number % 5:
                self.tagged.add((added, tag))
            else:
                await self._client.delete(f"{IMAGES}/{added}")


async def restored_as(client: httpx.AsyncClient, before: set[tuple[str, str]]) -> None:
    """Every change is there, every image has its original to the byte, and life goes on."""
    listed = (await client.get(IMAGES)).raise_for_status().json()
    there = {(image["public_id"], tag) for image in listed for tag in image["infos"]["tags"]}
    assert before <= there
    imported = {each["public_id"] for each in RECORDS}
    assert imported <= {image["public_id"] for image in listed}
    for image in listed:
        if image["public_id"] not in imported:
            one = await client.get(f"{IMAGES}/{image['public_id']}")
            original = await client.get(one.links["enclosure"]["url"])
            assert original.status_code == 200
            assert hashlib.md5(original.content).hexdigest() == image["infos"]["etag"]
            mini = await client.get(image["thumbnails"]["mini"])
            assert mini.headers["Content-Type"] == "image/jpeg"
    tagged = await client.put(f"{IMAGES}/{listed[0]['public_id']}/tags/after")
    assert tagged.status_code == 200


async def test_what_is_restored_is_whole(environment: dict[str, str], tmp_path: Path) -> None:
    def led_to(dsn: str, store: Path) -> tuple[Command, dict[str, str]]:
        """Commands on this database and store, and what the recipe calls them."""
        settings = {"IMAGEAPI_DATABASE_URL": dsn, "IMAGEAPI_STORE_URL": str(store)}
        variables = {"BACKUP": str(tmp_path / "backup"), "DATABASE": dsn, "PICTURES": str(store)}
        return Command({**environment, **settings}, tmp_path), variables

    (tmp_path / "backup").mkdir()
    with run_embedded_server(tmp_path / "data") as dsn, (tmp_path / "log").open("wb") as log:
        command, variables = led_to(dsn, tmp_path / "store")
        assert command("import", "-", stdin=json.dumps(RECORDS).encode()).returncode == 0
        with command.serving(log=log) as service:
            async with client_of(service.address) as client, People(client) as people:
                before = await people.having_tagged(15)  # some are deleted by then
                await asyncio.to_thread(run, BACKUP, command, variables)
                await people.having_tagged(len(people.tagged) + 1)
        assert len(people.tagged) > len(before) > 5
        administrator = await asyncpg.connect(dsn)
        await administrator.execute("CREATE DATABASE restored")
        await administrator.close()
        command, variables = led_to(dsn.replace("/imageapi?", "/restored?"), tmp_path / "fresh")
        run(RESTORE, command, variables)
        with command.serving(log=log) as service:
            async with client_of(service.address) as client:
                await restored_as(client, before)
