"""How PostgreSQL goes about what the service asks it: along an index of the one album, in order.

A scenario calls everything of ``database/`` that sends statements in daily work; what it sends is
recorded and explained, on albums of several sizes, both with the values of the call and for any
values (PostgreSQL chooses the latter plan for a statement it has prepared, once it is no dearer).
A statement that no call of the scenario sends fails the first test, so that none is forgotten.
"""

import ast
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from sqlalchemy import event

import imageapi.database
from factories import record
from imageapi.albums.editor import Editor
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database import images, reserialize
from imageapi.database.album_change import album_change, list_album_ids
from imageapi.database.engine import SESSION_SETTINGS, Database, DedicatedConnection
from imageapi.database.events import AlbumEvents
from imageapi.database.images import UNTAGGED_ONLY, Box, Cursor, Filter, Images
from imageapi.database.migration import migrate
from imageapi.database.statement import Statement
from imageapi.database.untagged_cache import UntaggedCache

FOLDER = Path(imageapi.database.__file__).parent

#: Not daily work, each with the reason why it may read what it likes.
OTHER_WORK = {
    "migration.py": "once for each version, under a lock",
    "rate_limits.py": "of clients, not of albums: one row by its key, and a sweep of the expired",
    "bulk_import.py": "an import reads what it has itself staged; an export is the plain list",
}
#: Statements that are for all albums at once, and why.
ACROSS_ALBUMS = {
    "SELECT albums.album_id FROM albums ORDER BY albums.album_id": "the purge, once a day",
    "SELECT albums.album_id FROM albums WHERE albums.rendering != $1::VARCHAR": "at a start",
}

#: An album of 107 images; one of 50,000, of which a fiftieth is untagged; one of 10,000, of which
#: nobody has tagged any.
USUAL, LARGE, FRESH = "usual-7", "large", "fresh"
RENDERING = RecordSerializer(ZoneInfo("UTC"), {"full": 1600, "large": 480, "mini": 120})

FILL = """
    INSERT INTO albums SELECT album_id, 5, $1 FROM (
        SELECT 'usual-' || n AS album_id FROM generate_series(1, 400) AS n
        UNION ALL SELECT 'empty-' || n FROM generate_series(1, 20000) AS n
        UNION ALL SELECT unnest(ARRAY['large', 'fresh'])
    ) AS new
"""
#: Those of one album lie apart, as they do where many albums are filled at the same time.
FILL_IMAGES = """
    INSERT INTO images (
        album_id, public_id, created_at, version, tags, record, format, latitude, longitude,
        deleted_at, picture, asset_key, digest
    )
    SELECT album_id, md5(album_id || k)::uuid,
        timestamptz '2024-01-01' + interval '1 minute' * k, 1 + k % 5,
        CASE WHEN untagged THEN '{}' ELSE ARRAY['tag ' || k % 50] END, $1::json,
        (ARRAY['jpg', 'png', 'heic'])[1 + k % 3], k % 90, k % 180,
        CASE k % 100 WHEN 99 THEN timestamptz '2024-06-01' + interval '1 minute' * k END,
        md5('picture' || album_id || k)::uuid, '\\x00', sha256((album_id || k)::bytea)
    FROM (
        SELECT 'usual-' || n AS album_id, k, k % 5 > 0 AS untagged
        FROM generate_series(1, 400) AS n, generate_series(1, 100 + n % 100) AS k
        UNION ALL SELECT 'large', k, k % 50 = 0 FROM generate_series(1, 50000) AS k
        UNION ALL SELECT 'fresh', k, true FROM generate_series(1, 10000) AS k
    ) AS new ORDER BY md5(album_id || k)
"""
FILL_EVENTS = """
    INSERT INTO events SELECT album_id, v, now(), 'user', 'tag', '{}', '{}', '{}'
    FROM albums, generate_series(1, CASE album_id WHEN 'large' THEN 5000 ELSE 5 END) AS v
    WHERE album_id NOT LIKE 'empty%'
"""
#: EXPLAIN of a statement with placeholders, for any values; only a function can pass it none.
GENERIC = """
    CREATE FUNCTION generic_plan(statement text) RETURNS json LANGUAGE plpgsql AS $$
    DECLARE plan json; BEGIN
        EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO plan; RETURN plan;
    END $$
"""


