"""A drill: the same calls while the data set grows from 10 thousand to 10 million images.

It grows a database album by album, as a service does: each album has 25 to 500 untagged images, and
one image in five is tagged. Twenty albums are filled at the same time, so that the rows of an album
lie on different pages. A second database on the same server always has 10,000 images. Each figure
is the median of calls that alternate between the two, so that other load on the machine affects
both. Then the drill changes tags 10,000 times with several fill factors, and measures what remains.

Commits do not wait for the disk here (`synchronous_commit=off`): that takes milliseconds at any
size, which would hide the differences. `make scale` runs the drill and needs 20 GB of disk;
`--max-images 1000000` needs 4. With IMAGEAPI_DATABASE_URL the databases are created on that server,
and dropped at the end.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg

from imageapi.albums.editor import Editor
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.album_change import album_change
from imageapi.database.engine import Database
from imageapi.database.images import UNTAGGED_ONLY, Filter, Images
from imageapi.database.migration import migrate
from imageapi.database.statement import Statement
from imageapi.records.image import Image
from imageapi.resources import run_database_server

SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
BYTES_PER_IMAGE = 2000  # with indexes, and the WAL that is written while it grows
ALBUMS_AT_A_TIME = 500
CHANGES = 10_000
SERIALIZER = RecordSerializer(ZoneInfo("UTC"), {"full": 1600, "large": 480, "mini": 120})
INDEXES = ("pk_images", "ix_images_there", "ix_images_queue", "uq_images_digest")

#: Album n: every fifth has 31 images, the others 31 to 621; every fifth image is tagged.
_ALBUMS = """
    SELECT n, '003' || substr(md5(n::text), 1, 15) AS album_id,
        CASE WHEN n % 5 = 0 THEN 31 ELSE 31 + abs(hashtext(n::text)::bigint) % 591 END AS count
    FROM generate_series($1::int, $2::int) AS n
"""
_ADD_ALBUMS = f"""
    INSERT INTO albums (album_id, version, rendering)
    SELECT album_id, 1, $3 FROM ({_ALBUMS}) AS new
