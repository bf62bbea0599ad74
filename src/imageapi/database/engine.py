"""Connections to PostgreSQL, for reads and for transactions.

Reads are single statements in autocommit, on a few connections of asyncpg's own pool, where each
statement is prepared once. Changes are transactions on SQLAlchemy's pool. docs/decisions says why.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.database.error_translation import translate_database_errors
from imageapi.database.statement import Statement
from imageapi.database.turns import Turns
from imageapi.metrics import DATABASE_WAIT_SECONDS

READ_CONNECTIONS = 4
WRITE_CONNECTIONS = 6

#: Settings of every session. Every statement begins with its album and has an index in the order
#: that it needs; the planner must use it. An album's images are scattered over many pages where
#: albums are filled at the same time. With the default costs the planner therefore prefers a bitmap
#: scan plus a sort, or for a large album a scan of the whole table; both measured slower. Besides,
#: only index scans mark the queue's dead entries, of images that have left it, so that later
#: readers skip them.
SESSION_SETTINGS = {
    "application_name": "imageapi",
    "random_page_cost": "1.1",
    "enable_bitmapscan": "off",
    "enable_seqscan": "off",
    # The server ends a statement whose client is gone, so that its locks block no one.
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

#: The planner's settings for one transaction, where a pooler shares its connections with others.
_BEGIN_POOLED = "BEGIN; " + " ".join(
    f"SET LOCAL {name} = {value};"
    for name, value in SESSION_SETTINGS.items()
    if name.startswith("enable_")
)
#: Makes SQLAlchemy use unnamed statements, because others use a pooler's connections too.
_WITHOUT_NAMED_STATEMENTS: Mapping[str, Any] = {
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

_READ_WAIT_SECONDS = DATABASE_WAIT_SECONDS.labels("read")
_WRITE_WAIT_SECONDS = DATABASE_WAIT_SECONDS.labels("write")

_TAKE_ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


class _Deadline:
    """A context manager that breaks off the watched connection when its time is over.

    To cancel the statement instead would need an answer from the server, which may not answer.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, connection: Any, seconds: float | None) -> None:
        """Break the connection off in ``seconds``; None means never."""
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)


