"""One way to a database, whether it is somewhere else or here."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.database.engine import Database
from imageapi.embedded_postgres.client import run_embedded_server


def database_server(url: str | None, data_dir: Path) -> AbstractContextManager[str]:
    """Hold the server at the URL, else the embedded one of the data directory; yields its address.

    Raises DataDirectoryError where the embedded server cannot be had. A server by URL is not asked
    for before the first statement.
    """
    return run_embedded_server(data_dir) if url is None else nullcontext(url)


@asynccontextmanager
async def open_database(
    url: str | None,
    data_dir: Path,
    *,
    has_deadlines: bool = False,
    is_pooled: bool = False,
    deadlines: DatabaseDeadlines | None = None,
) -> AsyncIterator[Database]:
    """The database of that server, for as long as needed."""
    with database_server(url, data_dir) as dsn:
        database = Database(
            dsn, has_deadlines=has_deadlines, is_pooled=is_pooled, deadlines=deadlines
        )
        try:
            yield database
        finally:
            await database.close()
