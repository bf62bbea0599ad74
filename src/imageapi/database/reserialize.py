"""Records rendered anew where what renders them has changed: their schema, or the time zone."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import select, update

from imageapi.database.album_change import AlbumChange, album_change
from imageapi.database.engine import Database
from imageapi.database.tables import albums

BATCH_IMAGES = 1000

#: From a record, and the key of its picture's paths if it has a picture, to the record anew.
Serialize = Callable[[str, bytes | None], str]


async def reserialize(database: Database, rendering: str, render: Serialize) -> int:
    """Render every record anew that another ``rendering`` made; return how many changed.

    Done in batches, each one change of its album, in a transaction of its own. Interrupted, it
    goes on where it was when it is called again; called twice at once, one finds it done.
    """
    async with database.transaction() as connection:
        outdated = await connection.scalars(
            select(albums.c.album_id).where(albums.c.rendering != rendering)
        )
        album_ids = list(outdated)
    changed = 0
    for album_id in album_ids:
        last: UUID | None = UUID(int=0)
        while last is not None:
            async with album_change(database, album_id) as change:
                last, count = await _reserialize_batch(change, last, render)
                changed += count
        async with database.transaction() as connection:
            await connection.execute(
                update(albums).where(albums.c.album_id == album_id).values(rendering=rendering)
            )
    return changed


async def _reserialize_batch(
    change: AlbumChange, after: UUID, render: Serialize
) -> tuple[UUID | None, int]:
    """Where the next batch begins, or None; and how many texts of this one changed."""
    rows = await change.list_after(after, BATCH_IMAGES)
    rendered = [(row, render(row.record, row.asset_key)) for row in rows]
    changed = [(row.public_id, new) for row, new in rendered if new != row.record]
    if changed:
        await change.update([{"public_id": each, "record": new} for each, new in changed])
        await change.record_event("render", [public_id for public_id, _ in changed], {}, {})
    return (rows[-1].public_id if len(rows) == BATCH_IMAGES else None), len(changed)
