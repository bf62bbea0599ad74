"""A drill: the same calls of the service while the data set grows from 10 thousand to 10 million.

It grows a database album by album, as albums come in: of each, 25 to 500 untagged images, and one
in five tagged; twenty albums are filled at a time, so that an album's rows lie apart. Beside it on
the same server stays one of 10,000 images, and every figure is the median of calls that alternate
between the two, so that what else the machine does falls on both. Then it changes tags 10,000
times under several fill factors, and tells what that leaves behind.

Commits wait for no disk here (`synchronous_commit=off`): its milliseconds, the same at any size,
would hide what differs. `make scale` runs it, and needs 20 GB of disk; `--most 1000000` needs 4.
With IMAGEAPI_DATABASE_URL the databases are made on that server, and removed again.
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
from imageapi.database.opening import database_server
from imageapi.database.statement import Statement
from imageapi.records.image import Image

SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
BYTES_PER_IMAGE = 2000  # with indexes, and the log of what was written while it grows
ALBUMS_AT_A_TIME = 500
CHANGES = 10_000
RENDERING = RecordSerializer(ZoneInfo("UTC"), {"full": 1600, "large": 480, "mini": 120})
INDEXES = ("pk_images", "ix_images_there", "ix_images_queue", "uq_images_digest")

#: Album n: every fifth has 31 images, the others up to 621; every fifth image is tagged.
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
_OF_TWENTY_FIVE = """
    SELECT album_id FROM images WHERE tags = '{}' AND deleted_at IS NULL
    AND album_id = ANY($1) GROUP BY album_id HAVING count(*) = 25
"""
_ALBUM_IDS = f"SELECT album_id, count FROM ({_ALBUMS}) AS album"  # noqa: S608 - our own text
_UPDATES = """
    SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
    WHERE relname IN ('albums', 'images')
