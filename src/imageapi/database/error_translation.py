"""Translates errors of asyncpg and SQLAlchemy into those that callers of the database expect."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated

#: Errors that mean that the database does not answer now. tests/test_driver_errors.py decides about
#: every error of the driver: one that is neither here nor in _OUTDATED is unexpected.
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server closed the connection during a statement
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement cancelled
    asyncpg.TransactionRollbackError,  # a deadlock, for which this transaction was rolled back
    asyncpg.LockNotAvailableError,  # the operator has set lock_timeout
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,  # the operator has set transaction_timeout
    asyncpg.PostgresSystemError,  # the server's disk fails
    asyncpg.InvalidCachedStatementError,  # the tables have just changed
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not promoted yet
)
_OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


@contextmanager
def translate_database_errors() -> Iterator[None]:
    """Raise DatabaseUnavailable or SchemaOutdated for errors of the block that mean that.

    Other errors pass unchanged.
    """
    try:
        yield
    except _OUTDATED as error:
        raise SchemaOutdated from error
    except (*_UNAVAILABLE, PoolTimeout) as error:
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        # SQLAlchemy wraps asyncpg's errors twice.
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, _OUTDATED):
            raise SchemaOutdated from error
        if isinstance(cause, _UNAVAILABLE) or error.connection_invalidated:
            raise DatabaseUnavailable from error
        raise
