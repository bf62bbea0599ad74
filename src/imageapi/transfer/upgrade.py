"""Upgrades a database to this version: its schema, and the texts of its records."""

import json

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.database.reserialize import reserialize
from imageapi.records.parse import parse_record


async def upgrade_database(database: Database, serializer: RecordSerializer) -> bool:
    """Upgrade the schema and the records; return whether anything changed.

    Records are serialized again if the serializer's version, time zone or sizes have changed.
    """

    def serialize(record: str, asset_key: bytes | None) -> str:
        return serializer.serialize(parse_record(json.loads(record)), asset_key)

    has_migrated = await migrate(database)
    count = await reserialize(database, serializer.name, serialize)
    return has_migrated or count > 0