@dataclass(frozen=True)
class Sent:
    """A statement as it was sent, and by which call of the scenario."""

    call: str
    text: str
    values: Sequence[Any]


class Recording(Database):
    """A database that writes down what is sent to it."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.sent: list[Sent] = []
        self.call = ""
        event.listen(self._engine.sync_engine, "before_cursor_execute", self._note_write)

    @contextmanager
    def called(self, call: str) -> Iterator[None]:
        """What is sent within the block is this call's."""
        self.call = call
        yield
        self.call = ""

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        self.note(statement.text, statement.order_arguments(values))
        return await super().read(statement, **values)

    def dedicated_connection(self) -> DedicatedConnection:
        return RecordingConnection(self)

    def _note_write(
        self, _1: Any, _2: Any, statement: str, parameters: Any, _3: Any, many: bool
    ) -> None:
        self.note(statement, parameters[0] if many else parameters)

    def note(self, statement: str, values: Sequence[Any]) -> None:
        self.sent.append(Sent(self.call, " ".join(statement.split()), values))


class RecordingConnection(DedicatedConnection):
    """A held connection of it, which writes down there."""

    def __init__(self, database: Recording) -> None:
        super().__init__(database)
        self._recording = database

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        self._recording.note(statement.text, statement.order_arguments(values))
        return await super().read(statement, **values)


@pytest.fixture(scope="module")
async def filled(server: str) -> AsyncIterator[Recording]:
    """A database of its own with 120,000 images in 402 albums, vacuumed and analyzed."""
    administrator = await asyncpg.connect(server)
    await administrator.execute("CREATE DATABASE of_plans")
    database = Recording(server.replace("/imageapi?", "/of_plans?"))
    try:
        await migrate(database)
        connection = await database.connect()
        await connection.execute(FILL, RENDERING.name)
        await connection.execute(FILL_IMAGES, json.dumps(record("usual-1")))
        await connection.execute(FILL_EVENTS)
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute(GENERIC)
        await connection.close()
        yield database
    finally:
        await database.close()
        await administrator.execute("DROP DATABASE of_plans WITH (FORCE)")
        await administrator.close()


MOMENT = datetime(2024, 1, 1, 1, tzinfo=UTC)
WHOLE = Filter(
    tags=["tag 1", "tag 2"],
    untagged=False,
    created_after=MOMENT,
    created_before=MOMENT,
    box=Box(-10, -10, 10, 10),
    format="png",
)
FILTERS = {
    "": Filter(),
    "untagged": UNTAGGED_ONLY,
    "tagged": Filter(untagged=False),
    "tags": Filter(tags=["tag 1"]),
    "created_after": Filter(created_after=MOMENT),
    "created_before": Filter(created_before=MOMENT),
    "box": Filter(box=Box(-10, -10, 10, 10)),
    "box_across": Filter(box=Box(170, -10, -170, 10)),
    "format": Filter(format="png"),
    "all of them": WHOLE,
    "all, untagged": replace(WHOLE, tags=[], untagged=True),
}


async def whole(images: Images, album_id: str, wanted: Filter) -> list[str]:
    """The whole list."""
    return [each async for chunk in images.iterate_chunks(album_id, wanted) for each in chunk]


async def lists(database: Recording) -> None:
    """Everything that is read."""
    images, history = Images(database), AlbumEvents(database)
    with database.called("kept list"):
        kept = UntaggedCache(database)
        await kept.find_list(USUAL)
        await kept.close()
    place = Cursor(MOMENT, UUID(int=0))
    for name, wanted in FILTERS.items():
        with database.called(f"list {name}"):
            await whole(images, USUAL, wanted)
        for after, which in ((None, "first page"), (place, "further page")):
            with database.called(f"{which} {name}"):
                await images.list_page(USUAL, wanted, 25, after)
    with database.called("one"):
        await images.get(USUAL, await some_id(database))
    with database.called("by digest"):
        await images.find_by_digest(USUAL, bytes(32))
    with database.called("tags"):
        await images.list_tags(USUAL)
    with database.called("counts"):
        await images.count_all_and_untagged(USUAL)
    with database.called("events"):
        await history.list_versions(USUAL, 3, 25)
        async for _ in history.iterate_chunks(USUAL, 3):
            break


