"""`imageapi migrate`: the database to the newest schema."""

import asyncio

import typer

from imageapi.commands.opening import migrate
from imageapi.settings import load_settings


def run() -> None:
    """Migrate, and say whether there was anything to do."""
    changed = asyncio.run(migrate(load_settings()))
    typer.echo("The schema was brought up to date" if changed else "The schema is current")
