"""Bringing a database to the schema of this version, whoever else is about to do the same."""

from pathlib import Path

from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.engine import Database, Statement
from imageapi.database.errors import SchemaOutdated
from imageapi.database.tables import SCHEMA_VERSION

#: Any number that no other program on the database is likely to lock.
_LOCK = 0x696D6167
_CURRENT = Statement(select(column("version_num")).select_from(table("alembic_version")))


def find_scripts() -> Path:
    """The folder of the migrations: within the wheel, or beside ``src`` in a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "alembic"


async def migrate(database: Database, target: str = "head") -> bool:
    """Bring the schema to ``target``; return whether there was anything to do.

    All of it is one transaction under a lock: of several that migrate at once one does the work,
    and the others find it done. Changes of albums that are under way are waited for, and further
    ones wait: each begins with its album, as this does, so that neither undoes the other.
    """
    async with database.transaction() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = await _read_version(connection)
        if target == "head" and before == SCHEMA_VERSION:
            return False
        if before is not None:
            await connection.execute(text("LOCK TABLE albums IN EXCLUSIVE MODE"))
        await connection.run_sync(_run_alembic, target)
        return await _read_version(connection) != before


async def check_schema(database: Database) -> None:
    """Return where the schema is current; raise SchemaOutdated, or DatabaseUnavailable."""
    rows = await database.read(_CURRENT)
    if [row["version_num"] for row in rows] != [SCHEMA_VERSION]:
        raise SchemaOutdated


async def _read_version(connection: AsyncConnection) -> str | None:
    there = await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    if not there:
        return None
    version: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _run_alembic(connection: Connection, target: str) -> None:
    # Alembic is slow to import, and seldom needed: most starts find the schema current.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(find_scripts()).replace("%", "%%"))
    (command.downgrade if target == "base" else command.upgrade)(config, target)
