"""Alembic's environment. Uses the connection that `imageapi migrate` passes, else its own one."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from imageapi.database.tables import metadata
from imageapi.resources import open_database
from imageapi.settings import load_settings


def run(connection: Connection) -> None:
    """Run the requested migrations in one transaction."""
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_on_own_connection() -> None:
    """Run the migrations on the database of the settings, for the `alembic` command."""
    async with (
        open_database(load_settings()) as database,
        database.transaction() as connection,
    ):
        await connection.run_sync(run)


passed_connection: Connection | None = context.config.attributes.get("connection")
if passed_connection is None:
    asyncio.run(run_on_own_connection())
else:
    run(passed_connection)
