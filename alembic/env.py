"""Alembic's environment: on the connection that `imageapi migrate` hands over, else on its own."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from imageapi.database.opening import open_database
from imageapi.database.tables import metadata
from imageapi.settings import load_settings


def run(connection: Connection) -> None:
    """Run what was asked for within one transaction."""
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_on_own_connection() -> None:
    """For the `alembic` command: the database of the settings."""
    settings = load_settings()
    async with (
        open_database(settings.database_address, settings.data_dir) as database,
        database.transaction() as connection,
    ):
        await connection.run_sync(run)


given: Connection | None = context.config.attributes.get("connection")
if given is None:
    asyncio.run(run_on_own_connection())
else:
    run(given)
