"""Reads the images of albums. Records are the JSON texts that clients are sent."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    TextClause,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from imageapi.database.engine import Database
from imageapi.database.errors import ImageNotFound
from imageapi.database.statement import Statement
from imageapi.database.tables import NOT_DELETED, UNTAGGED, images


class Cursor(NamedTuple):
    """The position of an image in its album's order: oldest first, then by id."""

    created_at: datetime
    public_id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in order.

    ``last`` is the position of the last one where more records follow, else None.
    """

    records: list[str]
    last: Cursor | None


class Box(NamedTuple):
    """An area in degrees. It crosses the 180th meridian where ``west`` is greater than ``east``."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Which images a list has: those for which every condition that is set holds.

    ``tags`` are those that an image must all have. None, or no tags, is no condition.
    """

    tags: Sequence[str] = ()
    untagged: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    box: Box | None = None
    format: str | None = None

    def list_conditions(self) -> tuple[str, ...]:
        """Return the names in ``_CONDITIONS`` of the conditions that are set."""
        is_set = {
            "tags": bool(self.tags),
            "untagged": self.untagged is True,
            "tagged": self.untagged is False,
            "created_after": self.created_after is not None,
            "created_before": self.created_before is not None,
            "box": self.box is not None and self.box.west <= self.box.east,
            "box_across": self.box is not None and self.box.west > self.box.east,
            "format": self.format is not None,
        }
        return tuple(name for name, condition_is_set in is_set.items() if condition_is_set)

    def build_arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the conditions that are set, and no others."""
        arguments = {
            "all_tags": list(self.tags) or None,
            "created_after": self.created_after,
            "created_before": self.created_before,
            "wanted_format": self.format,
            **(self.box._asdict() if self.box is not None else {}),
        }
        return {name: value for name, value in arguments.items() if value is not None}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A row of an image; it is in the trash where ``deleted_at`` is a time.

    ``version`` is the album's version at the image's last change. ``picture`` names the original
    in the store, ``asset_key`` signs the paths to it, ``digest`` is its SHA-256. All three are None
    for an imported record, which has no picture in our store.
    """

    public_id: UUID
    created_at: datetime
    version: int
    record: str
    format: str
    deleted_at: datetime | None
    picture: UUID | None
    asset_key: bytes | None
    digest: bytes | None


#: How many records of one list are in memory at once. A shorter list is sent in one piece.
MAX_CHUNK_RECORDS = 1000
UNTAGGED_ONLY = Filter(untagged=True)
_COLUMNS = images.c
_IN_ORDER = (_COLUMNS.created_at, _COLUMNS.public_id)
_OF_ALBUM = _COLUMNS.album_id == bindparam("album_id")
_OF_IMAGE = and_(_OF_ALBUM, _COLUMNS.public_id == bindparam("public_id"))


def _bind_number(name: str) -> ColumnElement[float]:
    return bindparam(name, type_=_COLUMNS.latitude.type)


_NORTH_SOUTH = _COLUMNS.latitude.between(_bind_number("south"), _bind_number("north"))
_EAST_OF_WEST = _COLUMNS.longitude >= _bind_number("west")
_WEST_OF_EAST = _COLUMNS.longitude <= _bind_number("east")
_CONDITIONS: Mapping[str, ColumnElement[bool] | TextClause] = {
    "tags": _COLUMNS.tags.contains(bindparam("all_tags", type_=_COLUMNS.tags.type)),
    "untagged": UNTAGGED,
    "tagged": _COLUMNS.tags != [],
    "created_after": _COLUMNS.created_at > bindparam("created_after"),
    "created_before": _COLUMNS.created_at < bindparam("created_before"),
    "box": and_(_NORTH_SOUTH, _EAST_OF_WEST, _WEST_OF_EAST),
    "box_across": and_(_NORTH_SOUTH, or_(_EAST_OF_WEST, _WEST_OF_EAST)),
    "format": _COLUMNS.format == bindparam("wanted_format"),
}


def _add_conditions(query: Select[Any], conditions: tuple[str, ...]) -> Select[Any]:
    # UNTAGGED includes NOT_DELETED, and is the predicate of the queue's index.
    not_deleted = () if "untagged" in conditions else (NOT_DELETED,)
    return query.where(_OF_ALBUM, *not_deleted, *(_CONDITIONS[name] for name in conditions))


@cache
def _select_page(conditions: tuple[str, ...], has_cursor: bool) -> Statement:
    query = _add_conditions(select(_COLUMNS.record, *_IN_ORDER), conditions)
    if has_cursor:
        cursor = (
            bindparam("cursor_created_at", type_=_COLUMNS.created_at.type),
            bindparam("cursor_public_id", type_=_COLUMNS.public_id.type),
        )
        query = query.where(tuple_(*_IN_ORDER) > tuple_(*cursor))
    return Statement(query.order_by(*_IN_ORDER).limit(bindparam("rows")))


@cache
def _select_count(conditions: tuple[str, ...]) -> Statement:
    return Statement(_add_conditions(select(func.count()).select_from(images), conditions))


#: Selects the columns of a StoredImage, in the order of its fields.
SELECT_STORED = select(*(_COLUMNS[name] for name in StoredImage.__slots__))
_SELECT_ONE = Statement(SELECT_STORED.where(_OF_IMAGE, NOT_DELETED))
_SELECT_BY_DIGEST = Statement(
    SELECT_STORED.where(_OF_ALBUM, _COLUMNS.digest == bindparam("digest"), NOT_DELETED)
)
_UNNESTED_TAGS = (
    select(func.unnest(_COLUMNS.tags).label("tag")).where(_OF_ALBUM, NOT_DELETED).subquery()
)
_SELECT_TAGS = Statement(
    select(_UNNESTED_TAGS.c.tag, func.count())
    .group_by(_UNNESTED_TAGS.c.tag)
    .order_by(func.count().desc(), func.convert_to(_UNNESTED_TAGS.c.tag, "UTF8"))
)


class Images:
    """Reads the images of albums, oldest first. An unknown album has none.

    All methods raise DatabaseUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def iterate_chunks(
        self, album_id: str, wanted: Filter, after: Cursor | None = None
    ) -> AsyncGenerator[list[str], None]:
        """Yield all records after the cursor that pass the filter, MAX_CHUNK_RECORDS at a time.

        Each chunk is a statement of its own, so that a slow client holds no connection.
        """
        while True:
            rows = await self._read_rows(album_id, wanted, MAX_CHUNK_RECORDS, after)
            yield [row[0] for row in rows]
            if len(rows) < MAX_CHUNK_RECORDS:
                return
            after = Cursor(*rows[-1][1:])

    async def list_page(
        self, album_id: str, wanted: Filter, limit: int, after: Cursor | None
    ) -> Page:
        """Return at most ``limit`` records after the cursor that pass the filter.

        A cursor is a position, not an image: it stays valid when its image leaves the list, and
        other images that come or go do not move it. So a client that follows the pages gets no
        image twice, and misses none that is in the list all the time.
        """
        rows = await self._read_rows(album_id, wanted, limit + 1, after)  # one more: do any follow?
        page = rows[:limit]
        last = Cursor(*page[-1][1:]) if len(rows) > len(page) else None
        return Page([row[0] for row in page], last)

    async def count(self, album_id: str, wanted: Filter) -> int:
        """Return how many images of the album pass the filter."""
        statement = _select_count(wanted.list_conditions())
        rows = await self._database.read(statement, album_id=album_id, **wanted.build_arguments())
        count: int = rows[0][0]
        return count

    async def count_all_and_untagged(self, album_id: str) -> tuple[int, int]:
        """Return how many images the album has, and how many of them are untagged."""
        return await self.count(album_id, Filter()), await self.count(album_id, UNTAGGED_ONLY)

    async def get(self, album_id: str, public_id: UUID) -> StoredImage:
        """Return one image; raise ImageNotFound, also for one in the trash."""
        rows = await self._database.read(_SELECT_ONE, album_id=album_id, public_id=public_id)
        if not rows:
            raise ImageNotFound
        return StoredImage(*rows[0])

    async def find_by_digest(self, album_id: str, digest: bytes) -> StoredImage | None:
        """Return the image whose content has this SHA-256, None if the album has none.

        An image in the trash does not count.
        """
        rows = await self._database.read(_SELECT_BY_DIGEST, album_id=album_id, digest=digest)
        return StoredImage(*rows[0]) if rows else None

    async def list_tags(self, album_id: str) -> list[tuple[str, int]]:
        """Return the album's tags, each with the number of its images, most used first."""
        return [
            (row[0], row[1]) for row in await self._database.read(_SELECT_TAGS, album_id=album_id)
        ]

    async def _read_rows(
        self, album_id: str, wanted: Filter, limit: int, after: Cursor | None
    ) -> list[Any]:
        """Return at most ``limit`` rows after the cursor: the record, then a Cursor's fields."""
        cursor = {} if after is None else {f"cursor_{k}": v for k, v in after._asdict().items()}
        return await self._database.read(
            _select_page(wanted.list_conditions(), after is not None),
            album_id=album_id,
            rows=limit,
            **wanted.build_arguments(),
            **cursor,
        )
