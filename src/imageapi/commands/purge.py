"""`imageapi purge`: remove old images from the trash."""

import asyncio
from datetime import timedelta

import typer

from imageapi.albums.purge import PurgeResult, purge
from imageapi.resources import open_upgraded_backend
from imageapi.settings import Settings, load_settings


def run(older_than: timedelta) -> None:
    """Remove the images that were deleted so long ago, and print how many."""
    result = asyncio.run(_purge(load_settings(), older_than))
    typer.echo(f"images removed: {result.images}, pictures without a record: {result.orphans}")


async def _purge(settings: Settings, older_than: timedelta) -> PurgeResult:
    async with open_upgraded_backend(settings) as backend:
        return await purge(backend, older_than)
