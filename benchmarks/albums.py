"""The same albums for all servers: as texts for the service, as rows for its peers."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.naive import TIME_ZONE, Base, NaiveImage, build_sqlalchemy_url
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.bulk_import import add_images
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.records.parse import parse_record
from imageapi.transfer.record_reader import build_new_image

SIZES = (1, 25, 500)
#: The number of albums of each size.
ALBUMS = {1: 200, 25: 200, 500: 40}

_SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)

SERIALIZER = RecordSerializer(TIME_ZONE, {"full": 1600, "large": 480, "mini": 120})


def _build_album_id(size: int, number: int) -> str:
    """Return the id of one of the albums with `size` images; all ids have the same length."""
    return f"benchmark-{size:03}-{number:03}"


def list_album_ids(size: int) -> list[str]:
    """Return the ids of all albums with `size` images."""
    return [_build_album_id(size, number) for number in range(ALBUMS[size])]


def build_path(album_id: str) -> str:
    """Return the path of the album's queue."""
    return f"/api/v1/albums/{album_id}/images/untag"


async def fill(dsn: str, responses: Path) -> str:
    """Create the tables and albums of all servers; return PostgreSQL's version.

    Write a JSON object into the file ``responses``: the response body for each path.
    """
    records_by_album = {
        album_id: _build_records(album_id, size)
        for size in SIZES
        for album_id in list_album_ids(size)
    }
    records = [record for album in records_by_album.values() for record in album]
    bodies = {
        build_path(album_id): f"[{','.join(image.record for image in _build_images(album))}]"
        for album_id, album in records_by_album.items()
    }
    responses.write_text(json.dumps(bodies))  # noqa: ASYNC240 - nothing else runs yet
    database = Database(dsn)
    try:
        await migrate(database)
        await add_images(database, _format_for_copy(records), SERIALIZER.name)
        connection = await database.connect()
        await _fill_naive(dsn, records)
        await connection.execute("ANALYZE images")
        await connection.execute("ANALYZE naive_images")
        version = str(await connection.fetchval("SHOW server_version"))
        await connection.close()
    finally:
        await database.close()
    return version


def _build_records(album_id: str, size: int) -> list[dict[str, Any]]:
    """Return records of one album that are like the documented one, one for each minute."""
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


def _build_images(records: list[dict[str, Any]]) -> Iterator[NewImage]:
    for image in map(parse_record, records):
        yield build_new_image(image, SERIALIZER)


async def _format_for_copy(records: list[dict[str, Any]]) -> AsyncIterator[CopyLines]:
    yield format_lines(_build_images(records))


async def create_tables(dsn: str) -> None:
    """Create the tables of all servers, and leave them empty."""
    database = Database(dsn)
    try:
        await migrate(database)
        await _fill_naive(dsn, [])
    finally:
        await database.close()


async def _fill_naive(dsn: str, records: list[dict[str, Any]]) -> None:
    engine = create_async_engine(build_sqlalchemy_url(dsn))
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
