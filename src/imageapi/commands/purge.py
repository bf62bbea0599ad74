"""`imageapi purge`: the trash emptied of what is old."""

import asyncio
from datetime import timedelta

import typer

from imageapi.albums.purging import Purged, purge
from imageapi.commands.opening import open_current_studio
from imageapi.settings import Settings, load_settings


def run(older_than: timedelta) -> None:
    """Remove what was deleted so long ago, and say how much."""
    purged = asyncio.run(_purge(load_settings(), older_than))
    typer.echo(f"images removed: {purged.images}, pictures without a record: {purged.orphans}")


async def _purge(settings: Settings, older_than: timedelta) -> Purged:
    async with open_current_studio(settings) as studio:
        return await purge(studio, older_than)
