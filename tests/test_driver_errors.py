"""Every error of asyncpg has a decision: the database is away, it is outdated, or it is a bug.

The decisions are by class of SQLSTATE, the first two characters, with the number of errors in it.
When a newer asyncpg has one more, or one less, the first test fails and names the errors of that
class: decide what the new one means, in the table and in `imageapi.database.error_translation`.
"""

import inspect
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import asyncpg.exceptions
import pytest
from asyncpg.exceptions import _base
from sqlalchemy.exc import DBAPIError

from imageapi.database.error_translation import translate_database_errors
from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated

#: The error passes as it is, and clients get the answer to any unexpected error, a 500.
UNEXPECTED = None


class Decision(NamedTuple):
    """What becomes of the errors of some SQLSTATE classes, of so many errors each, and why."""

    becomes: type[Exception] | None
    why: str
    classes: Mapping[str, int]


DECISIONS = [
    Decision(DatabaseUnavailable, "no connection, or it was lost", {"08": 7}),
    Decision(DatabaseUnavailable, "the operator changes the password or the role", {"28": 2}),
    Decision(
        DatabaseUnavailable, "the database is not there: it is made or restored now", {"3D": 1}
    ),
    Decision(DatabaseUnavailable, "two transactions waited for each other; again helps", {"40": 5}),
    Decision(DatabaseUnavailable, "the server has no memory, disk or connection left", {"53": 5}),
    Decision(DatabaseUnavailable, "the operator stops the server or a statement", {"57": 7}),
    Decision(DatabaseUnavailable, "the server's disk fails", {"58": 5}),
    Decision(
        UNEXPECTED,
        "a warning or a notice: asyncpg hands them to listeners and does not raise them",
        {"01": 8, "02": 2},
    ),
    Decision(
        UNEXPECTED,
        "a value that PostgreSQL cannot take: inputs are validated before they come here",
        {"22": 68},
    ),
    Decision(
        UNEXPECTED,
        "a row that a constraint forbids: the code that may meet one handles it itself",
        {"23": 7, "44": 1},
    ),
    Decision(
        UNEXPECTED,
        "a statement that PostgreSQL does not understand, or whose tables, functions or rights"
        " are not as migrations and docs/operating.md make them",
        {"0A": 1, "3F": 1, "42": 42},
    ),
    Decision(
        UNEXPECTED,
        "a transaction or prepared statement used in the wrong order",
        {"0B": 1, "25": 10, "26": 1, "2D": 1, "3B": 2},
    ),
    Decision(UNEXPECTED, "a statement larger than PostgreSQL's fixed limits", {"54": 4}),
    Decision(
        UNEXPECTED,
        "an object used in the wrong state: we change no objects beside migrations",
        {"55": 4},
    ),
    Decision(
        UNEXPECTED,
        "we use nothing that could raise it: cursors in SQL, subqueries for one row, XQuery,"
        " locators, grants, roles, triggers, routines, foreign data",
        {"03": 1, "09": 1, "0F": 2, "0L": 2, "0P": 1, "0Z": 2, "10": 1, "20": 1, "21": 1, "24": 1}
        | {"27": 1, "2B": 2, "2F": 5, "34": 1, "38": 5, "39": 6, "HV": 27, "P0": 5},
    ),
    Decision(UNEXPECTED, "PostgreSQL 17 removed the setting that caused it", {"72": 1}),
    Decision(
        UNEXPECTED,
        "PostgreSQL's configuration or data is broken: a person has to look, again does not help",
        {"F0": 2, "XX": 3},
    ),
]
#: Errors that differ from the others of their SQLSTATE class, and are not counted there.
SINGLED_OUT = {
    "IdleInTransactionSessionTimeoutError": (DatabaseUnavailable, "the operator's limit ended it"),
    "InvalidCachedStatementError": (
        DatabaseUnavailable,
        "the tables have just changed; again helps",
    ),
    "LockNotAvailableError": (DatabaseUnavailable, "the operator's limit for a lock was reached"),
    "ReadOnlySQLTransactionError": (DatabaseUnavailable, "a standby that is not promoted yet"),
    "TransactionTimeoutError": (DatabaseUnavailable, "the operator's limit ended it"),
    "UndefinedColumnError": (SchemaOutdated, "the database is not migrated"),
    "UndefinedTableError": (SchemaOutdated, "the database is not migrated"),
}
#: Errors that asyncpg raises by itself, and bases of others.
WITHOUT_SQLSTATE = {
    "ClientConfigurationError": (DatabaseUnavailable, "the address in the settings leads nowhere"),
    "DataError": (
        DatabaseUnavailable,
        "hidden by the SQLSTATE class 22's of this name: never raised",
    ),
    "FatalPostgresError": (UNEXPECTED, "a base; by itself never raised"),
    "InterfaceError": (DatabaseUnavailable, "the connection or the pool was closed meanwhile"),
    "InterfaceWarning": (UNEXPECTED, "a warning"),
    "InternalClientError": (DatabaseUnavailable, "the server closed the connection in an exchange"),
    "OutdatedSchemaCacheError": (DatabaseUnavailable, "the types have just changed; again helps"),
    "PostgresError": (UNEXPECTED, "a base; by itself never raised"),
    "ProtocolError": (DatabaseUnavailable, "what answers is no PostgreSQL, or breaks off"),
    "TargetServerAttributeNotMatched": (
        DatabaseUnavailable,
        "no host of several is the primary now",
    ),
    "UnknownPostgresError": (UNEXPECTED, "a SQLSTATE that asyncpg does not know: look at it"),
    "UnsupportedClientFeatureError": (
        DatabaseUnavailable,
        "an address with what asyncpg cannot do",
    ),
    "UnsupportedServerFeatureError": (
        DatabaseUnavailable,
        "the server lacks what the address asks for",
    ),
}

