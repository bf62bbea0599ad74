"""Keeping house: the trash emptied, and what nobody has a record of removed from the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from imageapi.albums.studio import Studio
from imageapi.database.changes import album_ids, changing
from imageapi.pictures.naming import ORIGINAL, store_key
from imageapi.pictures.store import Store
from imageapi.records.ids import ALBUM_ID, PUBLIC_ID

#: What is younger may belong to an upload that is under way.
ORPHAN_AGE = timedelta(hours=1)
#: So many images are removed by one change at most.
BATCH = 1000
#: So many keys are looked at while their albums are held, one after the other.
ORPHANS_AT_ONCE = 100

_CLOCK = "clock"


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
    too_young = await _stores_clock(studio.store) - ORPHAN_AGE
    purged.orphans = await _remove_orphans(studio, too_young)
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


async def _stores_clock(store: Store) -> datetime:
    """What time it is where the store is, whose clock says how old things are."""
    nobodys = uuid4()  # so that the next purge takes it for an orphan, where this one is killed
    key = store_key(_CLOCK, nobodys, "now")
    await store.put(key, b"")
    try:
        return max([kept.modified async for kept in store.list(f"{_CLOCK}/{nobodys}")])
    finally:
        await store.delete(key)


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
        if len(batch) == ORPHANS_AT_ONCE:
            count += await _remove_unused(studio, batch)
            batch.clear()
    return count + await _remove_unused(studio, batch)


async def _remove_unused(studio: Studio, batch: Sequence[tuple[str, UUID, str]]) -> int:
    """Remove those of the keys whose picture no image has; return how many are originals.

    Meanwhile nobody changes their album. An upload makes sure that its picture is there before it
    commits, so that it is safe from this even if all clocks are wrong.
    """
    count = 0
    for album_id in dict.fromkeys(album_id for album_id, _, _ in batch):
        pictures = {key: picture for each, picture, key in batch if each == album_id}
        async with changing(studio.database, album_id) as change:
            used = await change.pictures_in_use(set(pictures.values()))
            for key in (key for key, picture in pictures.items() if picture not in used):
                await studio.store.delete(key)
                count += key.endswith(f"/{ORIGINAL}")
    return count
