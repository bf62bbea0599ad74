"""Connections to PostgreSQL, and the translation of what goes wrong on them.

Reads run in autocommit on a few connections held for the purpose, with their statements prepared
once; writes are transactions on SQLAlchemy's pool. docs/decisions says why.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import asyncpg
from sqlalchemy import Dialect, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.metrics import DATABASE_WAIT_SECONDS

READ_CONNECTIONS = 4
WRITE_CONNECTIONS = 5

#: What the server is told of every session: go along an index. Every statement has one that begins
#: with its album and is in the order asked for. By default PostgreSQL takes the pages of an album's
#: images, which lie apart where albums are filled at the same time, for so dear that it collects
#: them in a bitmap and sorts them, or reads all albums through for a large one; both were measured
#: to be slower. And only along an index are entries of the queue whose images have left it marked,
#: so that whoever comes next passes them over.
SESSION = {
    "application_name": "imageapi",
    "random_page_cost": "1.1",
    "enable_bitmapscan": "off",
    "enable_seqscan": "off",
    # What was given up, or whose asker is gone, ends at the server too, and holds nobody up.
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

#: The same for a transaction by a pooler, whose connections are everybody's.
_BEGIN = "BEGIN; " + " ".join(
    f"SET LOCAL {name} = {value};" for name, value in SESSION.items() if name.startswith("enable_")
)
#: Without a name, since others use the same connection before and after.
_UNPREPARED: Mapping[str, Any] = {
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

#: Errors that mean that the database is away. tests/test_driver_errors.py decides about every
#: error of the driver: those that are not here, and not below, are unexpected.
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server closed the connection while it was asked
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled
    asyncpg.TransactionRollbackError,  # two waited for each other, and this one was undone
    asyncpg.LockNotAvailableError,  # for as long as the operator lets anybody wait
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,  # as the operator limits them
    asyncpg.PostgresSystemError,  # its disk fails
    asyncpg.InvalidCachedStatementError,  # the tables have just changed
    asyncpg.ReadOnlySQLTransactionError,  # a standby, before it is promoted
)

_READ_WAIT_SECONDS = DATABASE_WAIT_SECONDS.labels("read")
_WRITE_WAIT_SECONDS = DATABASE_WAIT_SECONDS.labels("write")
_OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)

_TAKE_ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_DIALECT: Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


@contextmanager
def translate_database_errors() -> Iterator[None]:
    """Turn what the driver and SQLAlchemy say into DatabaseUnavailable and SchemaOutdated."""
    try:
        yield
    except _OUTDATED as error:
        raise SchemaOutdated from error
    except (*_UNAVAILABLE, PoolTimeout) as error:
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, _OUTDATED):
            raise SchemaOutdated from error
        if isinstance(cause, _UNAVAILABLE) or error.connection_invalidated:
            raise DatabaseUnavailable from error
        raise


class _Deadline:
    """A context at whose time the connection that it watches is broken off.

    Cancelling would ask the server, which may be what does not answer.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, connection: Any, seconds: float | None) -> None:
        """Break the connection off in so many seconds, never where None is given."""
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)


class Statement:
    """A statement written in SQLAlchemy's Core, compiled once to the text that is prepared."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._names = compiled.positiontup or []
        self._parameters = {name for bind, name in compiled.bind_names.items() if bind.required}
        self._constants = {
            name: value for name, value in compiled.params.items() if name not in self._parameters
        }

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of their placeholders.

        Raises TypeError where a parameter of the statement has no value, or a value no parameter:
        PostgreSQL would take a missing one for NULL, and find nothing.
        """
        if values.keys() != self._parameters:
            raise self._mismatch(values)
        constants = self._constants
        return [constants[name] if name in constants else values[name] for name in self._names]

    def _mismatch(self, values: Mapping[str, Any]) -> TypeError:
        wrong = {
            "missing": sorted(self._parameters - values.keys()),
            "unknown": sorted(values.keys() - self._parameters),
        }
        named = "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names)
        return TypeError(f"arguments of the statement: {named}")


