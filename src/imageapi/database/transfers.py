"""Many records at once: in within one transaction, out in bounded memory."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.engine import Database, Statement, translated
from imageapi.database.errors import RecordTwice
from imageapi.database.tables import THERE, images

#: A change of more images is several changes, each with its event.
MOST_IN_EVENT = 1000

_COLUMNS = (
    *("position", "album_id", "public_id", "created_at", "tags", "record"),
    *("format", "latitude", "longitude"),
)

_STAGING = text("""
    CREATE TEMPORARY TABLE incoming (
        position bigint, album_id text COLLATE "C", public_id uuid,
        created_at timestamptz, tags text[], record json,
        format text, latitude double precision, longitude double precision
    ) ON COMMIT DROP
""")
_TWICE = text("""
    SELECT first, position FROM (
        SELECT position, min(position) OVER (PARTITION BY album_id, public_id) AS first
        FROM incoming
    ) AS numbered
    WHERE position > first ORDER BY position LIMIT 1
""")
_MAKE_ALBUMS = text("""
    INSERT INTO albums (album_id, version, rendering)
    SELECT DISTINCT album_id, 0, :rendering FROM incoming
    ORDER BY album_id
    ON CONFLICT (album_id) DO NOTHING
""")
# Taking the albums' rows in order keeps two imports from waiting for each other in a circle.
_HOLD_ALBUMS = text("""
    SELECT FROM albums WHERE album_id IN (SELECT album_id FROM incoming)
    ORDER BY album_id FOR UPDATE
""")
_LEAVE_PRESENT = text("""
    DELETE FROM incoming USING images
    WHERE images.album_id = incoming.album_id AND images.public_id = incoming.public_id
""")
# Some images make one change, and one event: none of them grows with the import.
_NUMBER = text("""
    CREATE TEMPORARY TABLE numbered ON COMMIT DROP AS
    SELECT incoming.*, version + 1 + (
        row_number() OVER (PARTITION BY album_id ORDER BY position) - 1
    ) / :most AS version
    FROM incoming JOIN albums USING (album_id)
""")
_ADD = text("""
    INSERT INTO images (
        album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    )
    SELECT album_id, public_id, created_at, version, tags, record, format, latitude, longitude
    FROM numbered
""")
_NOTE = text(r"""
    INSERT INTO events (album_id, version, at, kind, public_ids, before, after)
    SELECT
        album_id, version, clock_timestamp(), :kind, array_agg(public_id ORDER BY position),
        ('{' || string_agg('"' || public_id || '"\:null', ',' ORDER BY position) || '}')::json,
        ('{' || string_agg(
            '"' || public_id || '":{"tags":' || array_to_json(tags) || '}', ',' ORDER BY position
        ) || '}')::json
    FROM numbered GROUP BY album_id, version
""")
_RAISE_VERSIONS = text("""
    UPDATE albums SET version = newest
    FROM (SELECT album_id, max(version) AS newest FROM numbered GROUP BY album_id) AS changed
    WHERE albums.album_id = changed.album_id
""")
_EXPORT = Statement(
    select(images.c.record)
    .where(images.c.album_id == bindparam("album_id"), THERE)
    .order_by(images.c.created_at, images.c.public_id)
)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be added; ``record`` is the text that clients are sent.

    ``gps`` is latitude and longitude in degrees.
    """

    album_id: str
    public_id: UUID
    created_at: datetime
    tags: list[str]
    record: str
    format: str
    gps: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Added:
    """How many images an import added, and how many were there already and left as they are."""

    added: int
    present: int


async def add_images(
    database: Database, incoming: AsyncIterable[NewImage], rendering: str
) -> Added:
    """Add all of the images in one transaction; what ``incoming`` raises undoes it.

    An image that is there already stays as it is. ``rendering`` names what made the records.
    Raises RecordTwice, DatabaseAway.
    """
    async with database.transaction() as connection:
        await connection.execute(_STAGING)
        count = await _copy(connection, incoming)
        await connection.execute(text("ANALYZE incoming"))
        if (twice := (await connection.execute(_TWICE)).first()) is not None:
            raise RecordTwice(*twice)
        await connection.execute(_MAKE_ALBUMS, {"rendering": rendering})
        await connection.execute(_HOLD_ALBUMS)
        present = (await connection.execute(_LEAVE_PRESENT)).rowcount
        await connection.execute(_NUMBER, {"most": MOST_IN_EVENT})
        await connection.execute(_ADD)
        await connection.execute(_NOTE, {"kind": "import"})
        await connection.execute(_RAISE_VERSIONS)
    return Added(count - present, present)


async def _copy(connection: AsyncConnection, incoming: AsyncIterable[NewImage]) -> int:
    count = 0

    async def rows() -> AsyncIterator[tuple[object, ...]]:
        nonlocal count
        async for image in incoming:
            yield (
                count,
                image.album_id,
                image.public_id,
                image.created_at,
                image.tags,
                image.record,
                image.format,
                *(image.gps or (None, None)),
            )
            count += 1

    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    await driver.copy_records_to_table("incoming", records=rows(), columns=_COLUMNS)
    return count


async def export_records(database: Database, album_id: str) -> AsyncIterator[str]:
    """The album's records, oldest first, as of one moment; a cursor's worth of them in memory."""
    with translated():
        connection = await database.connect()
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                async for row in connection.cursor(
                    _EXPORT.text, *_EXPORT.arguments({"album_id": album_id}), prefetch=500
                ):
                    yield row[0]
        finally:
            await connection.close()
