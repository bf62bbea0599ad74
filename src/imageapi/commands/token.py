"""`imageapi token ALBUM`: a token for an album."""

from datetime import timedelta
from uuid import UUID

import typer

from imageapi.commands.opening import create_tokens
from imageapi.settings import load_settings


def run(album_id: str, abilities: list[str], lifetime: timedelta, user: UUID | None) -> None:
    """Print a token; raises UnfitSecret."""
    tokens = create_tokens(load_settings())
    typer.echo(tokens.issue(album_id, abilities, lifetime, None if user is None else str(user)))
