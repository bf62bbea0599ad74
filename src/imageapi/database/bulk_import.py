"""Adds many images in one transaction, and reads all records of an album in bounded memory."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from io import BytesIO

from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.copy_format import COLUMNS, CopyLines
from imageapi.database.engine import Database
from imageapi.database.error_translation import translate_database_errors
from imageapi.database.errors import AlbumNotFound, DuplicateRecord
from imageapi.database.statement import Statement
from imageapi.database.tables import NOT_DELETED, albums, images

#: The most images of one event. An import of more images of an album is several changes of it.
MAX_EVENT_IMAGES = 1000

#: How many records an export reads at a time.
EXPORT_ROWS = 500

#: How much is copied and inserted at a time: so little that PostgreSQL sorts it in memory.
BATCH_BYTES = 4 * 1024**2

# One import at a time, or two imports could deadlock, each with albums that the other one needs.
# All other changes lock one album only.
_LOCK_IMPORTS = text("SELECT pg_advisory_xact_lock(hashtext('imageapi import'))")
_PREPARE_STAGING = (
    text("SET LOCAL work_mem = '64MB'"),
    text("""
        CREATE TEMPORARY TABLE incoming (
            position bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 0 START 0 CACHE 1000),
            album_id text COLLATE "C", public_id uuid,
            created_at timestamptz, tags text[], record json,
            format text, latitude double precision, longitude double precision
        ) ON COMMIT DROP
    """),
    text("""
        CREATE TEMPORARY TABLE locked_albums (
            album_id text COLLATE "C" PRIMARY KEY, version bigint, images bigint
        ) ON COMMIT DROP
    """),
    text("""
        CREATE TEMPORARY TABLE added (
            position bigint, album_id text COLLATE "C", public_id uuid, tags text[], version bigint
        ) ON COMMIT DROP
    """),
    text("""
        CREATE TEMPORARY TABLE present (
            position bigint, album_id text COLLATE "C", public_id uuid
        ) ON COMMIT DROP
    """),
)
_INSERT_ALBUMS = text("""
    INSERT INTO albums (album_id, version, rendering)
    SELECT DISTINCT album_id, 0, :serializer_name FROM incoming
    ORDER BY album_id
    ON CONFLICT (album_id) DO NOTHING
""")
_LOCK_ALBUMS = text("""
    INSERT INTO locked_albums (album_id, version, images)
    SELECT album_id, version, 0 FROM albums
    WHERE album_id IN (SELECT album_id FROM incoming EXCEPT SELECT album_id FROM locked_albums)
    FOR UPDATE OF albums
""")
# A scalar subquery runs once for each incoming row, on the primary key. A join might read all
# images of an album.
_MOVE_PRESENT = text("""
    WITH moved AS (
        DELETE FROM incoming WHERE (
            SELECT true FROM images
            WHERE images.album_id = incoming.album_id AND images.public_id = incoming.public_id
        )
        RETURNING position, album_id, public_id
    )
    INSERT INTO present SELECT * FROM moved
""")
_HAS_DUPLICATE = text("""
    SELECT EXISTS (SELECT FROM incoming GROUP BY album_id, public_id HAVING count(*) > 1)
""")
_FIND_DUPLICATE = text("""
    SELECT first, position FROM (
        SELECT position, min(position) OVER (PARTITION BY album_id, public_id) AS first
        FROM (
            SELECT position, album_id, public_id FROM incoming
            UNION ALL SELECT position, album_id, public_id FROM added
            UNION ALL SELECT position, album_id, public_id FROM present
        ) AS records
    ) AS numbered
    WHERE position > first ORDER BY position LIMIT 1
""")
# Every MAX_EVENT_IMAGES images of an album are one change with one event, so that no event grows
# with the size of the import.
_INSERT_IMAGES = text("""
    WITH numbered AS MATERIALIZED (
        SELECT incoming.*, version + 1 + (
            images + row_number() OVER (PARTITION BY album_id ORDER BY position) - 1
        ) / :max_event_images AS version
        FROM incoming JOIN locked_albums USING (album_id)
    ), listed AS (
        INSERT INTO added SELECT position, album_id, public_id, tags, version FROM numbered
    )
    INSERT INTO images (
        album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    )
    SELECT album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    FROM numbered
""")
_COUNT_IMAGES = text("""
    UPDATE locked_albums SET images = locked_albums.images + batch.images
    FROM (SELECT album_id, count(*) AS images FROM incoming GROUP BY album_id) AS batch
    WHERE locked_albums.album_id = batch.album_id
""")
_CLEAR_INCOMING = text("TRUNCATE incoming")
_RECORD_EVENTS = text(r"""
    INSERT INTO events (album_id, version, at, kind, public_ids, before, after)
    SELECT
        album_id, version, clock_timestamp(), :kind, array_agg(public_id),
        ('{' || string_agg('"' || public_id || '"\:null', ',') || '}')::json,
        ('{' || string_agg('"' || public_id || '":{"tags":' || tags || '}', ',') || '}')::json
    FROM (
        SELECT album_id, version, public_id, array_to_json(tags) AS tags
        FROM added ORDER BY album_id, version, position
    ) AS ordered
    GROUP BY album_id, version
