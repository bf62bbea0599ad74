"""`imageapi import FILE...`: add records in the documented shape, all of them or none."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import typer

from imageapi.commands.progress import show_bytes_read
from imageapi.database.bulk_import import ImportResult
from imageapi.resources import create_serializer, open_upgraded_database
from imageapi.settings import Settings, load_settings
from imageapi.transfer.record_import import Importer, open_source


def run(files: list[Path], album_id: str | None) -> None:
    """Add the records of the files, and print how many; raises ImportRefused."""
    settings = load_settings()
    with ExitStack() as stack, show_bytes_read(files) as advance:
        sources = [(_name_source(path), stack.enter_context(open_source(path))) for path in files]
        importer = Importer(create_serializer(settings), album_id, advance)
        result = asyncio.run(_import(settings, importer, sources))
    typer.echo(f"images added: {result.added}, there already: {result.present}")


async def _import(
    settings: Settings, importer: Importer, sources: list[tuple[str, IO[bytes]]]
) -> ImportResult:
    async with open_upgraded_database(settings) as database:
        return await importer.run(database, sources)


def _name_source(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)
