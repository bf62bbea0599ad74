"""Migrates the database to the schema of this version, and checks that it has it."""

from pathlib import Path

from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.engine import Database
from imageapi.database.errors import SchemaOutdated, SchemaTooNew
from imageapi.database.statement import Statement
from imageapi.database.tables import SCHEMA_VERSION

#: The key of the advisory lock: any number that no other program on the database is likely to use.
_LOCK_KEY = 0x696D6167
_SELECT_VERSION = Statement(select(column("version_num")).select_from(table("alembic_version")))


def find_scripts() -> Path:
    """Return the folder of the migrations: in the package, or beside ``src`` in a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "alembic"


async def migrate(database: Database, target: str = "head") -> bool:
    """Migrate the schema to ``target``; return whether it changed.

    All migrations run in one transaction under an advisory lock: where several processes migrate at
    once, one does the work, and the others find it done.

    It also locks the table of albums. So it waits for running changes of albums, and later ones
    wait for it. Changes lock their album first too, so that the two cannot deadlock.

    Raises SchemaTooNew, and DatabaseUnavailable.
    """
    async with database.transaction() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_KEY})
        before = await _read_version(connection)
        if target == "head" and before == SCHEMA_VERSION:
            return False
        if before is not None:
            _require_known(before)
            await connection.execute(text("LOCK TABLE albums IN EXCLUSIVE MODE"))
        await connection.run_sync(_run_alembic, target)
        return await _read_version(connection) != before


async def check_schema(database: Database) -> None:
    """Raise SchemaOutdated unless the schema is current; raise DatabaseUnavailable."""
    versions: list[str] = [row["version_num"] for row in await database.read(_SELECT_VERSION)]
    for version in versions:
        _require_known(version)
    if versions != [SCHEMA_VERSION]:
        raise SchemaOutdated


def _require_known(version: str) -> None:
    """Raise SchemaTooNew unless the version is one of this program's; they count upwards."""
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(version, SCHEMA_VERSION)


async def _read_version(connection: AsyncConnection) -> str | None:
    has_table = await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    if not has_table:
        return None
    version: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _run_alembic(connection: Connection, target: str) -> None:
    # Imported here because Alembic is slow to import and most starts find the schema current.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(find_scripts()).replace("%", "%%"))
    (command.downgrade if target == "base" else command.upgrade)(config, target)
