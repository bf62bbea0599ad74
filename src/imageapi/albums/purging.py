"""Keeping house: the trash emptied, and what nobody has a record of removed from the store."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from imageapi.albums.studio import Studio
from imageapi.database.changes import album_ids, changing, pictures_in_use
from imageapi.pictures.naming import ORIGINAL, store_key
from imageapi.pictures.store import Store
from imageapi.records.values import ALBUM_ID, PUBLIC_ID

#: What is younger may belong to an upload that is under way.
ORPHAN_AGE = timedelta(hours=1)
#: So many images are removed by one change at most.
BATCH = 1000


@dataclass(slots=True)
class Purged:
    """How many images were removed for good, and how many pictures without a record."""

    images: int = 0
    orphans: int = 0


async def purge(studio: Studio, older_than: timedelta) -> Purged:
    """Remove what was deleted so long ago, and pictures in the store that no image has.

    The record goes first: interrupted, this leaves orphans, which the next run removes.
    """
    purged = Purged()
    before = datetime.now(UTC) - older_than
    for album_id in await album_ids(studio.database):
        while count := await _empty_trash(studio, album_id, before):
            purged.images += count
    purged.orphans = await _remove_orphans(studio, datetime.now(UTC) - ORPHAN_AGE)
    purged.orphans += await studio.store.sweep(ORPHAN_AGE)
    return purged


async def _empty_trash(studio: Studio, album_id: str, before: datetime) -> int:
    async with changing(studio.database, album_id) as change:
        images = await change.in_trash_before(before, BATCH)
        if images:
            ids = [image.public_id for image in images]
            await change.remove(ids)
            named = [str(public_id) for public_id in ids]
            deleted = {"deleted": True}
            await change.note("purge", ids, dict.fromkeys(named, deleted), dict.fromkeys(named))
    for image in images:
        if image.picture is not None:
            await _remove(studio.store, album_id, image.picture)
    return len(images)


async def _remove(store: Store, album_id: str, picture: UUID) -> None:
    """Remove the renditions, and the original last: it says that there is something to remove."""
    async for kept in store.list(f"{album_id}/{picture}"):
        if not kept.key.endswith(f"/{ORIGINAL}"):
            await store.delete(kept.key)
    await store.delete(store_key(album_id, picture, ORIGINAL))


async def _remove_orphans(studio: Studio, before: datetime) -> int:
    """Remove what is older than that and belongs to no image; return how many originals."""
    count = 0
    batch: list[tuple[str, UUID, str]] = []
    async for kept in studio.store.list():
        parts = kept.key.split("/")
        if len(parts) == len(("album", "picture", "name")) and kept.modified < before:
            album_id, picture, _ = parts
            if ALBUM_ID.fullmatch(album_id) and PUBLIC_ID.fullmatch(picture):
                batch.append((album_id, UUID(picture), kept.key))
        if len(batch) == BATCH:
            count += await _remove_unused(studio, batch)
            batch.clear()
    return count + await _remove_unused(studio, batch)


async def _remove_unused(studio: Studio, batch: list[tuple[str, UUID, str]]) -> int:
    by_album: dict[str, set[UUID]] = {}
    for album_id, picture, _ in batch:
        by_album.setdefault(album_id, set()).add(picture)
    used = {
        (album_id, picture)
        for album_id, pictures in by_album.items()
        for picture in await pictures_in_use(studio.database, album_id, pictures)
    }
    unused = [key for album_id, picture, key in batch if (album_id, picture) not in used]
    for key in unused:
        await studio.store.delete(key)
    return sum(key.endswith(f"/{ORIGINAL}") for key in unused)
