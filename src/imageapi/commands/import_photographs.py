"""`imageapi import FOLDER... --album ID`: add photographs to an album, one by one."""

import asyncio
from pathlib import Path

import typer

from imageapi.commands.progress import show_pictures_done, show_refused
from imageapi.resources import open_upgraded_backend
from imageapi.settings import Settings, load_settings
from imageapi.transfer.photograph_import import (
    PhotographImporter,
    PhotographImportResult,
    find_photographs,
)


def run(folders: list[Path], album_id: str, *, tags_from_folders: bool) -> bool:
    """Add the photographs and print the refused ones; return whether none was refused."""
    result = asyncio.run(_import(load_settings(), folders, album_id, tags_from_folders))
    show_refused(result.refused)
    typer.echo(
        f"pictures added: {result.added}, there already: {result.present}, "
        f"refused: {len(result.refused)}"
    )
    return not result.refused


async def _import(
    settings: Settings, folders: list[Path], album_id: str, tags_from_folders: bool
) -> PhotographImportResult:
    files = find_photographs(folders)
    with show_pictures_done(len(files)) as advance:
        async with open_upgraded_backend(settings) as backend:
            importer = PhotographImporter(
                backend, album_id, advance, tags_from_folders=tags_from_folders
            )
            return await importer.run(files)
