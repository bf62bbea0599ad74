"""Many records at once: in within one transaction, out in bounded memory."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from io import BytesIO

from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.copy_format import COLUMNS, CopyLines
from imageapi.database.engine import Database, Statement, translate_database_errors
from imageapi.database.errors import DuplicateRecord
from imageapi.database.tables import THERE, images

#: A change of more images is several changes, each with its event.
MAX_EVENT_IMAGES = 1000

#: So much is copied and added at a time; PostgreSQL sorts it in memory.
BATCH_BYTES = 4 * 1024**2

# Held to the end: of two imports that add to the same albums, neither waits for the other in a
# circle. Whoever changes one image holds one album only.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('imageapi import'))")
_STAGING = (
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
        CREATE TEMPORARY TABLE held (
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
_MAKE_ALBUMS = text("""
    INSERT INTO albums (album_id, version, rendering)
    SELECT DISTINCT album_id, 0, :rendering FROM incoming
    ORDER BY album_id
    ON CONFLICT (album_id) DO NOTHING
""")
_HOLD_ALBUMS = text("""
    INSERT INTO held (album_id, version, images)
    SELECT album_id, version, 0 FROM albums
    WHERE album_id IN (SELECT album_id FROM incoming EXCEPT SELECT album_id FROM held)
    FOR UPDATE OF albums
""")
# A subquery for its value is asked for each row: joined, all that an album has might be read.
_LEAVE_PRESENT = text("""
    WITH left_alone AS (
        DELETE FROM incoming WHERE (
            SELECT true FROM images
            WHERE images.album_id = incoming.album_id AND images.public_id = incoming.public_id
        )
        RETURNING position, album_id, public_id
    )
    INSERT INTO present SELECT * FROM left_alone
""")
_ANY_DUPLICATE = text("""
    SELECT EXISTS (SELECT FROM incoming GROUP BY album_id, public_id HAVING count(*) > 1)
""")
_FIND_DUPLICATE = text("""
    SELECT first, position FROM (
        SELECT position, min(position) OVER (PARTITION BY album_id, public_id) AS first
        FROM (
            SELECT position, album_id, public_id FROM incoming
            UNION ALL SELECT position, album_id, public_id FROM added
            UNION ALL SELECT position, album_id, public_id FROM present
        ) AS each
    ) AS numbered
    WHERE position > first ORDER BY position LIMIT 1
""")
# Some images of an album make one change, and one event: none of them grows with the import.
_ADD = text("""
    WITH numbered AS MATERIALIZED (
        SELECT incoming.*, version + 1 + (
            images + row_number() OVER (PARTITION BY album_id ORDER BY position) - 1
        ) / :most AS version
        FROM incoming JOIN held USING (album_id)
    ), noted AS (
        INSERT INTO added SELECT position, album_id, public_id, tags, version FROM numbered
    )
    INSERT INTO images (
        album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    )
    SELECT album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    FROM numbered
""")
_COUNT = text("""
    UPDATE held SET images = held.images + more.images
    FROM (SELECT album_id, count(*) AS images FROM incoming GROUP BY album_id) AS more
    WHERE held.album_id = more.album_id
""")
_CLEAR = text("TRUNCATE incoming")
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
_EXPORT = Statement(
    select(images.c.record)
    .where(images.c.album_id == bindparam("album_id"), THERE)
    .order_by(images.c.created_at, images.c.public_id)
)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many images an import added, and how many were there already and left as they are."""

    added: int
    present: int


async def add_images(
    database: Database, incoming: AsyncIterable[CopyLines], rendering: str
) -> ImportResult:
    """Add all of the images in one transaction; what ``incoming`` raises undoes it.

    An image that is there already stays as it is. ``rendering`` names what made the records.
    The albums are held until it is done: who changes one of them meanwhile waits.
    Raises DuplicateRecord, DatabaseUnavailable.
    """
    count = present = 0
    async with database.transaction() as connection:
        await connection.execute(_ONE_AT_A_TIME)
        for statement in _STAGING:
            await connection.execute(statement)
        async for batch in _join_batches(incoming):
            count += sum(lines.count for lines in batch)
            present += await _add(connection, batch, rendering)
        if present:
            await _refuse_duplicates(connection)
        await connection.execute(_RECORD_EVENTS, {"kind": "import"})
        await connection.execute(_RAISE_VERSIONS)
    return ImportResult(count - present, present)


async def _join_batches(incoming: AsyncIterable[CopyLines]) -> AsyncIterator[list[CopyLines]]:
    """As many at once as make what a statement costs by itself small."""
    batch: list[CopyLines] = []
    async for lines in incoming:
        batch.append(lines)
        if sum(len(each.text) for each in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


async def _add(connection: AsyncConnection, batch: list[CopyLines], rendering: str) -> int:
    """Add some of the images; return how many of them were there already."""
    await _copy(connection, b"".join(lines.text for lines in batch))
    await connection.execute(_MAKE_ALBUMS, {"rendering": rendering})
    await connection.execute(_HOLD_ALBUMS)
    present = 0
    try:
        async with connection.begin_nested():
            await connection.execute(_ADD, {"most": MAX_EVENT_IMAGES})
    except IntegrityError:  # some are there already, which is rare enough to be looked for late
        present = (await connection.execute(_LEAVE_PRESENT)).rowcount
        if await connection.scalar(_ANY_DUPLICATE):
            await _refuse_duplicates(connection)
        await connection.execute(_ADD, {"most": MAX_EVENT_IMAGES})
    await connection.execute(_COUNT)
    await connection.execute(_CLEAR)
    return present


async def _refuse_duplicates(connection: AsyncConnection) -> None:
    if (twice := (await connection.execute(_FIND_DUPLICATE)).first()) is not None:
        raise DuplicateRecord(*twice)


async def _copy(connection: AsyncConnection, text: bytes) -> None:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    with BytesIO(text) as source:  # closed: the driver's coroutine lives until it is collected
        await driver.copy_to_table("incoming", source=source, columns=COLUMNS)


async def export_records(database: Database, album_id: str) -> AsyncIterator[str]:
    """The album's records, oldest first, as of one moment; a cursor's worth of them in memory."""
    with translate_database_errors():
        connection = await database.connect()
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                prepared = await connection.prepare(_EXPORT.text, name="")  # as a pooler needs it
                arguments = _EXPORT.arguments({"album_id": album_id})
                async for row in prepared.cursor(*arguments, prefetch=500):
                    yield row[0]
        finally:
            await connection.close()