class Database:
    """One PostgreSQL database: ``read`` a statement, or write in a ``transaction``.

    One that ``has_deadlines`` gives up what takes too long: clients wait for it. One that
    ``is_pooled`` is reached by a pooler that hands out connections for a transaction each, such as
    PgBouncer: nothing outlasts a transaction, neither prepared statements nor settings.
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
        self._connecting: dict[str, Any] = {"timeout": self.deadlines.connect_seconds}
        self._connecting |= (
            {"statement_cache_size": 0} if is_pooled else {"server_settings": SESSION}
        )
        self._reads: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            connect_args=dict(_UNPREPARED) if is_pooled else {},
            pool_size=WRITE_CONNECTIONS,
            max_overflow=0,
            pool_timeout=self.deadlines.connect_seconds,
            pool_pre_ping=True,
            json_serializer=str,  # records are texts already, and stay the texts they are
            json_deserializer=str,
        )
        # asyncpg takes and gives JSON as text by itself. To be told so it would ask the server for
        # the types, and prepare that.
        dialect: Any = self._engine.dialect
        dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = _skip_codec_setup

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection of one's own."""
        return await asyncpg.connect(self._dsn, **self._connecting)

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """The statement's rows, as of now; raises DatabaseUnavailable."""
        arguments = statement.arguments(values)
        with translate_database_errors():
            with _READ_WAIT_SECONDS.time():
                pool = await self._pool()
                connection = await pool.acquire(timeout=self.deadlines.connect_seconds)
            try:
                with self._deadline(connection, self.deadlines.read_seconds):
                    return await self._fetch(connection, statement.text, arguments)
            finally:
                await pool.release(connection)

    def dedicated_connection(self) -> "DedicatedConnection":
        """A connection to be held, for one reader at a time."""
        return DedicatedConnection(self)

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends, undone when it raises.

        A database with deadlines breaks it off after ``seconds``, by default those of a change.
        """
        seconds = self.deadlines.change_seconds if seconds is None else seconds
        with translate_database_errors():
            async with AsyncExitStack() as held:
                deadline = held.enter_context(_Deadline())  # which sees the commit through
                with _WRITE_WAIT_SECONDS.time():
                    async with asyncio.timeout(self.deadlines.connect_seconds):
                        connection = await held.enter_async_context(self._engine.begin())
                        raw = (await connection.get_raw_connection()).driver_connection
                deadline.watch(raw, seconds if self._has_deadlines else None)
                yield connection

    @asynccontextmanager
    async def advisory_lock(self, name: str) -> AsyncIterator[None]:
        """A block that nobody else is in at the same time with the same name, on any machine."""
        async with self.transaction(self.deadlines.advisory_lock_seconds) as connection:
            await connection.execute(_TAKE_ADVISORY_LOCK, {"name": name})
            yield

    async def close(self) -> None:
        """Leave the server; what is under way is waited for."""
        if self._reads is not None:
            await self._reads.close()
        await self._engine.dispose()

    async def _fetch(
        self, connection: Any, statement: str, arguments: Sequence[Any]
    ) -> list[asyncpg.Record]:
        """The rows; by a pooler in a transaction, which is on one connection."""
        if not self.is_pooled:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        try:
            await connection.execute(_BEGIN)
            rows = await connection.fetch(statement, *arguments)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()
            raise
        return rows

    def _deadline(self, connection: Any, seconds: float) -> _Deadline:
        deadline = _Deadline()
        deadline.watch(connection, seconds if self._has_deadlines else None)
        return deadline

    async def _pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        # Opened when first needed, so that the service starts, and says 503, without a database.
        if self._reads is not None:
            return self._reads
        async with self._opening:
            if self._reads is None:
                self._reads = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=READ_CONNECTIONS,
                    max_inactive_connection_lifetime=0,
                    reset=_skip_reset,
                    **self._connecting,
                )
        return self._reads


class DedicatedConnection:
    """A connection for one task at a time, on which each statement is prepared once.

    It is made when it is first needed, and made again after an error, or once the server has ended
    it; ``generation`` rises each time, since it may be another server then, with another past.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self.generation = 0
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}

    async def read(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """The statement's rows, as of now; raises DatabaseUnavailable."""
        if self._database.is_pooled:
            return await self._database.read(statement, **values)
        arguments = statement.arguments(values)
        with translate_database_errors():
            try:
                return await self._read(statement.text, arguments)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Leave the server."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            connection.terminate()

    async def _read(self, statement: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
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


async def _skip_codec_setup(connection: object) -> None:
    """Every connection is as it should be from the start."""


async def _skip_reset(connection: object) -> None:
    """Reads leave nothing behind on a connection; asyncpg's own reset costs a round trip."""
