"""The versions of albums, asked for by many requests at once with one statement."""

import asyncio
from collections.abc import Iterable, Iterator

from sqlalchemy import text

from imageapi.database.engine import Database, Statement

_VERSIONS = Statement(text("SELECT album_id, version FROM albums WHERE album_id = ANY(:album_ids)"))


_Future = asyncio.Future[int | None]
_Waiting = dict[str, list[_Future]]


class VersionBatcher:
    """Answers with an album's version as of a moment after it was asked for.

    While a statement is under way, those who ask wait together for the next one.
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.dedicated_connection()
        self._waiting: _Waiting = {}
        self._somebody_waits = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """Rises when it may be another database that answers: after a failover, or a restore."""
        return self._connection.generation

    def get(self, album_id: str) -> _Future:
        """The album's version, None for one that was never seen; raises DatabaseUnavailable."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        future: _Future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(album_id, []).append(future)
        self._somebody_waits.set()
        return future

    async def close(self) -> None:
        """Leave the server; nobody may be waiting any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._connection.close()

    async def _ask(self) -> None:
        while await self._somebody_waits.wait():
            self._somebody_waits.clear()
            asked, self._waiting = self._waiting, {}
            try:
                rows = await self._connection.read(_VERSIONS, album_ids=list(asked))
            except Exception as error:  # noqa: BLE001 - it is for those who wait
                late, self._waiting = self._waiting, {}  # who came meanwhile need not try as well
                for future in _iterate_unanswered([*asked.values(), *late.values()]):
                    future.set_exception(error)
            else:
                versions: dict[str, int] = {row[0]: row[1] for row in rows}
                for album_id, futures in asked.items():
                    version = versions.get(album_id)
                    for future in _iterate_unanswered([futures]):
                        future.set_result(version)


def _iterate_unanswered(asked: Iterable[Iterable[_Future]]) -> Iterator[_Future]:
    """Those who have not left meanwhile."""
    return (future for futures in asked for future in futures if not future.done())