async def changes(database: Recording) -> None:
    """Everything that is written, and read while it is."""
    public_id = await some_id(database)
    with database.called("change"):
        async with album_change(database, USUAL) as change:
            await change.get_images([public_id])
            await change.find_image(public_id)
            await change.find_by_digest(bytes(32))
            await change.list_after(public_id, 1000)
            await change.list_trashed_before(MOMENT, 1000)
            await change.add_image(**COLUMNS_OF_NEW)
            await change.remove_images([COLUMNS_OF_NEW["public_id"]])
            await change.record_event("purge", [], {}, {})
        async with album_change(database, "new", serializer_name="another") as change:
            pass
        editor = Editor(database, RENDERING, USUAL, "user")
        await editor.tag(public_id, "kitchen", None)
        await editor.tag_many([public_id], ["attic"], ["kitchen"])
        await editor.delete(public_id, None)
        await editor.restore(public_id, None)
        async with album_change(database, USUAL) as change:
            await change.filter_pictures_in_use([uuid4(), uuid4()])
    with database.called("over all albums"):
        await list_album_ids(database)
        await reserialize.reserialize(database, RENDERING.name, lambda text, _: text)
    async with database.advisory_lock("a name"):
        pass


COLUMNS_OF_NEW: dict[str, Any] = {
    "public_id": uuid4(),
    "created_at": MOMENT,
    "tags": [],
    "record": "{}",
    "format": "png",
    "latitude": 1.0,
    "longitude": 1.0,
    "picture": uuid4(),
    "asset_key": b"",
    "digest": bytes(32),
}


async def some_id(database: Recording) -> UUID:
    page = await Images(database).list_page(USUAL, Filter(), 1, None)
    assert page.last is not None
    return page.last.public_id


