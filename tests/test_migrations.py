"""From nothing to the newest schema and back, on data, by several at once."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
from sqlalchemy import select, text

from factories import PROJECT, SECRET, record
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.app import create_app
from imageapi.database import reserialize
from imageapi.database.bulk_import import add_images, export_records
from imageapi.database.copy_format import CopyLines, format_lines
from imageapi.database.engine import Database
from imageapi.database.errors import SchemaOutdated, SchemaTooNew
from imageapi.database.migration import check_schema, migrate
from imageapi.database.tables import SCHEMA_VERSION, albums, metadata
from imageapi.records.parse import parse_record
from imageapi.settings import Settings
from imageapi.transfer.record_reader import build_new_image
from imageapi.transfer.upgrade import upgrade_database

COLUMNS = """
    SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, collation_name
    FROM information_schema.columns WHERE table_schema = current_schema()
    AND table_name <> 'alembic_version' ORDER BY 1, 2
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace
    AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2
"""
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
INDEXES = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = current_schema() AND tablename <> 'alembic_version' ORDER BY 1, 2
"""


@pytest.fixture
async def empty(empty_dsn: str) -> AsyncIterator[Database]:
    database = Database(empty_dsn)
    yield database
    await database.close()


async def described(database: Database) -> list[Any]:
    async with database.transaction() as connection:
        return [
            list(await connection.execute(text(query))) for query in (COLUMNS, CONSTRAINTS, INDEXES)
        ]


@pytest.mark.parametrize("first", ["0001", "0002", "0003"])
async def test_change_under_way_is_waited_for(empty: Database, empty_dsn: str, first: str) -> None:
    """Neither is undone for the other's sake: both begin with the album."""
    await migrate(empty, first)
    writer, watcher = [await asyncpg.connect(empty_dsn) for _ in range(2)]
    await writer.execute("INSERT INTO albums (album_id, version, rendering) VALUES ('a', 1, '')")
    async with writer.transaction():
        await writer.execute("SELECT version FROM albums WHERE album_id = 'a' FOR UPDATE")
        migrating = asyncio.create_task(migrate(empty))
        async with asyncio.timeout(10):
            while not await watcher.fetchval(WAITING):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert await watcher.fetchval("SELECT count(*) FROM images") == 0  # readers go on
        await writer.execute("UPDATE images SET tags = '{a}' WHERE album_id = 'a'")
        await writer.execute("UPDATE albums SET version = 2 WHERE album_id = 'a'")
    assert await migrating
    assert await watcher.fetchval("SELECT version FROM albums") == 2
    for connection in (writer, watcher):
        await connection.close()


def test_schema_version_is_that_of_the_newest_migration() -> None:
    found = {}
    for path in (PROJECT / "alembic/versions").glob("*.py"):
        source = path.read_text()
        revision = re.search(r'^revision = "(.+)"$', source, re.MULTILINE)
        down = re.search(r"^down_revision = (.+)$", source, re.MULTILINE)
        assert revision is not None
        assert down is not None
        assert path.name.startswith(revision[1])
        found[revision[1]] = down[1].strip('"')
    newest = set(found) - set(found.values())
    assert newest == {SCHEMA_VERSION}


async def test_migrations_make_the_tables_of_the_code(empty: Database) -> None:
    await migrate(empty)
    migrated = await described(empty)
    assert await migrate(empty, "base")
    async with empty.transaction() as connection:
        await connection.run_sync(metadata.create_all)
    created = await described(empty)
    assert migrated == created
    assert all(created)


async def test_schema_of_a_newer_version_is_named_and_left_alone(empty: Database) -> None:
    await migrate(empty)
    async with empty.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9001'"))
    before = await described(empty)
    for attempt in (migrate, check_schema):
        with pytest.raises(SchemaTooNew, match=rf"schema is 9001, .* up to {SCHEMA_VERSION};"):
            await attempt(empty)
    assert await described(empty) == before


async def test_up_and_down_on_data(empty: Database) -> None:
    given = '{"b": 1,"a":2}'
    await migrate(empty)
    async with empty.transaction() as connection:
        await connection.execute(text("INSERT INTO albums VALUES ('a', 1, '1 UTC')"))
        await connection.execute(
            text(
                "INSERT INTO images VALUES ('a', gen_random_uuid(), now(), 1, '{}', :record, 'png')"
            ),
            {"record": given},
        )
        kept = await connection.scalar(text("SELECT record::text FROM images"))
    assert kept == given
    assert await migrate(empty, "base")
    assert await described(empty) == [[], [], []]
    with pytest.raises(SchemaOutdated):
        await check_schema(empty)
    assert await migrate(empty)
    await check_schema(empty)
    assert not await migrate(empty)


async def test_records_are_reserialized_after_a_change_of_time_zone(empty: Database) -> None:
    sizes = {"full": 1600, "large": 480, "mini": 120}
    paris, tokyo = (
        RecordSerializer(ZoneInfo(name), sizes) for name in ("Europe/Paris", "Asia/Tokyo")
    )
    await migrate(empty)
    made = [parse_record(record("a", number)) for number in range(reserialize.BATCH_IMAGES + 1)]

    async def incoming() -> AsyncIterator[CopyLines]:
        yield format_lines(build_new_image(image, paris) for image in made)

    await add_images(empty, incoming(), paris.name)
    assert not await upgrade_database(empty, paris)
    assert await upgrade_database(empty, tokyo)
    assert not await upgrade_database(empty, tokyo)
    expected = [tokyo.serialize(image, None) for image in made]
    assert [text async for text in export_records(empty, "a")] == expected
    async with empty.transaction() as connection:
        # Two changes by which they came, and two by which they were rendered.
        assert await connection.scalar(select(albums.c.version)) == 4


async def test_what_images_are_searched_by_comes_from_their_records(empty: Database) -> None:
    await migrate(empty, "0001")
    async with empty.transaction() as connection:
        await connection.execute(text("INSERT INTO albums VALUES ('a', 1, '1 UTC')"))
        for gps in ("[48.5,-2]", "null"):
            record = f'{{"infos":{{"format":"heic"}},"gps":{gps}}}'
            await connection.execute(
                text("INSERT INTO images VALUES ('a', gen_random_uuid(), now(), 1, '{}', :record)"),
                {"record": record},
            )
    assert await migrate(empty)
    async with empty.transaction() as connection:
        found = await connection.execute(
            text("SELECT format, latitude, longitude FROM images ORDER BY latitude")
        )
        assert found.all() == [("heic", 48.5, -2.0), ("heic", None, None)]


async def test_several_may_migrate_at_once(empty_dsn: str) -> None:
    databases = [Database(empty_dsn) for _ in range(8)]
    try:
        changed = await asyncio.gather(*(migrate(database) for database in databases))
        assert sorted(changed) == [False] * 7 + [True]
        await check_schema(databases[0])
    finally:
        for database in databases:
            await database.close()


async def test_readiness_waits_for_the_schema(empty_dsn: str, empty: Database) -> None:
    app = create_app(Settings(database_url=empty_dsn, token_secret=SECRET))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            before = await client.get("/readyz")
            assert (before.status_code, before.headers["Retry-After"]) == (503, "2")
            assert before.json()["type"] == "urn:imageapi:problem:schema-outdated"
            assert (await client.get("/healthz")).status_code == 200
            await migrate(empty)
            after = await client.get("/readyz")
            assert (after.status_code, after.json()) == (200, {"status": "ready"})