""")
_RAISE_VERSIONS = text("""
    UPDATE albums SET version = newest
    FROM (SELECT album_id, max(version) AS newest FROM added GROUP BY album_id) AS changed
    WHERE albums.album_id = changed.album_id
""")
_SELECT_ALBUM = Statement(
    select(albums.c.version).where(albums.c.album_id == bindparam("album_id"))
)
_SELECT_RECORDS = Statement(
    select(images.c.record)
    .where(images.c.album_id == bindparam("album_id"), NOT_DELETED)
    .order_by(images.c.created_at, images.c.public_id)
)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many images an import added, and how many the albums had already; those are unchanged."""

    added: int
    present: int


async def add_images(
    database: Database, incoming: AsyncIterable[CopyLines], serializer_name: str
) -> ImportResult:
    """Add all of the images in one transaction; roll it back where ``incoming`` raises.

    An image that its album has already stays as it is. ``serializer_name`` says which serializer
    made the records. The albums are locked to the end, so that other changes of them wait.

    Raises DuplicateRecord, DatabaseUnavailable.
    """
    count = present = 0
    async with database.transaction() as connection:
        await connection.execute(_LOCK_IMPORTS)
        for statement in _PREPARE_STAGING:
            await connection.execute(statement)
        async for batch in _group_into_batches(incoming):
            count += sum(lines.count for lines in batch)
            present += await _add_batch(connection, batch, serializer_name)
        if present:
            await _refuse_duplicates(connection)
        await connection.execute(_RECORD_EVENTS, {"kind": "import"})
        await connection.execute(_RAISE_VERSIONS)
    return ImportResult(count - present, present)


async def _group_into_batches(incoming: AsyncIterable[CopyLines]) -> AsyncIterator[list[CopyLines]]:
    """Yield lines of BATCH_BYTES or more together, so that the cost of statements hardly counts."""
    batch: list[CopyLines] = []
    async for lines in incoming:
        batch.append(lines)
        if sum(len(lines.text) for lines in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


async def _add_batch(
    connection: AsyncConnection, batch: list[CopyLines], serializer_name: str
) -> int:
    """Add the images of one batch; return how many of them their albums had already."""
    await _copy_to_staging(connection, b"".join(lines.text for lines in batch))
    await connection.execute(_INSERT_ALBUMS, {"serializer_name": serializer_name})
    await connection.execute(_LOCK_ALBUMS)
    present = 0
    try:
        async with connection.begin_nested():
            await connection.execute(_INSERT_IMAGES, {"max_event_images": MAX_EVENT_IMAGES})
    except IntegrityError:  # the album has some already: too rare to look for it in every batch
        present = (await connection.execute(_MOVE_PRESENT)).rowcount
        if await connection.scalar(_HAS_DUPLICATE):
            await _refuse_duplicates(connection)
        await connection.execute(_INSERT_IMAGES, {"max_event_images": MAX_EVENT_IMAGES})
    await connection.execute(_COUNT_IMAGES)
    await connection.execute(_CLEAR_INCOMING)
    return present


async def _refuse_duplicates(connection: AsyncConnection) -> None:
    """Raise DuplicateRecord where two records of the import so far are of the same image."""
    if (positions := (await connection.execute(_FIND_DUPLICATE)).first()) is not None:
        raise DuplicateRecord(*positions)


async def _copy_to_staging(connection: AsyncConnection, text: bytes) -> None:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    # asyncpg's coroutine keeps the buffer until it is collected; closing it frees its memory now.
    with BytesIO(text) as source:
        await driver.copy_to_table("incoming", source=source, columns=COLUMNS)


async def require_album(database: Database, album_id: str) -> None:
    """Raise AlbumNotFound unless something was once put into the album; it may be empty now.

    Raises DatabaseUnavailable, SchemaOutdated.
    """
    if not await database.read(_SELECT_ALBUM, album_id=album_id):
        raise AlbumNotFound(album_id)


async def export_records(database: Database, album_id: str) -> AsyncIterator[str]:
    """Yield the album's records as of one moment, oldest first, with at most EXPORT_ROWS in memory.

    Raises DatabaseUnavailable, SchemaOutdated.
    """
    with translate_database_errors():
        connection = await database.connect()
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # Without a name, because a pooler may have used the connection before.
                prepared = await connection.prepare(_SELECT_RECORDS.text, name="")
                arguments = _SELECT_RECORDS.order_arguments({"album_id": album_id})
                async for row in prepared.cursor(*arguments, prefetch=EXPORT_ROWS):
                    yield row[0]
        finally:
            await connection.close()