class Database:
    """One PostgreSQL database: ``read`` a statement, or write in a ``transaction``.

    With ``has_deadlines`` what takes too long is broken off, because clients wait for it.

    With ``is_pooled`` the database is behind a pooler, such as PgBouncer, that assigns a connection
    to each transaction: prepared statements and settings do not outlast a transaction.
    """

    def __init__(
        self,
        dsn: str,
        *,
        has_deadlines: bool = False,
        is_pooled: bool = False,
        deadlines: DatabaseDeadlines | None = None,
    ) -> None:
        self._dsn = dsn
        self._has_deadlines = has_deadlines
        self.is_pooled = is_pooled
        self.deadlines = deadlines or DatabaseDeadlines()
        self._connect_options: dict[str, Any] = {"timeout": self.deadlines.connect_seconds}
        self._connect_options |= (
            {"statement_cache_size": 0} if is_pooled else {"server_settings": SESSION_SETTINGS}
        )
        if _names_several_hosts(dsn) and "target_session_attrs" not in dsn:
            # One of them accepts writes. On another, the queue's cache would believe old versions.
            self._connect_options["target_session_attrs"] = "read-write"
        self._read_pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._read_pool_lock = asyncio.Lock()
        self._turns_by_album = Turns()
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            connect_args=dict(_WITHOUT_NAMED_STATEMENTS) if is_pooled else {},
            pool_size=WRITE_CONNECTIONS,
            max_overflow=0,
            pool_timeout=self.deadlines.connect_seconds,
            pool_pre_ping=True,
            # JSON values are texts on both sides: a record must stay the exact text that it is.
            json_serializer=str,
            json_deserializer=str,
        )
        # asyncpg passes JSON as text by default. SQLAlchemy's setup of that would ask the server
        # for the types of each new connection, with a prepared statement.
        dialect: Any = self._engine.dialect
        dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = _skip_codec_setup

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a new connection, which the caller closes. Errors of the driver pass unchanged."""
        return await asyncpg.connect(self._dsn, **self._connect_options)

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """Execute one statement in autocommit and return its rows.

        Raises DatabaseUnavailable, SchemaOutdated, and TypeError as `Statement.order_arguments`.
        """
        arguments = statement.order_arguments(values)
        with translate_database_errors():
            with _READ_WAIT_SECONDS.time():
                pool = await self._open_read_pool()
                connection = await pool.acquire(timeout=self.deadlines.connect_seconds)
            try:
                with _Deadline() as deadline:
                    self._watch(deadline, connection, self.deadlines.read_seconds)
                    return await self._fetch(connection, statement.text, arguments)
            finally:
                await pool.release(connection)

    def dedicated_connection(self) -> "DedicatedConnection":
        """Return a connection for one task, outside the pools; it connects at the first read."""
        return DedicatedConnection(self)

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction; commit when the block ends, roll back if it raises.

        With deadlines it is broken off after ``seconds``, by default `deadlines.change_seconds`;
        that includes the commit. Raises DatabaseUnavailable, SchemaOutdated.
        """
        seconds = self.deadlines.change_seconds if seconds is None else seconds
        with translate_database_errors():
            async with AsyncExitStack() as stack:
                deadline = stack.enter_context(_Deadline())  # entered first: it covers the commit
                with _WRITE_WAIT_SECONDS.time():
                    async with asyncio.timeout(self.deadlines.connect_seconds):
                        connection = await stack.enter_async_context(self._engine.begin())
                        raw = (await connection.get_raw_connection()).driver_connection
                self._watch(deadline, raw, seconds)
                yield connection

    @asynccontextmanager
    async def album_transaction(self, album_id: str) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction, which is this process's only one for the album.

        Changes of one album follow each other in the database. Those that wait do so here, without
        a connection, so that one album cannot take the connections that other albums need. Raises
        DatabaseUnavailable, also where the album is not free within `deadlines.change_seconds`.
        """
        seconds = self.deadlines.change_seconds if self._has_deadlines else None
        async with AsyncExitStack() as stack:
            with translate_database_errors():
                await stack.enter_async_context(self._turns_by_album.take(album_id, seconds))
            yield await stack.enter_async_context(self.transaction())

    @asynccontextmanager
    async def advisory_lock(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of this name during the block; at most one holder, on all machines.

        Raises DatabaseUnavailable; with deadlines also where others hold it for too long.
        """
        async with self.transaction(self.deadlines.advisory_lock_seconds) as connection:
            await connection.execute(_TAKE_ADVISORY_LOCK, {"name": name})
            yield

    async def close(self) -> None:
        """Close the connections, those of reads after their statements have ended."""
        if self._read_pool is not None:
            await self._read_pool.close()
        await self._engine.dispose()

    def _watch(self, deadline: _Deadline, connection: Any, seconds: float) -> None:
        deadline.watch(connection, seconds if self._has_deadlines else None)

    async def _fetch(
        self, connection: Any, statement: str, arguments: Sequence[Any]
    ) -> list[asyncpg.Record]:
        """Return the rows. Behind a pooler it takes a transaction, which stays on one server."""
        if not self.is_pooled:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        try:
            await connection.execute(_BEGIN_POOLED)
            rows = await connection.fetch(statement, *arguments)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()
            raise
        return rows

    async def _open_read_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        # At the first read, so that the service starts without a database and answers 503.
        if self._read_pool is not None:
            return self._read_pool
        async with self._read_pool_lock:
            if self._read_pool is None:
                self._read_pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=READ_CONNECTIONS,
                    max_inactive_connection_lifetime=0,
                    reset=_skip_reset,
                    **self._connect_options,
                )
        return self._read_pool


class DedicatedConnection:
    """A connection for one task at a time, on which each statement is prepared once.

    It connects at the first read, and again after an error or when the server has closed it.
    ``generation`` counts the connections: a new one may lead to another server, with other data.
    Behind a pooler it reads from `Database`, and ``generation`` stays 0.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self.generation = 0
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """Execute one statement in autocommit and return its rows; raises as `Database.read`."""
        if self._database.is_pooled:
            return await self._database.read(statement, **values)
        arguments = statement.order_arguments(values)
        with translate_database_errors():
            try:
                return await self._fetch(statement.text, arguments)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Break the connection off; the next read makes a new one."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            connection.terminate()

    async def _fetch(self, statement: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._prepared.clear()
            self._connection = await self._database.connect()
            self.generation += 1
        timeout = self._database.deadlines.read_seconds
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = await self._connection.prepare(statement, timeout=timeout)
            self._prepared[statement] = prepared
        return await prepared.fetch(*arguments, timeout=timeout)


def _names_several_hosts(dsn: str) -> bool:
    parts = urlsplit(dsn)
    named = parse_qs(parts.query).get("host", [parts.netloc.rpartition("@")[2]])
    return "," in named[-1]


async def _skip_codec_setup(connection: object) -> None:
    """Do nothing, instead of asking the server for the types of JSON."""


async def _skip_reset(connection: object) -> None:
    """Do nothing: reads leave no state on a connection, and asyncpg's reset costs a round trip."""
