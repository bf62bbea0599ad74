"""`imageapi purge`: the trash emptied of what is old."""

import asyncio
from datetime import timedelta

import typer

from imageapi.albums.purge import PurgeResult, purge
from imageapi.resources import open_upgraded_backend
from imageapi.settings import Settings, load_settings


def run(older_than: timedelta) -> None:
    """Remove what was deleted so long ago, and say how much."""
    purged = asyncio.run(_purge(load_settings(), older_than))
    typer.echo(f"images removed: {purged.images}, pictures without a record: {purged.orphans}")


async def _purge(settings: Settings, older_than: timedelta) -> PurgeResult:
    async with open_upgraded_backend(settings) as backend:
        return await purge(backend, older_than)
