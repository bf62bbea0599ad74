"""`imageapi export ALBUM`: write an album to standard output."""

import asyncio
import sys

import typer

from imageapi.resources import open_upgraded_database
from imageapi.settings import Settings, load_settings
from imageapi.transfer.album_export import export_album


def run(album_id: str) -> None:
    """Write the album as a JSON array, and a line end if standard output is a terminal."""
    asyncio.run(_export(load_settings(), album_id))
    if sys.stdout.isatty():
        typer.echo()


async def _export(settings: Settings, album_id: str) -> None:
    async with open_upgraded_database(settings) as database:
        await export_album(database, album_id, sys.stdout.buffer)