@contextmanager
def lines_run() -> Iterator[set[tuple[str, int]]]:
    """The lines of ``database/`` that run within the block, as file names and numbers."""
    run: set[tuple[str, int]] = set()

    def trace(frame: FrameType, what: str, _: object) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.parent != FOLDER:
            return None
        run.add((path.name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield run
    finally:
        sys.settrace(before)


def senders() -> Iterator[tuple[str, range]]:
    """Where ``database/`` sends a statement in daily work: the file, and the call's lines."""
    for path in FOLDER.glob("*.py"):
        if path.name in OTHER_WORK:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="read" | "execute" | "scalar" | "scalars")):
                    yield path.name, range(node.lineno, (node.end_lineno or 0) + 1)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What reading and writing everything once has sent, and the lines that ran."""

    sent: list[Sent]
    lines: set[tuple[str, int]]


@pytest.fixture(scope="module")
async def scenario(filled: Recording) -> Scenario:
    """Run once: what has been changed is not changed again, so a second run sends less."""
    filled.sent.clear()
    with lines_run() as lines:
        await lists(filled)
        await changes(filled)
        sent = list({each.text: each for each in filled.sent}.values())
        await as_by_a_pooler(filled)
    return Scenario(sent, lines)


@pytest.fixture(scope="module")
def sent(scenario: Scenario) -> list[Sent]:
    return scenario.sent


async def as_by_a_pooler(filled: Recording) -> None:
    """The same statements, each in a transaction of its own."""
    pooled = Database(filled._dsn, is_pooled=True)
    kept = UntaggedCache(pooled)
    await kept.find_list(USUAL)
    await kept.close()
    await pooled.close()


def test_scenario_sends_every_statement_there_is(scenario: Scenario) -> None:
    names = {name for wanted in FILTERS.values() for name in wanted.list_conditions()}
    assert names == set(images._CONDITIONS)
    not_run = [
        (name, lines.start)
        for name, lines in senders()
        if not any((name, line) in scenario.lines for line in lines)
    ]
    assert not_run == []


Plan = Mapping[str, Any]


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


async def explained(filled: Recording, sent: Sequence[Sent]) -> list[tuple[Sent, str, Plan]]:
    """Each statement with its plan for any values, and for those sent in each of the albums."""
    found: list[tuple[Sent, str, Plan]] = []
    connection = await filled.connect()
    try:
        for each in sent:
            generic = await connection.fetchval("SELECT generic_plan($1)", each.text)
            found.append((each, "any", json.loads(generic)[0]["Plan"]))
            for album_id in (USUAL, LARGE, FRESH):
                values = [album_id if value == USUAL else value for value in each.values]
                plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {each.text}", *values)
                found.append((each, album_id, json.loads(plan)[0]["Plan"]))
    finally:
        await connection.close()
    return found


def scans(plan: Plan) -> Iterator[Plan]:
    """The nodes that read a table, or an index of it."""
    return (node for node in nodes(plan) if node["Node Type"].endswith("Scan"))


async def test_every_statement_goes_along_an_index_of_the_one_album(
    filled: Recording, sent: list[Sent]
) -> None:
    """No statement reads a table through, or what is another album's.

    What the filters by tag, format and box ask for is looked for among all images of the album:
    0.1 ms for a hundred of them, 36 ms for 50,000. An index of tags (GIN, with btree_gin) can only
    be read as a bitmap, to be sorted after, and would be written with every tag.
    """
    astray = [
        (each.text, which, node["Node Type"], node.get("Index Name"))
        for each, which, plan in await explained(filled, sent)
        for node in scans(plan)
        if each.text not in ACROSS_ALBUMS
        and not re.match(r"\(+album_id = ", node.get("Index Cond", ""))
    ]
    assert astray == []
    assert ACROSS_ALBUMS.keys() <= {each.text for each in sent}


async def test_nothing_is_sorted_but_the_names_of_tags(filled: Recording, sent: list[Sent]) -> None:
    """What is answered in order is read in order; tags are sorted by their number of images."""
    sorting = {
        each.call
        for each, _, plan in await explained(filled, sent)
        for node in nodes(plan)
        if "Sort" in node["Node Type"]
    }
    assert sorting == {"tags"}


#: The index of each statement that has one made for it, by what the statement looks like.
INDEXES = {
    r".* tags = '{}' AND deleted_at IS NULL.* ORDER BY .*": "ix_images_queue",
    r"SELECT count.* tags = '{}' AND deleted_at IS NULL": "ix_images_queue",
    r"(?!.* tags = '{}').* ORDER BY images.created_at, images.public_id( LIMIT .*)?": (
        "ix_images_there"
    ),
    r".* AND images.public_id (=|IN) \S+( AND deleted_at IS NULL)?": "pk_images",
    r".* ORDER BY images.public_id LIMIT .*": "pk_images",
    r".* AND images.digest = \S+ AND deleted_at IS NULL": "uq_images_digest",
    r".* ORDER BY images.deleted_at LIMIT .*": "ix_images_trash",
    r"SELECT .* FROM events .*": "pk_events",
    r".* WHERE albums.album_id = \S+( COLLATE \"C\")?( FOR UPDATE)?": "pk_albums",
}


@pytest.mark.parametrize(("looks", "index"), INDEXES.items(), ids=INDEXES.values())
async def test_index_is_the_one_made_for_the_statement(
    filled: Recording, sent: list[Sent], looks: str, index: str
) -> None:
    those = [each for each in sent if re.fullmatch(looks, each.text)]
    used = {
        node.get("Index Name")
        for each, _, plan in await explained(filled, those)
        for node in scans(plan)
    }
    assert used == {index}


async def test_plans_are_those_of_the_sessions_settings(filled: Recording) -> None:
    """With PostgreSQL's own settings the queue of an album would be sorted each time."""
    with filled.called("queue"):
        await whole(Images(filled), USUAL, UNTAGGED_ONLY)
    queue = filled.sent[-1]
    connection = await filled.connect()
    try:
        for name, value in SESSION_SETTINGS.items():
            if name.startswith("tcp_"):  # this connection is none
                continue
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        await connection.execute(
            "SET random_page_cost = 4; SET enable_bitmapscan = on; SET enable_seqscan = on"
        )
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {queue.text}", *queue.values)
    finally:
        await connection.close()
    assert '"Node Type": "Sort"' in plan
