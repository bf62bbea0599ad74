"""`imageapi token ALBUM…`: print a token for albums."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import typer

from imageapi.auth.secret_file import load_secret
from imageapi.auth.tokens import Rules, Tokens
from imageapi.settings import Settings, load_settings


def run(
    album_ids: list[str], abilities: Collection[str], lifetime: timedelta, user: UUID | None
) -> None:
    """Print a token; raises InvalidSecret."""
    tokens = create_tokens(load_settings())
    typer.echo(tokens.issue(album_ids, abilities, lifetime, None if user is None else str(user)))


def create_tokens(settings: Settings) -> Tokens:
    """Return an issuer of tokens with the secret of the settings; raises InvalidSecret.

    It is not in `imageapi.resources`, because `imageapi token` must not import the database.
    """
    rules = Rules(settings.token_audience, settings.token_issuer)
    return Tokens(load_secret(settings.configured_secret, settings.secret_file), rules=rules)