ERRORS: list[Any] = sorted(
    {
        each
        for module in (asyncpg.exceptions, _base)
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, BaseException)
    },
    key=lambda each: (str(each.__module__), each.__name__),
)


def sqlstate(error: Any) -> str | None:
    return getattr(error, "sqlstate", None)


def class_of(error: Any) -> str | None:
    """The SQLSTATE class that decides about the error; None where it is decided by itself."""
    code = sqlstate(error)
    return None if code is None or error.__name__ in SINGLED_OUT else code[:2]


def undecided(errors: Collection[Any]) -> dict[str, list[str]]:
    """The errors of each SQLSTATE class whose number is not the decided one, and those alone."""
    decided = Counter[str]()
    for decision in DECISIONS:
        decided.update(decision.classes)
    counted = Counter(of for each in errors if (of := class_of(each)) is not None)
    wrong = {of for of in decided | counted if decided[of] != counted[of]}
    found = {of: [each.__name__ for each in errors if class_of(each) == of] for of in sorted(wrong)}
    for title, names, is_of in (
        ("without a SQLSTATE", WITHOUT_SQLSTATE, lambda each: sqlstate(each) is None),
        ("singled out", SINGLED_OUT, lambda each: each.__name__ in SINGLED_OUT),
    ):
        different = names.keys() ^ {each.__name__ for each in errors if is_of(each)}
        if different:
            found[title] = sorted(different)
    return found


def test_every_error_of_the_driver_is_decided() -> None:
    assert undecided(ERRORS) == {}, "decide what these errors become, as the module's text says"


@pytest.mark.parametrize("code", ["57P99", "22999", "ZZ000", "55P99", None])
def test_new_error_of_the_driver_is_undecided(code: str | None) -> None:
    new = type("NewError", (Exception,), {"sqlstate": code})
    where = "without a SQLSTATE" if code is None else code[:2]
    assert "NewError" in undecided([*ERRORS, new])[where]


def test_error_that_is_gone_is_noticed() -> None:
    for gone in (asyncpg.AdminShutdownError, asyncpg.UndefinedTableError, asyncpg.InterfaceError):
        assert undecided([each for each in ERRORS if each is not gone])


def decision_about(error: Any) -> type[Exception] | None:
    if error.__name__ in SINGLED_OUT:
        return SINGLED_OUT[error.__name__][0]
    of = class_of(error)
    if of is None:
        return WITHOUT_SQLSTATE[error.__name__][0]
    return next(decision.becomes for decision in DECISIONS if of in decision.classes)


def by_sqlalchemy(error: BaseException) -> DBAPIError:
    """The error as it comes from SQLAlchemy, around the driver's own."""
    original = Exception("of the dialect")
    original.__cause__ = error
    return DBAPIError("SELECT 1", {}, original)


RAISED = [each for each in ERRORS if not issubclass(each, asyncpg.PostgresWarning)]


def test_warning_is_no_decision_of_ours() -> None:
    """It cannot even be raised: Python cannot set its attributes."""
    assert {decision_about(each) for each in ERRORS if each not in RAISED} == {UNEXPECTED}


@pytest.mark.parametrize("error_type", RAISED, ids=lambda each: each.__name__)
def test_error_becomes_what_was_decided(error_type: Any) -> None:
    for error in (error_type("a message"), by_sqlalchemy(error_type("a message"))):
        expected = decision_about(error_type) or type(error)
        with pytest.raises(expected) as raised, translate_database_errors():
            raise error
        assert type(raised.value) is expected
