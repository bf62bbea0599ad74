"""The same albums for both: as texts for the service, as rows for the naive version."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.naive import TIME_ZONE, Base, NaiveImage, sqlalchemy_url
from imageapi.albums.rendering import Rendering
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.database.transfers import NewImage, add_images
from imageapi.records.reading import read_record
from imageapi.transfer.importing import new_image

SIZES = (1, 25, 500)

_SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)

RENDERING = Rendering(TIME_ZONE, {"full": 1600, "large": 480, "mini": 120})


def album_of(size: int) -> str:
    """The id of the album with so many images."""
    return f"benchmark-{size}"


async def fill(dsn: str) -> str:
    """Make the tables, and an album of each size, for both; return the server's version."""
    records = [record for size in SIZES for record in _records(size)]
    database = Database(dsn)
    try:
        await migrate(database)
        await add_images(database, _texts(records), RENDERING.name)
        connection = await database.connect()
        await _fill_naive(dsn, records)
        await connection.execute("ANALYZE images")
        await connection.execute("ANALYZE naive_images")
        version = str(await connection.fetchval("SHOW server_version"))
        await connection.close()
    finally:
        await database.close()
    return version


def _records(size: int) -> list[dict[str, Any]]:
    """Records of one album like the documented one, each a minute younger."""
    sample = json.loads(_SAMPLE.read_text())[0]
    album_id = album_of(size)
    return [
        sample
        | {
            "public_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{album_id}/{number}")),
            "infos": sample["infos"] | {"tags": [album_id]},
            "created_at": (_FIRST + timedelta(minutes=number)).isoformat(timespec="milliseconds"),
            "album_id": album_id,
        }
        for number in range(size)
    ]


async def _texts(records: list[dict[str, Any]]) -> AsyncIterator[NewImage]:
    for image in map(read_record, records):
        yield new_image(image, RENDERING)


async def make_tables(dsn: str) -> None:
    """The tables of both, without anything in them."""
    database = Database(dsn)
    try:
        await migrate(database)
        await _fill_naive(dsn, [])
    finally:
        await database.close()


async def _fill_naive(dsn: str, records: list[dict[str, Any]]) -> None:
    engine = create_async_engine(sqlalchemy_url(dsn))
    rows = [
        record
        | {
            "public_id": uuid.UUID(record["public_id"]),
            "created_at": datetime.fromisoformat(record["created_at"]),
            "tags": [],
        }
        for record in records
    ]
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        if rows:
            await connection.execute(insert(NaiveImage), rows)
    await engine.dispose()