"""


class Watched(Database):
    """A database that remembers the last statement it read by, to have it explained."""

    last: tuple[Statement, dict[str, Any]] | None = None

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """The statement's rows."""
        self.last = (statement, values)
        return await super().read(statement, **values)

    async def one(self, query: str, *values: object) -> Any:
        """A single value, on a connection of its own; also for what no transaction may hold."""
        connection = await self.connect()
        try:
            return await connection.fetchval(query, *values, timeout=7200)
        finally:
            await connection.close()

    async def rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        """Rows, on a connection of its own."""
        connection = await self.connect()
        try:
            return await connection.fetch(query, *values, timeout=7200)
        finally:
            await connection.close()

    async def buffers(self) -> int:
        """How many pages of 8 KiB the last read takes."""
        assert self.last is not None
        statement, values = self.last
        explained = await self.one(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}",
            *statement.order_arguments(values),
        )
        plan = json.loads(explained)[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


class Grown:
    """A database with so and so many images, and the calls that are measured on it."""

    def __init__(self, database: Watched) -> None:
        self.database = database
        self.images = 0
        self.albums = 0
        self.small: list[str] = []
        """Albums with 25 untagged images."""
        self.large: list[str] = []
        self._taggable: dict[str, list[UUID]] = {}
        self._tagged: dict[str, UUID] = {}
        self._turn = 0
        self._chance = random.Random(1)

    async def grow(self, images: int) -> float:
        """Add albums until there are about so many images; return the seconds it took."""
        started = time.monotonic()
        sample = json.loads(SAMPLE.read_text())[0]
        sample |= {"public_id": "<id>", "album_id": "<album>", "created_at": "<at>"}
        sample["infos"]["tags"] = ["<album>"]
        text = json.dumps(sample, separators=(",", ":"))
        text = text.replace('["<album>"]', '["<album>""<tags>"]')
        connection = await self.database.connect()
        try:
            while self.images < images:
                most = max(1, min(ALBUMS_AT_A_TIME, (images - self.images) // 270))
                span = (self.albums + 1, self.albums + most)
                await connection.execute(_ADD_ALBUMS, *span, RENDERING.name, timeout=600)
                done = await connection.execute(_ADD_IMAGES, *span, text, timeout=600)
                self.images += int(done.split()[-1])
                self.albums += most
            await connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP ON)", timeout=7200)
            await connection.execute("CHECKPOINT", timeout=600)
        finally:
            await connection.close()
        rows = await self.database.rows(_ALBUM_IDS, 1, self.albums)
        self.small = [row["album_id"] for row in rows if row["count"] == 31]  # noqa: PLR2004
        self.large = [row["album_id"] for row in rows if row["count"] > 500]  # noqa: PLR2004
        return time.monotonic() - started

    def warm_album(self) -> str:
        """One of three albums, which stay in PostgreSQL's memory, and are only read."""
        self._turn += 1
        return self.small[self._turn % 3]

    def warm_album_of_writes(self) -> str:
        """One of two others, which stay there too."""
        self._turn += 1
        return self.small[3 + self._turn % 2]

    def any_album(self) -> str:
        """Any album, mostly one that was not asked for of late."""
        return self._chance.choice(self.small[5:])

    async def list_of(self, album_id: str) -> None:
        """The queue of 25."""
        assert len(await queue(self.database, album_id)) == 25  # noqa: PLR2004

    async def page_of(self, album_id: str) -> None:
        """The first 25 images of an album, and how many there are."""
        await Images(self.database).list_page(album_id, Filter(), 25, None)

    async def tag(self, album_id: str) -> Callable[[], Awaitable[None]]:
        """A tag to an image of the queue, or taken from the one that has it."""
        if album_id not in self._taggable:
            rows = await self.database.rows(
                "SELECT public_id FROM images WHERE album_id = $1 AND tags = '{}'", album_id
            )
            self._taggable[album_id] = [row["public_id"] for row in rows]
        public_id = self._chance.choice(self._taggable[album_id])
        editor = Editor(self.database, RENDERING, album_id, "drill")

        async def tag() -> None:
            await editor.tag(public_id, "kitchen", None)
            self._tagged[album_id] = public_id

        async def untag() -> None:
            await editor.untag(self._tagged.pop(album_id), "kitchen", None)

        return untag if album_id in self._tagged else tag

    async def untag_all(self) -> None:
        """Undo what `tag` left."""
        for album_id, public_id in self._tagged.items():
            editor = Editor(self.database, RENDERING, album_id, "drill")
            await editor.untag(public_id, "kitchen", None)
        self._tagged.clear()

    async def add(self) -> None:
        """A record into a large album, as an upload adds it once its picture is kept."""
        album_id, public_id = self._chance.choice(self.large), uuid4()
        digest = secrets.token_bytes(32)
        sample = json.loads(SAMPLE.read_text())[0]
        sample |= {"public_id": str(public_id), "album_id": album_id}
        sample["infos"]["tags"] = [album_id]
        image = Image.model_validate(sample)
        asset_key = secrets.token_bytes(16)
        async with album_change(
            self.database, album_id, "drill", serializer_name=RENDERING.name
        ) as change:
            assert await change.find_by_digest(digest) is None
            assert await change.find_image(public_id) is None
            await change.add_image(
                public_id=public_id,
                created_at=datetime.now(UTC),
                tags=[],
                record=RENDERING.text(image, asset_key),
                format="png",
                latitude=None,
                longitude=None,
                picture=uuid4(),
                asset_key=asset_key,
                digest=digest,
            )
            named = str(public_id)
            await change.record_event("add", [public_id], {named: None}, {named: {"tags": []}})
            await change.get_images([public_id])


Call = Callable[[Grown], Awaitable[Callable[[], Awaitable[Any]]]]


def _reading(of: Callable[[Grown], Awaitable[Any]]) -> Call:
    async def prepared(grown: Grown) -> Callable[[], Awaitable[Any]]:
        return lambda: of(grown)

    return prepared


#: What is measured, by name: each is prepared first, and then called against the clock.
CALLS: dict[str, Call] = {
    "list, warm": _reading(lambda grown: grown.list_of(grown.warm_album())),
    "list, any": _reading(lambda grown: grown.list_of(grown.any_album())),
    "page": _reading(lambda grown: grown.page_of(grown.warm_album())),
    "tag, warm": lambda grown: grown.tag(grown.warm_album_of_writes()),
    "tag, any": lambda grown: grown.tag(grown.any_album()),
    "add": _reading(Grown.add),
}


async def medians(call: Call, both: Sequence[Grown], rounds: int = 40) -> list[float]:
    """The median microseconds of the call on each, which take turns."""
    times: list[list[float]] = [[] for _ in both]
    for number in range(rounds + 1):
        for grown, its in zip(both, times, strict=True):
            for _ in range(20):
                act = await call(grown)
                started = time.perf_counter()
                await act()
                if number:  # the first round warms
                    its.append((time.perf_counter() - started) * 1e6)
    return [statistics.median(its) for its in times]


async def measure(grown: Grown, reference: Grown) -> None:
    """Print a row: each call's median, and how many times its cost at 10,000 images that is."""
    cells = []
    await grown.list_of(grown.warm_album())
    pages = await grown.database.buffers()
    for name, call in CALLS.items():
        at_small, here = await medians(call, (reference, grown))
        cells.append(f"{name} {here:,.0f} ({here / at_small:.2f})")
        if name.startswith("tag"):
            await reference.untag_all()
            await grown.untag_all()
    depths = ", ".join([f"{await depth(grown.database, name)}" for name in INDEXES])
    size = await grown.database.one("SELECT pg_database_size(current_database())")
    print(f"{grown.images:>10,} images, {grown.albums:,} albums, {size / 1e9:.2f} GB:", end=" ")
    print("; ".join(cells), end="; ")
    print(f"{pages} pages for the list; depths {depths}", flush=True)


async def depth(database: Watched, index: str) -> int:
    """How many pages lie between an index's root and what it finds, both counted."""
    await database.one("CREATE EXTENSION IF NOT EXISTS pageinspect")
    return int(await database.one("SELECT level FROM bt_metap($1)", index)) + 1


async def sizes(grown: Grown) -> None:
    """Print what takes the room, and what it takes to vacuum after changes."""
    for name in ("images", *INDEXES, "events", "pk_events", "albums"):
        size = await grown.database.one("SELECT pg_relation_size($1::text::regclass)", name)
        print(f"    {name:<20}{size / 1e6:>10,.1f} MB{size / grown.images:>8.0f} bytes an image")
    started = time.monotonic()
    await grown.database.one("VACUUM (INDEX_CLEANUP ON) images")
    print(f"    VACUUM images, all its indexes: {time.monotonic() - started:.1f} s", flush=True)


@dataclass(frozen=True)
class Ageing:
    """How a database is set up before its tags change."""

    of_images: int
    of_albums: int
    old_snapshot: bool = False
    autovacuum: bool = False


async def age(dsn: str, how: Ageing, images: int, changes: int) -> None:
    """Work through albums from their oldest image on, until 25 are left, and look at what is left.

    That leaves the dead where the list begins: the worst place for it.
    """
    async with made(dsn, "drill_ageing") as database:
        for table, factor in (("images", how.of_images), ("albums", how.of_albums)):
            await database.one(
                f"ALTER TABLE {table} SET (fillfactor = {factor}, "
                f"autovacuum_enabled = {'on' if how.autovacuum else 'off'})"
            )
        grown = Grown(database)
        await grown.grow(images)
        heap = await database.one("SELECT pg_relation_size('images')")
        fresh = (await medians(CALLS["list, warm"], (grown,)))[0]
        snapshot = await database.connect()
        if how.old_snapshot:
            await snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await snapshot.fetch("SELECT FROM images LIMIT 1")
        worked, microseconds = await work_through(grown, changes)
        tagged = await hot(database)
        first, then, pages = await cost_of_list(database, worked)
        grew = await database.one("SELECT pg_relation_size('images')") / heap
        edited = await edits(database, worked, changes // 5)
        await snapshot.close()
        started = time.monotonic()
        await database.one("VACUUM images")
        seconds = time.monotonic() - started
        _, cleaned, pages_cleaned = await cost_of_list(database, worked)
        print(
            f"    fill factor {how.of_images}, albums {how.of_albums}"
            f"{', a snapshot held open' if how.old_snapshot else ''}: "
            f"{microseconds:,.0f} µs a change; in place: {tagged}; images x{grew:.2f}; list of 25 "
            f"fresh {fresh:,.0f} µs, first after {first:,.0f}, then {then:,.0f} of {pages:.0f} "
            f"pages, vacuumed ({seconds:.1f} s) {cleaned:,.0f} of {pages_cleaned:.0f} pages; "
            f"edits in place: {edited}",
            flush=True,
        )


async def work_through(grown: Grown, changes: int) -> tuple[list[str], float]:
    """Tag images, oldest first, until 25 are left; the albums, and the median microseconds."""
    times: list[float] = []
    worked = []
    for album_id in grown.large:
        if len(times) >= changes:
            break
        queue = await grown.database.rows(
            "SELECT public_id FROM images WHERE album_id = $1 AND tags = '{}' ORDER BY created_at",
            album_id,
        )
        editor = Editor(grown.database, RENDERING, album_id, "drill")
        for row in queue[:-25]:
            started = time.perf_counter()
            await editor.tag(row["public_id"], "kitchen", None)
            times.append((time.perf_counter() - started) * 1e6)
        worked.append(album_id)
    return worked, statistics.median(times)


async def edits(database: Watched, worked: Sequence[str], count: int) -> str:
    """Rotate images, which changes no indexed column; how many updates were in place."""
    before = {row[0]: row for row in await statistics_of(database)}
    rows = await database.rows(
        "SELECT album_id, public_id FROM images WHERE album_id = ANY($1) "
        "ORDER BY random() LIMIT $2",
        list(worked),
        count,
    )
    for row in rows:
        editor = Editor(database, RENDERING, row["album_id"], "drill")
        await editor.edit(row["public_id"], {"rotation": 90}, None)
    return await hot(database, before)


async def statistics_of(database: Watched) -> list[asyncpg.Record]:
    """What PostgreSQL counted; a session reports it when it ends, or after a second."""
    await asyncio.sleep(1.5)
    return await database.rows(_UPDATES)


async def hot(database: Watched, before: dict[str, asyncpg.Record] | None = None) -> str:
    """How large a part of the updates since then touched no index."""
    said = []
    for name, updates, in_place in sorted(map(tuple, await statistics_of(database))):
        updates_before, in_place_before = before[name][1:] if before else (0, 0)
        share = (in_place - in_place_before) / max(1, updates - updates_before)
        said.append(f"{name} {share:.0%}")
    return ", ".join(said)


async def queue(database: Database, album_id: str) -> list[str]:
    """The untagged images of an album."""
    chunks = Images(database).iterate_chunks(album_id, UNTAGGED_ONLY)
    return [record async for chunk in chunks for record in chunk]


async def cost_of_list(database: Watched, albums: Sequence[str]) -> tuple[float, float, float]:
    """Median microseconds of an album's first list, and of further ones; and its mean pages."""
    first: list[float] = []
    then: list[float] = []
    pages: list[int] = []
    await queue(database, "none")
    for album_id in albums:
        for into in (first, *[then] * 20):
            started = time.perf_counter()
            await queue(database, album_id)
            into.append((time.perf_counter() - started) * 1e6)
        pages.append(await database.buffers())
    return statistics.median(first), statistics.median(then), statistics.mean(pages)


@asynccontextmanager
async def made(dsn: str, name: str) -> AsyncIterator[Watched]:
    """A migrated database of this name on the server, removed at the end."""
    administrator = await asyncpg.connect(dsn)
    await administrator.execute(f"DROP DATABASE IF EXISTS {name}")
    await administrator.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(dsn)
    query = f"{parts.query}&synchronous_commit=off".lstrip("&")
    database = Watched(urlunsplit(parts._replace(path=f"/{name}", query=query)))
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()


async def drill(dsn: str, most: int, ageing: int) -> None:
    """Grow and measure; then age."""
    async with made(dsn, "drill_reference") as small, made(dsn, "drill_scale") as large:
        reference, grown = Grown(small), Grown(large)
        await reference.grow(SIZES[0])
        print("Median µs of a call, in parentheses: times that of the same call at 10,000 images.")
        for size in [size for size in SIZES if size <= most]:
            seconds = await grown.grow(size)
            print(f"grown in {seconds:,.0f} s", flush=True)
            await measure(grown, reference)
        await sizes(grown)
    print(f"{CHANGES:,} tag changes among {ageing:,} images, no vacuum meanwhile:")
    for how in (
        Ageing(100, 100),
        Ageing(90, 50),
        Ageing(80, 50),
        Ageing(100, 100, old_snapshot=True),
    ):
        await age(dsn, how, ageing, CHANGES)


def main() -> None:
    """Look for room, then run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="how many images at most")
    parser.add_argument("--ageing", type=int, default=100_000, help="images to change tags among")
    parser.add_argument("--folder", type=Path, help="where the embedded server's folder is made")
    arguments = parser.parse_args()
    url = os.environ.get("IMAGEAPI_DATABASE_URL")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        free = shutil.disk_usage(folder).free
        if url is None and free < arguments.most * BYTES_PER_IMAGE + 2e9:
            needed = arguments.most * BYTES_PER_IMAGE / 1e9 + 2
            sys.exit(f"{folder}: {needed:.0f} GB are needed, {free / 1e9:.0f} are free; see --most")
        with database_server(url, Path(folder)) as dsn:
            asyncio.run(drill(dsn, arguments.most, arguments.ageing))


if __name__ == "__main__":
    main()
