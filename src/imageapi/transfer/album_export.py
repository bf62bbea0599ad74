"""Exports an album as a JSON array in the documented shape."""

from typing import IO

from imageapi.database.bulk_import import export_records, require_album
from imageapi.database.engine import Database


async def export_album(database: Database, album_id: str, output: IO[bytes]) -> int:
    """Write the album's records, oldest first, and return their number.

    Memory does not grow with the album. Raises AlbumNotFound before anything is written,
    DatabaseUnavailable, and OSError of the output.
    """
    await require_album(database, album_id)
    count = 0
    output.write(b"[")
    async for record in export_records(database, album_id):
        output.write(b"," + record.encode() if count else record.encode())
        count += 1
    output.write(b"]")
    output.flush()
    return count
