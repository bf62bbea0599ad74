"""Clocks that jump, of the machine or of who keeps house: nothing is lost, nobody let in."""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import pictures
from conftest import Command, Service
from factories import HEADER, SECRET, claims, signed
from faults import ALBUM, client_of, held_up
from fixture_types import TokenFor
from imageapi.albums import purge
from imageapi.auth.claims import ABILITIES
from imageapi.auth.errors import TokenExpired
from imageapi.auth.tokens import Tokens
from imageapi.database.engine import Database

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY_SECONDS = 86400
ALBUM_HELD = "SELECT version FROM albums WHERE album_id = '{album}' FOR UPDATE"


def test_clock_that_jumps_does_not_let_the_expired_in() -> None:
    """A token is as old as the clock says, remembered or not; back again it is good again."""
    now = [1_000_000.0]
    tokens = Tokens(SECRET, now=lambda: now[0])
    token = tokens.issue([ALBUM], ["image_list"], timedelta(hours=1))
    header = f"Bearer {token}".encode()
    asyncio.run(tokens.verify_header(header))
    now[0] += 3601
    assert tokens.find_remembered(header) is None
    with pytest.raises(TokenExpired):
        asyncio.run(tokens.verify_header(header))
    now[0] -= 7200
    assert asyncio.run(tokens.verify_header(header)).albums_with("image_list") == [ALBUM]


class Clock:
    """The service's clock, which the test sets; PostgreSQL's stays as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """Let it be so much ahead of what it is."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{ahead.total_seconds():+.0f}\n")
        fresh.rename(self._path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def jumpy(clock: Clock, imageapi: Command, database: Database, tmp_path: Path) -> Iterator[Service]:
    """The service, by that clock; what it measures time with goes on evenly, as a system's does."""
    if FAKETIME is None:
        assert "CI" not in os.environ, "CI installs faketime"
        pytest.skip("libfaketime is not installed; CI runs this")
    more = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "IMAGEAPI_STORE_URL": str(tmp_path / "pictures"),
        "IMAGEAPI_RATE_LIMIT": "600/minute",
    }
    with (tmp_path / "log").open("wb") as log, imageapi.serving(log=log, **more) as service:
        yield service


async def test_service_goes_on_while_its_clock_jumps(
    jumpy: Service, clock: Clock, album: str
) -> None:
    """A day ahead, and two days back: everything is answered at once, and in its order."""
    now = time.time()
    until = now + 30 * DAY_SECONDS
    token = signed(HEADER, claims(album, *ABILITIES, exp=until))
    short = signed(HEADER, claims(album, *ABILITIES, exp=now + DAY_SECONDS / 2))
    base = f"/api/v1/albums/{album}"
    moments = []
    async with client_of(jumpy.address, album) as client:

        async def ask(method: str, path: str, status: int, by: str = token, **more: Any) -> Any:
            headers = {"Authorization": f"Bearer {by}"}
            started = time.monotonic()
            answer = await client.request(method, base + path, headers=headers, **more)
            assert answer.status_code == status, answer.text
            assert time.monotonic() - started < 5
            assert 0 <= float(answer.headers["X-Runtime"]) < 5
            return answer.json() if answer.content else None

        await ask("GET", "/images/untag", 200)
        for number, ahead in enumerate((0, 1, -1, 0)):
            clock.set(timedelta(days=ahead))
            image = await ask("POST", "/images", 201, files={"file": pictures.jpeg(seed=number)})
            moments.append(datetime.fromisoformat(image["created_at"]))
            expected = now + ahead * DAY_SECONDS
            assert abs(moments[-1].timestamp() - expected) < 60
            one = f"/images/{image['public_id']}"
            await ask("PUT", f"{one}/tags/a", 200)
            await ask("DELETE", f"{one}/tags/a", 200)
            await ask("DELETE", one, 204)
            await ask("POST", f"{one}/restore", 200)
            await ask("GET", "/images/untag", 401 if ahead > 0 else 200, short)
            shown = await client.get(image["thumbnails"]["full"])
            assert shown.headers["Content-Type"] == "image/jpeg"
        listed = await ask("GET", "/images/untag", 200)
        assert [datetime.fromisoformat(each["created_at"]) for each in listed] == sorted(moments)
        events = await ask("GET", "/events", 200)
        assert [event["version"] for event in events] == list(range(1, 4 * 5 + 1))
        at = [datetime.fromisoformat(event["at"]) for event in events]
        assert at == sorted(at)  # by PostgreSQL's clock
        assert abs(at[-1] - datetime.now(UTC)) < timedelta(minutes=1)


class Sender:
    """Somebody who adds pictures to an album of the application's own store."""

    def __init__(self, client: httpx.AsyncClient, album: str, headers: dict[str, str]) -> None:
        self.client = client
        self.images = f"/api/v1/albums/{album}/images"
        self.headers = headers

    async def add(self, seed: int) -> httpx.Response:
        file = {"file": pictures.jpeg(seed=seed)}
        return await self.client.post(self.images, headers=self.headers, files=file)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers=self.headers)


@pytest.fixture
async def sender(client: httpx.AsyncClient, album: str, may: TokenFor) -> Sender:
    sender = Sender(client, album, may(album, *ABILITIES))
    await sender.add(1)
    return sender


async def test_purge_with_a_wrong_clock_takes_nothing_of_an_upload(
    sender: Sender, app: FastAPI, album: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the picture of an upload that waits for its album, and waits behind it."""
    monkeypatch.setattr(purge, "ORPHAN_AGE", timedelta(days=-1))
    other = Database(server)  # of the command's process; the service's own would wait in itself
    async with held_up(server, ALBUM_HELD.format(album=album)) as somebody_waits:
        adding = asyncio.create_task(sender.add(2))
        await somebody_waits()
        purging_it = asyncio.create_task(
            purge.purge(replace(app.state.resources.backend, database=other), timedelta(days=30))
        )
        await somebody_waits(2)
    added = await adding
    await purging_it
    await other.close()
    assert added.status_code == 201
    original = await sender.get(added.links["enclosure"]["url"])
    assert original.status_code == 200


async def test_upload_whose_picture_was_taken_is_not_answered(
    sender: Sender, app: FastAPI, album: str, server: str
) -> None:
    """Whatever took it: there is no record without its picture."""
    root = app.state.resources.backend.store.root / album
    before = set(root.iterdir())
    async with held_up(server, ALBUM_HELD.format(album=album)) as somebody_waits:
        adding = asyncio.create_task(sender.add(2))
        await somebody_waits()
        (taken,) = set(root.iterdir()) - before
        (taken / "original").unlink()
    answer = await adding
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:imageapi:problem:store-away")
    assert len((await sender.get(sender.images)).json()) == 1
    assert (await sender.add(2)).status_code == 201
