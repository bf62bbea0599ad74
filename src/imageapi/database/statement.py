"""Statements that are compiled once, when the module that has them is imported."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT: Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


class Statement:
    """A statement of SQLAlchemy's Core, compiled to the text that asyncpg prepares.

    Compiled once, because compiling takes several times as long as reading an image.
    """

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._names = compiled.positiontup or []
        self._parameters = {name for bind, name in compiled.bind_names.items() if bind.required}
        self._constants = {
            name: value for name, value in compiled.params.items() if name not in self._parameters
        }

    def order_arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of their placeholders.

        Raises TypeError where a parameter of the statement has no value, or a value no parameter:
        PostgreSQL would take a missing one for NULL, and find nothing.
        """
        if values.keys() != self._parameters:
            raise self._build_mismatch_error(values)
        constants = self._constants
        return [constants[name] if name in constants else values[name] for name in self._names]

    def _build_mismatch_error(self, values: Mapping[str, Any]) -> TypeError:
        mismatches = {
            "missing": sorted(self._parameters - values.keys()),
            "unknown": sorted(values.keys() - self._parameters),
        }
        listed = "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in mismatches.items() if names
        )
        return TypeError(f"arguments of the statement: {listed}")
