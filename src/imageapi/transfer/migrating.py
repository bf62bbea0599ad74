"""A database brought up to date: its schema, and the texts of its records."""

import json
from zoneinfo import ZoneInfo

from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.database.renderings import render_anew
from imageapi.records.image import rendering_of
from imageapi.records.reading import read_record


async def bring_up_to_date(database: Database, time_zone: ZoneInfo) -> bool:
    """Bring schema and records to this version and time zone; return whether anything changed."""

    def render(record: str) -> str:
        return read_record(json.loads(record)).record(time_zone)

    migrated = await migrate(database)
    rendered = await render_anew(database, rendering_of(time_zone), render)
    return migrated or rendered > 0
