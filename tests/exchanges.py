"""Every answer that the OpenAPI document names, got from the service itself.

What a success or a kind of problem looks like is shown in the document by what came back here:
`pytest tests/test_openapi.py --write-examples` writes it into the package.
"""

import asyncio
import json
import os
import re
import shutil
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from errno import EAGAIN
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx

import pictures
from conftest import token_for
from factories import HEADER, SECRET, claims, signed
from imageapi.app import create_app
from imageapi.auth.claims import ABILITIES
from imageapi.database.tables import metadata
from imageapi.deadlines import Deadlines
from imageapi.settings import Settings
from imageapi.workers.process import WorkerProcess

ALBUM = "summer-2026"
USER = "20ab42f4-9308-4297-a5f0-c0c07d1d189b"
REQUEST_ID = "b7f7faf2-ab83-4f0c-9f49-dba22362e911"
IN_2100 = 4102444800

FIRST = "6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10"
SECOND = "0b7a4c52-31f5-4a0e-8a39-5c9d2b1e6f88"
THIRD = "d3a1f0c4-7be2-4b55-9f10-0e2c8a6b9d41"
NOBODY = "00000000-0000-4000-8000-000000000000"

#: A database that nobody listens at.
NO_DATABASE = "postgresql://user:hunter2@127.0.0.1:1/imageapi"

Answer = tuple[str, int, str]
"""An operation, a status, and a kind of problem or ``""``."""

TAGS = {"public_ids": [FIRST, SECOND], "add": ["beach", "summer"], "remove": ["kitchen"]}
CHANGES = {"rotation": 90, "crop_x": 8, "crop_y": 8, "crop_w": 32, "crop_h": 64}
PLACE = {"latitude": 38.71375, "longitude": -9.139333, "accuracy": 12}
REQUESTS = {"tagImages": TAGS, "updateImage": CHANGES}


@dataclass(slots=True)
class Seen:
    """What came back, by what the document calls it."""

    answers: dict[Answer, httpx.Response] = field(default_factory=dict)

    def note(self, operation: str, answer: httpx.Response) -> httpx.Response:
        """Keep the first answer of its kind."""
        kind = ""
        if answer.headers.get("Content-Type") == "application/problem+json":
            kind = answer.json()["type"].rpartition(":")[2]
        self.answers.setdefault((operation, answer.status_code, kind), answer)
        return answer

    def examples(self) -> dict[str, Any]:
        """What the document shows: requests, successes by operation, problems by kind."""
        shown: dict[str, Any] = {"requests": REQUESTS, "answers": {}, "problems": {}}
        for (operation, status, kind), answer in self.answers.items():
            if kind:
                shown["problems"].setdefault(kind, answer.json())
            elif "json" in answer.headers.get("Content-Type", ""):
                shown["answers"].setdefault(operation, {})[str(status)] = answer.json()
        return shown


def masked(value: Any, key: str = "") -> Any:
    """The value without what differs each time: moments, digests, keys of pictures."""
    if isinstance(value, dict):
        return {key: masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, key) for inner in value]
    if key in ("created_at", "at", "etag"):
        return re.sub(r"[0-9a-f]", "0", value)
    if key == "bytes":
        return 0
    return re.sub(r"(?<=/)[\w-]{22}(?=/)", "…", value) if isinstance(value, str) else value


def png() -> bytes:
    """A picture of 96 by 64 pixels, the same bytes wherever it is made."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4)
        return len(data).to_bytes(4) + name + data + check

    width, height = 96, 64
    pixels = b"".join(
        b"\0" + b"".join(bytes((x * 2, y * 3, 128)) for x in range(width)) for y in range(height)
    )
    head = width.to_bytes(4) + height.to_bytes(4) + bytes((8, 2, 0, 0, 0))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@asynccontextmanager
async def service(
    dsn: str, folder: Path, deadlines: Deadlines | None = None, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of its own."""
    settings = Settings(database_url=dsn, token_secret=SECRET, data_dir=folder, **more)
    app = create_app(settings, deadlines)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


