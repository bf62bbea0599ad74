"""The images of an album, as the texts that clients are sent."""

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

from imageapi.database.engine import Database, Statement
from imageapi.database.errors import ImageNotFound
from imageapi.database.tables import THERE, UNTAGGED, images


class Cursor(NamedTuple):
    """Where an image stands in the order of its album: oldest first, then by id."""

    created_at: datetime
    public_id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in order; ``last`` is where the page ends if there are more behind it."""

    records: list[str]
    last: Cursor | None


class Box(NamedTuple):
    """Degrees; where ``west`` is greater than ``east`` it crosses the 180th meridian."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Which images are asked for: those that all of what is given holds for."""

    tags: Sequence[str] = ()
    untagged: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    box: Box | None = None
    format: str | None = None

    def conditions(self) -> tuple[str, ...]:
        """The names in ``_CONDITIONS`` of what is given."""
        given = {
            "tags": bool(self.tags),
            "untagged": self.untagged is True,
            "tagged": self.untagged is False,
            "created_after": self.created_after is not None,
            "created_before": self.created_before is not None,
            "box": self.box is not None and self.box.west <= self.box.east,
            "box_across": self.box is not None and self.box.west > self.box.east,
            "format": self.format is not None,
        }
        return tuple(name for name, is_given in given.items() if is_given)

    def values(self) -> Mapping[str, Any]:
        """What the conditions compare with: the values of those that are given, and no others."""
        values = {
            "all_tags": list(self.tags) or None,
            "created_after": self.created_after,
            "created_before": self.created_before,
            "wanted_format": self.format,
            **(self.box._asdict() if self.box is not None else {}),
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it is kept; in the trash where ``deleted_at`` is a time.

    ``version`` is the album's at the image's last change. ``picture`` names the original in the
    store, ``asset_key`` signs the paths to it, ``digest`` is its SHA-256; all three are None for an
    imported record, which has no picture here.
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


#: So many records are in memory at once for one list; a list that is shorter is sent in one piece.
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


def _where(query: Select[Any], conditions: tuple[str, ...]) -> Select[Any]:
    # The queue's own condition says that images are there: its index is the one to be found.
    there = () if "untagged" in conditions else (THERE,)
    return query.where(_OF_ALBUM, *there, *(_CONDITIONS[name] for name in conditions))


@cache
def _select_page(conditions: tuple[str, ...], further: bool) -> Statement:
    query = _where(select(_COLUMNS.record, *_IN_ORDER), conditions)
    if further:
        place = (
            bindparam("place_created_at", type_=_COLUMNS.created_at.type),
            bindparam("place_public_id", type_=_COLUMNS.public_id.type),
        )
        query = query.where(tuple_(*_IN_ORDER) > tuple_(*place))
    return Statement(query.order_by(*_IN_ORDER).limit(bindparam("rows")))


@cache
def _select_count(conditions: tuple[str, ...]) -> Statement:
    return Statement(_where(select(func.count()).select_from(images), conditions))


#: Selects what a StoredImage is made of.
STORED = select(*(_COLUMNS[name] for name in StoredImage.__slots__))
_SELECT_ONE = Statement(STORED.where(_OF_IMAGE, THERE))
_SELECT_BY_DIGEST = Statement(
    STORED.where(_OF_ALBUM, _COLUMNS.digest == bindparam("digest"), THERE)
)
_UNNESTED_TAGS = select(func.unnest(_COLUMNS.tags).label("tag")).where(_OF_ALBUM, THERE).subquery()
_SELECT_TAGS = Statement(
    select(_UNNESTED_TAGS.c.tag, func.count())
    .group_by(_UNNESTED_TAGS.c.tag)
    .order_by(func.count().desc(), func.convert_to(_UNNESTED_TAGS.c.tag, "UTF8"))
)


class Images:
    """The images of albums, oldest first; none for an album that was never seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chunks(
        self, album_id: str, wanted: Filter, after: Cursor | None = None
    ) -> AsyncGenerator[list[str], None]:
        """Every record behind the place that the filter lets through, MAX_CHUNK_RECORDS at once.

        Each chunk is a statement of its own: whoever takes them slowly, or leaves, holds nothing.
        """
        while True:
            rows = await self._rows(album_id, wanted, MAX_CHUNK_RECORDS, after)
            yield [row[0] for row in rows]
            if len(rows) < MAX_CHUNK_RECORDS:
                return
            after = Cursor(*rows[-1][1:])

    async def page(self, album_id: str, wanted: Filter, limit: int, after: Cursor | None) -> Page:
        """At most ``limit`` records behind the place.

        A place stays what it is when its image leaves, and images that come or go elsewhere do not
        move it: following pages repeat nothing, and miss nothing that was there throughout.
        """
        # One more tells whether there is more.
        rows = await self._rows(album_id, wanted, limit + 1, after)
        shown = rows[:limit]
        last = Cursor(*shown[-1][1:]) if len(rows) > len(shown) else None
        return Page([row[0] for row in shown], last)

    async def count(self, album_id: str, wanted: Filter) -> int:
        """How many images of the album the filter lets through."""
        statement = _select_count(wanted.conditions())
        rows = await self._database.read(statement, album_id=album_id, **wanted.values())
        count: int = rows[0][0]
        return count

    async def _rows(
        self, album_id: str, wanted: Filter, most: int, after: Cursor | None
    ) -> list[Any]:
        """Records with their places, behind the place."""
        place = {} if after is None else {f"place_{k}": v for k, v in after._asdict().items()}
        return await self._database.read(
            _select_page(wanted.conditions(), after is not None),
            album_id=album_id,
            rows=most,
            **wanted.values(),
            **place,
        )

    async def get(self, album_id: str, public_id: UUID) -> StoredImage:
        """One image; raises ImageNotFound, also for one in the trash."""
        rows = await self._database.read(_SELECT_ONE, album_id=album_id, public_id=public_id)
        if not rows:
            raise ImageNotFound
        return StoredImage(*rows[0])

    async def find_by_digest(self, album_id: str, digest: bytes) -> StoredImage | None:
        """The image whose content has this SHA-256, unless it is in the trash."""
        rows = await self._database.read(_SELECT_BY_DIGEST, album_id=album_id, digest=digest)
        return StoredImage(*rows[0]) if rows else None

    async def tags(self, album_id: str) -> list[tuple[str, int]]:
        """The album's tags with how many images bear each, most used first."""
        return [
            (row[0], row[1]) for row in await self._database.read(_SELECT_TAGS, album_id=album_id)
        ]

    async def counts(self, album_id: str) -> tuple[int, int]:
        """How many images there are, and how many of them untagged."""
        return await self.count(album_id, Filter()), await self.count(album_id, UNTAGGED_ONLY)
