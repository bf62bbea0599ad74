"""Reads the events of albums. Every change of an album has recorded one."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, Select, Text, bindparam, func, select

from imageapi.database.engine import Database
from imageapi.database.statement import Statement
from imageapi.database.tables import events

#: Limits for one chunk, in rows and bytes. A single event may exceed the byte limit: it can list
#: 1,000 images with all their tags.
MAX_CHUNK_EVENTS = 100
MAX_CHUNK_BYTES = 1024 * 1024
#: The largest version that PostgreSQL's bigint can hold.
MAX_VERSION = 2**63 - 1


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


def _choose_last_version(sizes: Sequence[asyncpg.Record], max_bytes: int) -> int:
    """Return the version of the last event that fits into ``max_bytes``, at least the first one's.

    ``sizes`` are rows of a version and the bytes of its two texts, in the order of the versions.
    """
    last: int = sizes[0][0]
    total_bytes = 0
    for version, *parts in sizes:
        total_bytes += sum(parts)
        if total_bytes > max_bytes:
            break
        last = version
    return last


class AlbumEvents:
    """Reads the events of albums, oldest first. An unknown album has none.

    All methods raise DatabaseUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_versions(self, album_id: str, after: int, limit: int) -> list[int]:
        """Return the versions of at most ``limit`` events that follow the version ``after``."""
        rows = await self._database.read(
            _EVENT_VERSIONS, album_id=album_id, after=after, rows=limit
        )
        return [row[0] for row in rows]

    async def iterate_chunks(
        self, album_id: str, after: int, last: int = MAX_VERSION
    ) -> AsyncGenerator[list[Event], None]:
        """Yield the events after the version ``after`` up to ``last``, in chunks of bounded size.

        Sizes are read before texts, so that no chunk is larger than the limits above. No connection
        is in use between two chunks, as in `Images.iterate_chunks`.
        """
        while after < last:
            sizes = await self._database.read(
                _EVENT_SIZES, album_id=album_id, after=after, rows=MAX_CHUNK_EVENTS
            )
            if not sizes:
                return
            chunk_end = min(last, _choose_last_version(sizes, MAX_CHUNK_BYTES))
            rows = await self._database.read(
                _EVENTS, album_id=album_id, after=after, last=chunk_end, rows=MAX_CHUNK_EVENTS
            )
            yield [Event(*row) for row in rows]
            if len(sizes) < MAX_CHUNK_EVENTS and chunk_end >= sizes[-1][0]:
                return
            after = chunk_end
