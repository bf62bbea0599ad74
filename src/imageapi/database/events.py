"""What happened to an album: its events, one for every change."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, Select, Text, bindparam, func, select

from imageapi.database.engine import Database, Statement
from imageapi.database.tables import events

#: So many events are in memory at once, and so many bytes of them: but for a single one that is
#: larger, since each may tell of a thousand images and all their tags.
MAX_CHUNK_EVENTS = 100
MAX_CHUNK_BYTES = 1024 * 1024
#: No album will ever get beyond it.
LAST_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One change of an album; ``before`` and ``after`` are JSON texts."""

    version: int
    at: datetime
    user_id: str | None
    kind: str
    public_ids: Sequence[UUID]
    before: str
    after: str


def _select_events_after(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .where(events.c.album_id == bindparam("album_id"), events.c.version > bindparam("after"))
        .order_by(events.c.version)
        .limit(bindparam("rows"))
    )


_EVENT_VERSIONS = Statement(_select_events_after(events.c.version))
_EVENT_SIZES = Statement(
    _select_events_after(
        events.c.version,
        *(func.octet_length(side.cast(Text)) for side in (events.c.before, events.c.after)),
    )
)
_EVENTS = Statement(
    _select_events_after(*(column for column in events.c if column is not events.c.album_id)).where(
        events.c.version <= bindparam("last", type_=events.c.version.type)
    )
)


def _find_last_within(sizes: Sequence[asyncpg.Record], max_bytes: int) -> int:
    """The version of the last event that the bytes have room for, the first one's at least."""
    last: int = sizes[0][0]
    taken = 0
    for version, *parts in sizes:
        taken += sum(parts)
        if taken > max_bytes:
            break
        last = version
    return last


class AlbumEvents:
    """The events of albums, oldest first; none for an album that was never seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def versions(self, album_id: str, after: int, most: int) -> list[int]:
        """The versions of the album's next events after this one."""
        rows = await self._database.read(_EVENT_VERSIONS, album_id=album_id, after=after, rows=most)
        return [row[0] for row in rows]

    async def chunks(
        self, album_id: str, after: int, last: int = LAST_VERSION
    ) -> AsyncGenerator[list[Event], None]:
        """The events after a version up to ``last``, oldest first, as `Images.chunks`."""
        while after < last:
            sizes = await self._database.read(
                _EVENT_SIZES, album_id=album_id, after=after, rows=MAX_CHUNK_EVENTS
            )
            if not sizes:
                return
            end = min(last, _find_last_within(sizes, MAX_CHUNK_BYTES))
            rows = await self._database.read(
                _EVENTS, album_id=album_id, after=after, last=end, rows=MAX_CHUNK_EVENTS
            )
            yield [Event(*row) for row in rows]
            if len(sizes) < MAX_CHUNK_EVENTS and end >= sizes[-1][0]:
                return
            after = end
