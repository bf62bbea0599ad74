"""Reads the versions of albums, for many requests with one statement."""

import asyncio
from collections.abc import Iterable, Iterator

from sqlalchemy import text

from imageapi.database.engine import Database
from imageapi.database.statement import Statement

_VERSIONS = Statement(text("SELECT album_id, version FROM albums WHERE album_id = ANY(:album_ids)"))


_Future = asyncio.Future[int | None]
_Waiters = dict[str, list[_Future]]


class VersionBatcher:
    """Reads versions of albums on one connection, and batches concurrent calls.

    Calls that come while a statement runs wait, and share the next statement. They never use the
    result of the running one, so a version is never older than the call that requested it.
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.dedicated_connection()
        self._waiters: _Waiters = {}
        self._has_waiters = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """The number of the connection that versions come from, counted from 1; 0 before it.

        A new connection may lead to another database, after a failover or a restore. There the same
        version may stand for other images.
        """
        return self._connection.generation

    def find_version(self, album_id: str) -> _Future:
        """Return a future of the album's version; its result is None for an unknown album.

        The future raises DatabaseUnavailable.
        """
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_forever())
        future: _Future = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(album_id, []).append(future)
        self._has_waiters.set()
        return future

    async def close(self) -> None:
        """Stop reading and close the connection; no call may be waiting."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self._connection.close()

    async def _read_forever(self) -> None:
        while await self._has_waiters.wait():
            self._has_waiters.clear()
            batch, self._waiters = self._waiters, {}
            try:
                rows = await self._connection.read(_VERSIONS, album_ids=list(batch))
            except Exception as error:  # noqa: BLE001 - raised by the futures
                # Calls that came meanwhile fail too: each would wait for the deadline once more.
                late, self._waiters = self._waiters, {}
                for future in _iterate_pending([*batch.values(), *late.values()]):
                    future.set_exception(error)
            else:
                versions: dict[str, int] = {row[0]: row[1] for row in rows}
                for album_id, futures in batch.items():
                    version = versions.get(album_id)
                    for future in _iterate_pending([futures]):
                        future.set_result(version)


def _iterate_pending(groups: Iterable[Iterable[_Future]]) -> Iterator[_Future]:
    """Yield the futures of all groups, but for those that were cancelled meanwhile."""
    return (future for futures in groups for future in futures if not future.done())
