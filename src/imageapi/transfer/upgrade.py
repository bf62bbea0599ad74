"""A database brought up to date: its schema, and the texts of its records."""

import json

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.database.reserialize import reserialize
from imageapi.records.parse import parse_record


async def upgrade_database(database: Database, serializer: RecordSerializer) -> bool:
    """Bring schema and records to this version and time zone; return whether anything changed."""

    def render(record: str, asset_key: bytes | None) -> str:
        return serializer.text(parse_record(json.loads(record)), asset_key)

    migrated = await migrate(database)
    rendered = await reserialize(database, serializer.name, render)
    return migrated or rendered > 0