"""  # noqa: S608 - our own text
_ADD_IMAGES = f"""
    INSERT INTO images (
        album_id, public_id, created_at, version, tags, record,
        format, latitude, longitude, picture, asset_key, digest
    )
    SELECT album_id, public_id, created_at, 1, tags,
        replace(replace(replace(replace(
            $3::text, '<album>', album_id), '<id>', public_id::text),
            '<at>', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')),
            '"<tags>"', CASE tags WHEN '{{}}' THEN '' ELSE ',"house"' END)::json,
        'png', 48.86, 2.35, gen_random_uuid(), uuid_send(public_id), sha256(uuid_send(public_id))
    FROM (
        SELECT album_id, gen_random_uuid() AS public_id,
            timestamptz '2024-01-01' + interval '7 minutes' * n + interval '1.5 seconds' * k
                AS created_at,
            CASE k % 5 WHEN 0 THEN ARRAY['house'] ELSE '{{}}' END AS tags
        FROM ({_ALBUMS}) AS album, generate_series(1, count) AS k
        ORDER BY n / 20, k, n OFFSET 0
    ) AS new
"""  # noqa: S608 - our own text
_ALBUM_IDS = f"SELECT album_id, count FROM ({_ALBUMS}) AS album"  # noqa: S608 - our own text
_UPDATES = """
    SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
    WHERE relname IN ('albums', 'images')
"""


class ExplainingDatabase(Database):
    """A database that remembers the last statement that it read with, to explain it."""

    last_read: tuple[Statement, dict[str, Any]] | None = None

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement."""
        self.last_read = (statement, values)
        return await super().read(statement, **values)

    async def fetch_value(self, query: str, *values: object) -> Any:
        """Return a single value; use a new connection, so that VACUUM and the like work too."""
        connection = await self.connect()
        try:
            return await connection.fetchval(query, *values, timeout=7200)
        finally:
            await connection.close()

    async def fetch_rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        """Return rows; use a new connection."""
        connection = await self.connect()
        try:
            return await connection.fetch(query, *values, timeout=7200)
        finally:
            await connection.close()

    async def count_pages(self) -> int:
        """Return how many pages of 8 KiB the last read accesses."""
        assert self.last_read is not None
        statement, values = self.last_read
        explained = await self.fetch_value(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}",
            *statement.order_arguments(values),
        )
        plan = json.loads(explained)[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


class GrowingDatabase:
    """A database to which albums are added, and the calls that are measured on it."""

    def __init__(self, database: ExplainingDatabase) -> None:
        self.database = database
        self.images = 0
        self.albums = 0
        self.small: list[str] = []
        """Albums with 25 untagged images."""
        self.large: list[str] = []
        self._taggable: dict[str, list[UUID]] = {}
        self._tagged: dict[str, UUID] = {}
        self._calls = 0
        self._rng = random.Random(1)

    async def grow(self, images: int) -> float:
        """Add albums until there are about `images` images; return the duration in seconds."""
        started = time.monotonic()
        sample = json.loads(SAMPLE.read_text())[0]
        sample |= {"public_id": "<id>", "album_id": "<album>", "created_at": "<at>"}
        sample["infos"]["tags"] = ["<album>"]
        text = json.dumps(sample, separators=(",", ":"))
        text = text.replace('["<album>"]', '["<album>""<tags>"]')
        connection = await self.database.connect()
        try:
            while self.images < images:
                count = max(1, min(ALBUMS_AT_A_TIME, (images - self.images) // 270))
                numbers = (self.albums + 1, self.albums + count)
                await connection.execute(_ADD_ALBUMS, *numbers, SERIALIZER.name, timeout=600)
                status = await connection.execute(_ADD_IMAGES, *numbers, text, timeout=600)
                self.images += int(status.split()[-1])
                self.albums += count
            await connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP ON)", timeout=7200)
            await connection.execute("CHECKPOINT", timeout=600)
        finally:
            await connection.close()
        rows = await self.database.fetch_rows(_ALBUM_IDS, 1, self.albums)
        self.small = [row["album_id"] for row in rows if row["count"] == 31]  # noqa: PLR2004
        self.large = [row["album_id"] for row in rows if row["count"] > 500]  # noqa: PLR2004
        return time.monotonic() - started

    def choose_cached_album(self) -> str:
        """Return one of three albums, which stay in PostgreSQL's memory and are only read."""
        self._calls += 1
        return self.small[self._calls % 3]

    def choose_cached_album_to_change(self) -> str:
        """Return one of two other albums, which stay in memory too."""
        self._calls += 1
        return self.small[3 + self._calls % 2]

    def choose_any_album(self) -> str:
        """Return a random album, mostly one that was not read recently."""
        return self._rng.choice(self.small[5:])

    async def list_queue(self, album_id: str) -> None:
        """Read a queue of 25 images."""
        assert len(await read_queue(self.database, album_id)) == 25  # noqa: PLR2004

    async def read_page(self, album_id: str) -> None:
        """Read the first 25 images of an album, and how many there are."""
        await Images(self.database).list_page(album_id, Filter(), 25, None)

    async def prepare_tag(self, album_id: str) -> Callable[[], Awaitable[None]]:
        """Return a call that tags an image of the queue, or removes the tag of the call before."""
        if album_id not in self._taggable:
            rows = await self.database.fetch_rows(
                "SELECT public_id FROM images WHERE album_id = $1 AND tags = '{}'", album_id
            )
            self._taggable[album_id] = [row["public_id"] for row in rows]
        public_id = self._rng.choice(self._taggable[album_id])
        editor = Editor(self.database, SERIALIZER, album_id, "drill")

        async def tag() -> None:
            await editor.tag(public_id, "kitchen", None)
            self._tagged[album_id] = public_id

        async def untag() -> None:
            await editor.untag(self._tagged.pop(album_id), "kitchen", None)

        return untag if album_id in self._tagged else tag

    async def untag_all(self) -> None:
        """Remove all tags that the calls of `prepare_tag` added."""
        for album_id, public_id in self._tagged.items():
            editor = Editor(self.database, SERIALIZER, album_id, "drill")
            await editor.untag(public_id, "kitchen", None)
        self._tagged.clear()

    async def add(self) -> None:
        """Add an image to a large album, as an upload does after its picture is stored."""
        album_id, public_id = self._rng.choice(self.large), uuid4()
        digest = secrets.token_bytes(32)
        sample = json.loads(SAMPLE.read_text())[0]
        sample |= {"public_id": str(public_id), "album_id": album_id}
        sample["infos"]["tags"] = [album_id]
        image = Image.model_validate(sample)
        asset_key = secrets.token_bytes(16)
        async with album_change(
            self.database, album_id, "drill", serializer_name=SERIALIZER.name
        ) as change:
            assert await change.find_by_digest(digest) is None
            assert await change.find_image(public_id) is None
            await change.add_image(
                public_id=public_id,
                created_at=datetime.now(UTC),
                tags=[],
                record=SERIALIZER.serialize(image, asset_key),
                format="png",
                latitude=None,
                longitude=None,
                picture=uuid4(),
                asset_key=asset_key,
                digest=digest,
            )
            key = str(public_id)
            await change.record_event("add", [public_id], {key: None}, {key: {"tags": []}})
            await change.get_images([public_id])


PrepareCall = Callable[[GrowingDatabase], Awaitable[Callable[[], Awaitable[Any]]]]


def _skip_preparation(call: Callable[[GrowingDatabase], Awaitable[Any]]) -> PrepareCall:
    async def prepare(growing: GrowingDatabase) -> Callable[[], Awaitable[Any]]:
        return lambda: call(growing)

    return prepare


#: The measured calls by name. Each is prepared first; only the call that this returns is timed.
CALLS: dict[str, PrepareCall] = {
    "list, warm": _skip_preparation(
        lambda growing: growing.list_queue(growing.choose_cached_album())
    ),
    "list, any": _skip_preparation(lambda growing: growing.list_queue(growing.choose_any_album())),
    "page": _skip_preparation(lambda growing: growing.read_page(growing.choose_cached_album())),
    "tag, warm": lambda growing: growing.prepare_tag(growing.choose_cached_album_to_change()),
    "tag, any": lambda growing: growing.prepare_tag(growing.choose_any_album()),
    "add": _skip_preparation(GrowingDatabase.add),
}


async def measure_medians(
    prepare: PrepareCall, databases: Sequence[GrowingDatabase], rounds: int = 40
) -> list[float]:
    """Time the call on the databases in alternation; return a median in µs for each database."""
    times: list[list[float]] = [[] for _ in databases]
    for number in range(rounds + 1):
        for database, its_times in zip(databases, times, strict=True):
            for _ in range(20):
                call = await prepare(database)
                started = time.perf_counter()
                await call()
                if number:  # the first round fills the caches
                    its_times.append((time.perf_counter() - started) * 1e6)
    return [statistics.median(its_times) for its_times in times]


async def measure(growing: GrowingDatabase, reference: GrowingDatabase) -> None:
    """Print a row: the median of each call, and its ratio to that of the reference database."""
    cells = []
    await growing.list_queue(growing.choose_cached_album())
    pages = await growing.database.count_pages()
    for name, prepare in CALLS.items():
        reference_median, median = await measure_medians(prepare, (reference, growing))
        cells.append(f"{name} {median:,.0f} ({median / reference_median:.2f})")
        if name.startswith("tag"):
            await reference.untag_all()
            await growing.untag_all()
    depths = ", ".join([f"{await measure_depth(growing.database, name)}" for name in INDEXES])
    size = await growing.database.fetch_value("SELECT pg_database_size(current_database())")
    print(f"{growing.images:>10,} images, {growing.albums:,} albums, {size / 1e9:.2f} GB:", end=" ")
    print("; ".join(cells), end="; ")
    print(f"{pages} pages for the list; depths {depths}", flush=True)


async def measure_depth(database: ExplainingDatabase, index: str) -> int:
    """Return the number of levels of a B-tree index: from the root to a leaf, both included."""
    await database.fetch_value("CREATE EXTENSION IF NOT EXISTS pageinspect")
    return int(await database.fetch_value("SELECT level FROM bt_metap($1)", index)) + 1


async def print_sizes(growing: GrowingDatabase) -> None:
    """Print the sizes of tables and indexes, and how long a VACUUM takes after the changes."""
    for name in ("images", *INDEXES, "events", "pk_events", "albums"):
        size = await growing.database.fetch_value(
            "SELECT pg_relation_size($1::text::regclass)", name
        )
        print(f"    {name:<20}{size / 1e6:>10,.1f} MB{size / growing.images:>8.0f} bytes an image")
    started = time.monotonic()
    await growing.database.fetch_value("VACUUM (INDEX_CLEANUP ON) images")
    print(f"    VACUUM images, all its indexes: {time.monotonic() - started:.1f} s", flush=True)


@dataclass(frozen=True)
class AgeingSetup:
    """The settings of a database before its tags change; fill factors in percent."""

    images_fill_factor: int
    albums_fill_factor: int
    old_snapshot: bool = False
    autovacuum: bool = False


async def age(dsn: str, setup: AgeingSetup, images: int, changes: int) -> None:
    """Tag the images of albums, oldest first, until 25 are untagged; measure lists after that.

    This leaves the dead index entries where a list starts to read: the worst place for them.
    """
    async with create_database(dsn, "drill_ageing") as database:
        for table, factor in (
            ("images", setup.images_fill_factor),
            ("albums", setup.albums_fill_factor),
        ):
            await database.fetch_value(
                f"ALTER TABLE {table} SET (fillfactor = {factor}, "
                f"autovacuum_enabled = {'on' if setup.autovacuum else 'off'})"
            )
        growing = GrowingDatabase(database)
        await growing.grow(images)
        heap_bytes = await database.fetch_value("SELECT pg_relation_size('images')")
        fresh_us = (await measure_medians(CALLS["list, warm"], (growing,)))[0]
        snapshot = await database.connect()
        if setup.old_snapshot:
            await snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await snapshot.fetch("SELECT FROM images LIMIT 1")
        albums, change_us = await tag_until_25_are_left(growing, changes)
        hot_of_tags = await measure_hot_updates(database)
        first_us, later_us, pages = await measure_lists(database, albums)
        growth = await database.fetch_value("SELECT pg_relation_size('images')") / heap_bytes
        hot_of_rotations = await rotate_images(database, albums, changes // 5)
        await snapshot.close()
        started = time.monotonic()
        await database.fetch_value("VACUUM images")
        seconds = time.monotonic() - started
        _, vacuumed_us, vacuumed_pages = await measure_lists(database, albums)
        print(
            f"    fill factor {setup.images_fill_factor}, albums {setup.albums_fill_factor}"
            f"{', a snapshot held open' if setup.old_snapshot else ''}: "
            f"{change_us:,.0f} µs a change; in place: {hot_of_tags}; images x{growth:.2f}; "
            f"list of 25 fresh {fresh_us:,.0f} µs, first after {first_us:,.0f}, "
            f"then {later_us:,.0f} of {pages:.0f} pages, "
            f"vacuumed ({seconds:.1f} s) {vacuumed_us:,.0f} of {vacuumed_pages:.0f} pages; "
            f"edits in place: {hot_of_rotations}",
            flush=True,
        )


async def tag_until_25_are_left(growing: GrowingDatabase, changes: int) -> tuple[list[str], float]:
    """Tag images of large albums, oldest first; return the albums, and the median time in µs."""
    times: list[float] = []
    albums = []
    for album_id in growing.large:
        if len(times) >= changes:
            break
        rows = await growing.database.fetch_rows(
            "SELECT public_id FROM images WHERE album_id = $1 AND tags = '{}' ORDER BY created_at",
            album_id,
        )
        editor = Editor(growing.database, SERIALIZER, album_id, "drill")
        for row in rows[:-25]:
            started = time.perf_counter()
            await editor.tag(row["public_id"], "kitchen", None)
            times.append((time.perf_counter() - started) * 1e6)
        albums.append(album_id)
    return albums, statistics.median(times)


async def rotate_images(database: ExplainingDatabase, albums: Sequence[str], count: int) -> str:
    """Rotate images, which changes no indexed column; return `measure_hot_updates` of that."""
    before = {row[0]: row for row in await read_update_counts(database)}
    rows = await database.fetch_rows(
        "SELECT album_id, public_id FROM images WHERE album_id = ANY($1) "
        "ORDER BY random() LIMIT $2",
        list(albums),
        count,
    )
    for row in rows:
        editor = Editor(database, SERIALIZER, row["album_id"], "drill")
        await editor.edit(row["public_id"], {"rotation": 90}, None)
    return await measure_hot_updates(database, before)


async def read_update_counts(database: ExplainingDatabase) -> list[asyncpg.Record]:
    """Read PostgreSQL's counts of updates; a session reports them when it ends, or each second."""
    await asyncio.sleep(1.5)
    return await database.fetch_rows(_UPDATES)


async def measure_hot_updates(
    database: ExplainingDatabase, before: dict[str, asyncpg.Record] | None = None
) -> str:
    """Return which share of the updates since `before` changed no index (HOT), for each table."""
    shares = []
    for name, updates, hot_updates in sorted(map(tuple, await read_update_counts(database))):
        updates_before, hot_updates_before = before[name][1:] if before else (0, 0)
        share = (hot_updates - hot_updates_before) / max(1, updates - updates_before)
        shares.append(f"{name} {share:.0%}")
    return ", ".join(shares)


async def read_queue(database: Database, album_id: str) -> list[str]:
    """Return the records of the untagged images of an album."""
    chunks = Images(database).iterate_chunks(album_id, UNTAGGED_ONLY)
    return [record async for chunk in chunks for record in chunk]


async def measure_lists(
    database: ExplainingDatabase, albums: Sequence[str]
) -> tuple[float, float, float]:
    """Return the median µs of an album's first list and of later ones, and the mean pages."""
    first_us: list[float] = []
    later_us: list[float] = []
    pages: list[int] = []
    await read_queue(database, "none")
    for album_id in albums:
        for times in (first_us, *[later_us] * 20):
            started = time.perf_counter()
            await read_queue(database, album_id)
            times.append((time.perf_counter() - started) * 1e6)
        pages.append(await database.count_pages())
    return statistics.median(first_us), statistics.median(later_us), statistics.mean(pages)


@asynccontextmanager
async def create_database(dsn: str, name: str) -> AsyncIterator[ExplainingDatabase]:
    """Create a migrated database of this name on the server; drop it at the end."""
    administrator = await asyncpg.connect(dsn)
    await administrator.execute(f"DROP DATABASE IF EXISTS {name}")
    await administrator.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(dsn)
    query = f"{parts.query}&synchronous_commit=off".lstrip("&")
    database = ExplainingDatabase(urlunsplit(parts._replace(path=f"/{name}", query=query)))
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()


async def drill(dsn: str, max_images: int, ageing_images: int) -> None:
    """Grow a database and measure calls; then age other databases."""
    async with (
        create_database(dsn, "drill_reference") as small,
        create_database(dsn, "drill_scale") as large,
    ):
        reference, growing = GrowingDatabase(small), GrowingDatabase(large)
        await reference.grow(SIZES[0])
        print("Median µs of a call, in parentheses: times that of the same call at 10,000 images.")
        for size in [size for size in SIZES if size <= max_images]:
            seconds = await growing.grow(size)
            print(f"grown in {seconds:,.0f} s", flush=True)
            await measure(growing, reference)
        await print_sizes(growing)
    print(f"{CHANGES:,} tag changes among {ageing_images:,} images, no vacuum meanwhile:")
    for setup in (
        AgeingSetup(100, 100),
        AgeingSetup(90, 50),
        AgeingSetup(80, 50),
        AgeingSetup(100, 100, old_snapshot=True),
    ):
        await age(dsn, setup, ageing_images, CHANGES)


def main() -> None:
    """Check the free disk space, then run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-images", type=int, default=SIZES[-1], help="the largest size")
    parser.add_argument(
        "--ageing-images", type=int, default=100_000, help="images to change tags among"
    )
    parser.add_argument("--folder", type=Path, help="where the embedded server's folder is made")
    arguments = parser.parse_args()
    url = os.environ.get("IMAGEAPI_DATABASE_URL")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        free = shutil.disk_usage(folder).free
        if url is None and free < arguments.max_images * BYTES_PER_IMAGE + 2e9:
            needed = arguments.max_images * BYTES_PER_IMAGE / 1e9 + 2
            sys.exit(
                f"{folder}: {needed:.0f} GB are needed, {free / 1e9:.0f} are free; see --max-images"
            )
        with run_database_server(url, Path(folder)) as dsn:
            asyncio.run(drill(dsn, arguments.max_images, arguments.ageing_images))


if __name__ == "__main__":
    main()
