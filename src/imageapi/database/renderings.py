"""Records rendered anew where what renders them has changed: their schema, or the time zone."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.engine import Database
from imageapi.database.tables import albums, images

BATCH = 1000


async def render_anew(database: Database, rendering: str, render: Callable[[str], str]) -> int:
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
            async with database.transaction() as connection:
                last, count = await _render_batch(connection, album_id, last, render)
                changed += count
        async with database.transaction() as connection:
            await connection.execute(
                update(albums).where(albums.c.album_id == album_id).values(rendering=rendering)
            )
    return changed


async def _render_batch(
    connection: AsyncConnection, album_id: str, after: UUID, render: Callable[[str], str]
) -> tuple[UUID | None, int]:
    """Where the next batch begins, or None; and how many texts of this one changed."""
    of_album = select(albums.c.version).where(albums.c.album_id == album_id).with_for_update()
    version: int = (await connection.execute(of_album)).scalar_one()
    rows = (
        await connection.execute(
            select(images.c.public_id, images.c.record)
            .where(images.c.album_id == album_id, images.c.public_id > after)
            .order_by(images.c.public_id)
            .limit(BATCH)
        )
    ).all()
    rendered = [(public_id, text, render(text)) for public_id, text in rows]
    changed = [
        {"of_image": public_id, "new": new} for public_id, text, new in rendered if new != text
    ]
    if changed:
        await connection.execute(
            update(images)
            .where(images.c.album_id == album_id, images.c.public_id == bindparam("of_image"))
            .values(record=bindparam("new"), version=version + 1),
            changed,
        )
        await connection.execute(
            update(albums).where(albums.c.album_id == album_id).values(version=version + 1)
        )
    return (rows[-1].public_id if len(rows) == BATCH else None), len(changed)
