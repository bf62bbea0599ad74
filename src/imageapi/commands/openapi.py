"""`imageapi openapi`: write the OpenAPI document to standard output."""

import json

import typer

from imageapi.app import create_app
from imageapi.settings import Settings


def run() -> None:
    """Write the document. No setting is read, because none changes it."""
    document = create_app(Settings.model_construct()).openapi()
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
