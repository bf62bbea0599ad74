"""Makes the texts of records again where the serializer or its settings have changed."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import select, update

from imageapi.database.album_change import AlbumChange, album_change
from imageapi.database.engine import Database
from imageapi.database.tables import albums

BATCH_IMAGES = 1000

#: Returns the new text, from a record's text and its image's asset key (None without a picture).
SerializeRecord = Callable[[str, bytes | None], str]


async def reserialize(database: Database, serializer_name: str, serialize: SerializeRecord) -> int:
    """Serialize again all records that another serializer made; return how many texts changed.

    Works in batches; each is one change of its album, in its own transaction. It can be
    interrupted: the next call goes on with what is left. It can run twice at once: the second run
    finds nothing to change.
    """
    async with database.transaction() as connection:
        outdated = await connection.scalars(
            select(albums.c.album_id).where(albums.c.rendering != serializer_name)
        )
        album_ids = list(outdated)
    total = 0
    for album_id in album_ids:
        last: UUID | None = UUID(int=0)
        while last is not None:
            async with album_change(database, album_id) as change:
                last, count = await _reserialize_batch(change, last, serialize)
                total += count
        async with database.transaction() as connection:
            await connection.execute(
                update(albums)
                .where(albums.c.album_id == album_id)
                .values(rendering=serializer_name)
            )
    return total


async def _reserialize_batch(
    change: AlbumChange, after: UUID, serialize: SerializeRecord
) -> tuple[UUID | None, int]:
    """Serialize again the images after this id; return the last id, and how many texts changed.

    The id is None where no images follow.
    """
    images = await change.list_after(after, BATCH_IMAGES)
    texts = [(image, serialize(image.record, image.asset_key)) for image in images]
    changed = [(image.public_id, text) for image, text in texts if text != image.record]
    if changed:
        await change.update_images([{"public_id": id_, "record": text} for id_, text in changed])
        await change.record_event("render", [public_id for public_id, _ in changed], {}, {})
    return (images[-1].public_id if len(images) == BATCH_IMAGES else None), len(changed)
