"""`imageapi migrate`: bring the database up to date."""

import asyncio

import typer

from imageapi.resources import create_serializer, open_database
from imageapi.settings import Settings, load_settings
from imageapi.transfer.upgrade import upgrade_database


def run() -> None:
    """Upgrade the database, and print whether anything changed."""
    changed = asyncio.run(upgrade(load_settings()))
    typer.echo("The schema was brought up to date" if changed else "The schema is current")


async def upgrade(settings: Settings) -> bool:
    """Bring the schema and the records up to date; return whether that changed anything."""
    async with open_database(settings) as database:
        return await upgrade_database(database, create_serializer(settings))
