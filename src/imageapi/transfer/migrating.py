"""A database brought up to date: its schema, and the texts of its records."""

import json

from imageapi.albums.rendering import Rendering
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.database.renderings import render_anew
from imageapi.records.reading import read_record


async def bring_up_to_date(database: Database, rendering: Rendering) -> bool:
    """Bring schema and records to this version and time zone; return whether anything changed."""

    def render(record: str, asset_key: bytes | None) -> str:
        return rendering.text(read_record(json.loads(record)), asset_key)

    migrated = await migrate(database)
    rendered = await render_anew(database, rendering.name, render)
    return migrated or rendered > 0
