"""The images of an album, as the texts that clients are sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select, tuple_

from imageapi.database.engine import Database, Statement
from imageapi.database.tables import UNTAGGED, images


class Place(NamedTuple):
    """Where an image stands in the order of its album: oldest first, then by id."""

    created_at: datetime
    public_id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in order; ``last`` is where the page ends if there are more behind it."""

    records: list[str]
    total: int
    last: Place | None


_IN_ORDER = (images.c.created_at, images.c.public_id)
_QUEUE = (
    select(images.c.record, *_IN_ORDER)
    .where(images.c.album_id == bindparam("album_id"), UNTAGGED)
    .order_by(*_IN_ORDER)
)


def _after(query: Select[tuple[str, datetime, UUID]]) -> Select[tuple[str, datetime, UUID]]:
    place = (
        bindparam("created_at", type_=images.c.created_at.type),
        bindparam("public_id", type_=images.c.public_id.type),
    )
    return query.where(tuple_(*_IN_ORDER) > tuple_(*place))


_ALL = Statement(_QUEUE.with_only_columns(images.c.record))
_PAGE = Statement(_QUEUE.limit(bindparam("rows")))
_NEXT_PAGE = Statement(_after(_QUEUE).limit(bindparam("rows")))
_COUNT = Statement(
    select(func.count())
    .select_from(images)
    .where(images.c.album_id == bindparam("album_id"), UNTAGGED)
)


class UntaggedImages:
    """The queue: the images of an album that nobody has tagged yet, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, album_id: str) -> list[str]:
        """Every record of the queue; none for an album that was never seen."""
        rows = await self._database.read(_ALL, album_id=album_id)
        return [row[0] for row in rows]

    async def page(self, album_id: str, limit: int | None, after: Place | None) -> Page:
        """At most ``limit`` records behind the place, and how many the queue holds in all.

        A place stays what it is when its image leaves, and images that come or go elsewhere do not
        move it: following pages repeat nothing, and miss nothing that was there throughout.
        """
        rows_wanted = None if limit is None else limit + 1  # one more tells whether there is more
        if after is None:
            rows = await self._database.read(_PAGE, album_id=album_id, rows=rows_wanted)
        else:
            rows = await self._database.read(
                _NEXT_PAGE, album_id=album_id, rows=rows_wanted, **after._asdict()
            )
        total = (await self._database.read(_COUNT, album_id=album_id))[0][0]
        shown = rows[:limit]
        last = Place(*shown[-1][1:]) if len(rows) > len(shown) else None
        return Page([row[0] for row in shown], total, last)
