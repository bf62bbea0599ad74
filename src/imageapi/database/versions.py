"""The versions of albums, asked for by many requests at once with one statement."""

import asyncio

from sqlalchemy import text

from imageapi.database.engine import Database, Statement

_VERSIONS = Statement(text("SELECT album_id, version FROM albums WHERE album_id = ANY(:album_ids)"))


class Versions:
    """Answers with an album's version as of a moment after it was asked for.

    While a statement is under way, those who ask wait together for the next one.
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.held()
        self._waiting: dict[str, list[asyncio.Future[int | None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    def of(self, album_id: str) -> "asyncio.Future[int | None]":
        """The album's version, None for one that was never seen; raises DatabaseAway."""
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(album_id, []).append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return future

    async def _ask(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                rows = await self._connection.read(_VERSIONS, album_ids=list(asked))
            except BaseException as error:
                for future in (each for futures in asked.values() for each in futures):
                    if not future.done():
                        future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            versions: dict[str, int] = {row[0]: row[1] for row in rows}
            for album_id, futures in asked.items():
                version = versions.get(album_id)
                for future in futures:
                    if not future.done():
                        future.set_result(version)
        self._asking = None

    async def close(self) -> None:
        """Leave the server."""
        if self._asking is not None:
            await self._asking
        await self._connection.close()