class Caller:
    """Calls the operations of the document by their ids, and notes what comes back."""

    def __init__(self, document: dict[str, Any], client: httpx.AsyncClient, seen: Seen) -> None:
        self.client = client
        self._seen = seen
        self.operations: dict[str, tuple[str, str]] = {
            operation["operationId"]: (method, path)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        self._token = {"user_id": USER, "exp": IN_2100}

    async def __call__(
        self, operation: str, public_id: str = FIRST, album: str = ALBUM, **given: Any
    ) -> httpx.Response:
        """Call it as somebody who may do all in the album, unless ``headers`` say otherwise."""
        method, path = self.operations[operation]
        names = {"album_id": album, "public_id": public_id, "tag": given.pop("tag", "kitchen")}
        names |= {"signature": "x" * 22, "name": "mini-120.jpg"}
        headers = {"X-Request-Id": REQUEST_ID, **given.pop("headers", self.of(*ABILITIES))}
        url = given.pop("url", None) or path.format_map(names)
        answer = await self.client.request(method.upper(), url, headers=headers, **given)
        return self._seen.note(operation, answer)

    def of(self, *abilities: str, **more: str) -> dict[str, str]:
        """The headers of somebody who may do this in the album."""
        token = signed(HEADER, claims(ALBUM, *abilities, **self._token))
        return {"Authorization": f'Token token="{token}"', **more}

    async def upload(self, content: bytes, public_id: str, **more: Any) -> httpx.Response:
        """Send a picture."""
        form = {**PLACE, "public_id": public_id}
        files = {"file": ("photo.png", content)}
        return await self("uploadImage", data=form, files=files, **more)


#: What each operation must be sent to be carried out, beside what stands in its path.
BODIES = {"updateImage": {"json": CHANGES}, "tagImages": {"json": TAGS}}
OF_ALBUM_ONLY = {"listUntaggedImages", "listImages", "listTags", "listEvents", "tagImages"}
OF_IMAGE = {"getImage", "updateImage", "deleteImage", "restoreImage", "tagImage", "untagImage"}
ALBUM_ERRORS = {*OF_ALBUM_ONLY, *OF_IMAGE, "uploadImage"}


async def all_exchanges(document: dict[str, Any], dsn: str, empty_dsn: str, folder: Path) -> Seen:
    """Provoke every answer; of the two databases the second has no schema."""
    seen = Seen()
    async with service(dsn, folder, max_upload_mb=1) as client:
        call = Caller(document, client, seen)
        await _lives(call)
        await _refusals(call)
        await _conditions(call)
        await _unfit(call)
    async with service(NO_DATABASE, folder) as client:
        await _each(Caller(document, client, seen), {"getReadiness"})
    async with service(empty_dsn, folder) as client:
        await _each(Caller(document, client, seen), {"getReadiness"})
    await _break(empty_dsn)
    async with service(empty_dsn, folder) as client:
        await _each(Caller(document, client, seen), {"getReadiness"})
    await _without_store(document, dsn, folder, seen)
    await _without_decoders(document, dsn, folder, seen)
    await _without_issuer(document, dsn, folder, seen)
    await _in_a_hurry(document, dsn, empty_dsn, folder, seen)
    return seen


async def _break(dsn: str) -> None:
    """Let everything that is asked of the database fail in a way that nobody expects."""
    connection = await asyncpg.connect(dsn)
    for table in (metadata.tables["albums"], metadata.tables["images"], metadata.tables["events"]):
        columns = ", ".join(f"(1/0)::text AS {column.name}" for column in table.columns)
        await connection.execute(f"CREATE VIEW {table.name} AS SELECT {columns}")
    await connection.execute("CREATE VIEW alembic_version AS SELECT (1/0)::text AS version_num")
    await connection.close()


async def _lives(call: Caller) -> None:
    """What goes well, in the order of an image's life."""
    picture = png()
    await call("getHealth")
    await call("getReadiness")
    await call("getMetrics")
    first = (await call.upload(picture, FIRST)).json()
    await call.upload(picture, FIRST)  # 200: it is there
    await call.upload(pictures.jpeg(seed=2), SECOND)
    await call("listUntaggedImages", params={"limit": 1})
    await call("listImages", params={"untagged": "true", "format": "png"})
    await call("tagImage")
    await call("getImage")
    await call("untagImage")
    await call("tagImages", json=TAGS)
    await call("listTags")
    await call("updateImage", json=CHANGES)
    await call("deleteImage", SECOND)
    await call("restoreImage", SECOND)
    await call("listEvents", params={"limit": 4})
    await call("listAlbums")
    await call("getToken")
    await call("getBlankPicture")
    mini = await call("getPicture", url=first["thumbnails"]["mini"])
    etag = mini.headers["ETag"]
    await call("getPicture", url=first["thumbnails"]["mini"], headers={"If-None-Match": etag})
    blank = (await call("getBlankPicture")).headers["ETag"]
    await call("getBlankPicture", headers={"If-None-Match": blank})
    image = await call("getImage")
    original = image.links["enclosure"]["url"]
    await call("getPicture", url=original, headers={"Range": "bytes=0-9"})
    await call("getPicture", url=original, headers={"Range": "bytes=99999-"})
    same = call.of("image_list", **{"If-None-Match": image.headers["ETag"]})
    await call("getImage", headers=same)


async def _refusals(call: Caller) -> None:
    """Who may not, and what is not there."""
    for operation in sorted(ALBUM_ERRORS | {"listAlbums", "getToken"}):
        await call(operation, headers={}, **BODIES.get(operation, {}))
    for operation in sorted(ALBUM_ERRORS):
        asked = BODIES.get(operation, {})
        await call(operation, headers=token_for("another"), **asked)
        await call(operation, album="no.album", **asked)
    await call("getPicture", url=f"/assets/{ALBUM}/{FIRST}/{'x' * 22}/mini-120.jpg")


async def _conditions(call: Caller) -> None:
    """What stands against it."""
    stale = call.of(*ABILITIES, **{"If-Match": '"1"'})
    for operation in sorted(OF_IMAGE - {"getImage"}):
        await call(operation, headers=stale, **BODIES.get(operation, {}))
    await call.upload(pictures.jpeg(seed=3), FIRST)  # the id is taken
    await call("deleteImage", SECOND)
    await call.upload(pictures.jpeg(seed=2), THIRD)
    await call("restoreImage", SECOND)  # its picture is there once more


async def _unfit(call: Caller) -> None:
    """What cannot be used."""
    for operation in ("listUntaggedImages", "listImages", "listEvents"):
        await call(operation, params={"limit": 0})
    for operation in sorted(ALBUM_ERRORS | {"listAlbums", "getToken"} - {"listUntaggedImages"}):
        await call(operation, params={"unknown": 1}, **BODIES.get(operation, {}))
    for operation in ("tagImage", "untagImage"):
        await call(operation, tag="x" * 101)
    for operation in BODIES:
        json_ = call.of(*ABILITIES, **{"Content-Type": "application/json"})
        await call(operation, json={"rotation": 45})
        await call(operation, content=b'{"rotation":', headers=json_)
        await call(operation, content=b" " * 2**21, headers=json_)
    await call("uploadImage", json={})
    await call("uploadImage", files={"other": b""})
    await call.upload(b"%PDF-1.7", NOBODY)
    await call.upload(png()[:200], NOBODY)
    await call.upload(b"\xff\xd8\xff" + b"\0" * 2**21, NOBODY)
    cut = call.of(*ABILITIES, **{"Content-Type": "multipart/form-data; boundary=b"})
    await call("uploadImage", content=b"--b\r\n", headers=cut)


async def _without_store(document: dict[str, Any], dsn: str, folder: Path, seen: Seen) -> None:
    """The folder of pictures is gone."""
    async with service(dsn, folder / "gone") as client:
        call = Caller(document, client, seen)
        image = (await call("getImage", FIRST)).json()
        shutil.rmtree(folder / "gone" / "pictures")
        await call.upload(pictures.jpeg(seed=4), NOBODY)
        await call("getPicture", url=image["thumbnails"]["full"])


async def _without_decoders(document: dict[str, Any], dsn: str, folder: Path, seen: Seen) -> None:
    """No process can be started to decode pictures in."""
    error = OSError(EAGAIN, os.strerror(EAGAIN))
    with patch.object(WorkerProcess, "start", side_effect=error):
        async with service(dsn, folder) as client:
            call = Caller(document, client, seen)
            image = (await call("getImage", FIRST)).json()
            await call.upload(pictures.jpeg(seed=4), NOBODY)
            await call("getPicture", url=image["thumbnails"]["full"])


async def _without_issuer(document: dict[str, Any], dsn: str, folder: Path, seen: Seen) -> None:
    """Nobody says whether the token's signature is good."""
    async with service(dsn, folder, token_jwks_url="http://127.0.0.1:1/keys") as client:
        call = Caller(document, client, seen)
        token = signed(HEADER | {"alg": "RS256"}, claims(ALBUM, *ABILITIES))
        headers = {"Authorization": f"Bearer {token}"}
        for operation in sorted(ALBUM_ERRORS - {"uploadImage"} | {"listAlbums", "getToken"}):
            await call(operation, headers=headers, **BODIES.get(operation, {}))
        await call.upload(png(), FIRST, headers=headers)


async def _in_a_hurry(
    document: dict[str, Any], dsn: str, empty_dsn: str, folder: Path, seen: Seen
) -> None:
    """Too often, too much at once, and a body that does not come."""
    bodies = {"uploadImage": {"content": b""}, **BODIES}
    always = {"getHealth", "getMetrics", "getReadiness"}
    for address in (dsn, NO_DATABASE, empty_dsn):
        is_ready = address == dsn
        async with service(address, folder, address_rate_limit="1/day") as client:
            call = Caller(document, client, seen)
            await call("getToken")
            for operation in sorted(call.operations):
                is_turned_away = not (await call(operation, **bodies.get(operation, {}))).is_success
                is_down = operation == "getReadiness" and not is_ready
                assert is_turned_away == (operation not in always or is_down)
    body = Stalling()
    async with service(dsn, folder, max_requests=1) as client:
        call = Caller(document, client, seen)
        form = {"Content-Type": "multipart/form-data; boundary=b"}
        headers = call.of(*ABILITIES, **form)
        first = asyncio.create_task(call("uploadImage", content=body, headers=headers))
        await asyncio.wait_for(body.begun.wait(), 20)
        for operation in sorted(call.operations):
            is_turned_away = not (await call(operation, **bodies.get(operation, {}))).is_success
            assert is_turned_away == (operation not in always)
        body.over.set()
        await first
    async with service(dsn, folder, Deadlines(body_seconds=0.1)) as client:
        call = Caller(document, client, seen)
        await call("uploadImage", content=Stalling(), headers=headers)
        headers = call.of(*ABILITIES, **{"Content-Type": "application/json"})
        for operation in BODIES:
            await call(operation, content=Stalling(), headers=headers)


class Stalling:
    """A body of which the first line comes at once, the rest when it is over."""

    def __init__(self) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun.set()
        yield b"--b\r\n"
        await self.over.wait()


async def _each(call: Caller, more: set[str]) -> None:
    """Call all that asks the database."""
    for operation in sorted(ALBUM_ERRORS - {"uploadImage"} | {"listAlbums"} | more):
        await call(operation, **BODIES.get(operation, {}))
    await call.upload(png(), FIRST)
    await call("getPicture", url=f"/assets/{ALBUM}/{FIRST}/{'x' * 22}/mini-120.jpg")


def text_of(examples: dict[str, Any]) -> str:
    """As it is kept in the package."""
    return json.dumps(examples, ensure_ascii=False, indent=2) + "\n"
