"""The same albums for all: as texts for the service, as rows for its peers."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.naive import TIME_ZONE, Base, NaiveImage, sqlalchemy_url
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.bulk_import import add_images
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.records.parse import parse_record
from imageapi.transfer.record_reader import build_new_image

SIZES = (1, 25, 500)
#: How many albums there are of each size.
ALBUMS = {1: 200, 25: 200, 500: 40}

_SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)

RENDERING = RecordSerializer(TIME_ZONE, {"full": 1600, "large": 480, "mini": 120})


def album_of(size: int, number: int = 0) -> str:
    """The id of one of the albums with so many images: as long as those of all others."""
    return f"benchmark-{size:03}-{number:03}"


def albums_of(size: int) -> list[str]:
    """The ids of all albums with so many images."""
    return [album_of(size, number) for number in range(ALBUMS[size])]


def path_of(album_id: str) -> str:
    """The path of its queue."""
    return f"/api/v1/albums/{album_id}/images/untag"


async def fill(dsn: str, answers: Path) -> str:
    """Make the tables and the albums of each size, for all; return the server's version.

    Into the file ``answers`` goes the answer to each path, as JSON.
    """
    albums = {album_id: _records(album_id, size) for size in SIZES for album_id in albums_of(size)}
    records = [record for each in albums.values() for record in each]
    texts = {
        path_of(album_id): f"[{','.join(image.record for image in _images(each))}]"
        for album_id, each in albums.items()
    }
    answers.write_text(json.dumps(texts))  # noqa: ASYNC240 - nothing else runs yet
    database = Database(dsn)
    try:
        await migrate(database)
        await add_images(database, _lines(records), RENDERING.name)
        connection = await database.connect()
        await _fill_naive(dsn, records)
        await connection.execute("ANALYZE images")
        await connection.execute("ANALYZE naive_images")
        version = str(await connection.fetchval("SHOW server_version"))
        await connection.close()
    finally:
        await database.close()
    return version


def _records(album_id: str, size: int) -> list[dict[str, Any]]:
    """Records of one album like the documented one, each a minute younger."""
    sample = json.loads(_SAMPLE.read_text())[0]
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


def _images(records: list[dict[str, Any]]) -> Iterator[NewImage]:
    for image in map(parse_record, records):
        yield build_new_image(image, RENDERING)


async def _lines(records: list[dict[str, Any]]) -> AsyncIterator[CopyLines]:
    yield format_lines(_images(records))


async def make_tables(dsn: str) -> None:
    """The tables of all, without anything in them."""
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
