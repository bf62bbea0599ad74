"""Keeping house: the trash emptied, and what nobody has a record of removed from the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from imageapi.albums.asset_paths import ORIGINAL, build_store_key
from imageapi.albums.backend import Backend
from imageapi.database.album_change import album_change, list_album_ids
from imageapi.records.ids import ALBUM_ID, PUBLIC_ID
from imageapi.storage.store import Store

#: What is younger may belong to an upload that is under way.
ORPHAN_AGE = timedelta(hours=1)
#: So many images are removed by one change at most.
BATCH_IMAGES = 1000
#: So many keys are looked at while their albums are held, one after the other.
ORPHAN_BATCH_KEYS = 100

_CLOCK = "clock"


@dataclass(slots=True)
class PurgeResult:
    """How many images were removed for good, and how many pictures without a record."""

    images: int = 0
    orphans: int = 0


async def purge(backend: Backend, older_than: timedelta) -> PurgeResult:
    """Remove what was deleted so long ago, and pictures in the store that no image has.

    The record goes first: interrupted, this leaves orphans, which the next run removes.
    """
    purged = PurgeResult()
    before = datetime.now(UTC) - older_than
    for album_id in await list_album_ids(backend.database):
        while count := await _empty_trash(backend, album_id, before):
            purged.images += count
    too_young = await _read_store_clock(backend.store) - ORPHAN_AGE
    purged.orphans = await _remove_orphans(backend, too_young)
    purged.orphans += await backend.store.sweep(ORPHAN_AGE)
    return purged


async def _empty_trash(backend: Backend, album_id: str, before: datetime) -> int:
    async with album_change(backend.database, album_id) as change:
        images = await change.list_trashed_before(before, BATCH_IMAGES)
        if images:
            ids = [image.public_id for image in images]
            await change.remove_images(ids)
            named = [str(public_id) for public_id in ids]
            deleted = {"deleted": True}
            await change.record_event(
                "purge", ids, dict.fromkeys(named, deleted), dict.fromkeys(named)
            )
    for image in images:
        if image.picture is not None:
            await _remove_picture(backend.store, album_id, image.picture)
    return len(images)


async def _remove_picture(store: Store, album_id: str, picture: UUID) -> None:
    """Remove the renditions, and the original last: it says that there is something to remove."""
    async for kept in store.list(f"{album_id}/{picture}"):
        if not kept.key.endswith(f"/{ORIGINAL}"):
            await store.delete(kept.key)
    await store.delete(build_store_key(album_id, picture, ORIGINAL))


async def _read_store_clock(store: Store) -> datetime:
    """What time it is where the store is, whose clock says how old things are."""
    nobodys = uuid4()  # so that the next purge takes it for an orphan, where this one is killed
    key = build_store_key(_CLOCK, nobodys, "now")
    await store.put(key, b"")
    try:
        return max([kept.modified async for kept in store.list(f"{_CLOCK}/{nobodys}")])
    finally:
        await store.delete(key)


async def _remove_orphans(backend: Backend, before: datetime) -> int:
    """Remove what is older than that and belongs to no image; return how many originals."""
    count = 0
    batch: list[tuple[str, UUID, str]] = []
    async for kept in backend.store.list():
        parts = kept.key.split("/")
        if len(parts) == len(("album", "picture", "name")) and kept.modified < before:
            album_id, picture, _ = parts
            if ALBUM_ID.fullmatch(album_id) and PUBLIC_ID.fullmatch(picture):
                batch.append((album_id, UUID(picture), kept.key))
        if len(batch) == ORPHAN_BATCH_KEYS:
            count += await _remove_unused_keys(backend, batch)
            batch.clear()
    return count + await _remove_unused_keys(backend, batch)


async def _remove_unused_keys(backend: Backend, batch: Sequence[tuple[str, UUID, str]]) -> int:
    """Remove those of the keys whose picture no image has; return how many are originals.

    Meanwhile nobody changes their album. An upload makes sure that its picture is there before it
    commits, so that it is safe from this even if all clocks are wrong.
    """
    count = 0
    for album_id in dict.fromkeys(album_id for album_id, _, _ in batch):
        pictures = {key: picture for each, picture, key in batch if each == album_id}
        async with album_change(backend.database, album_id) as change:
            used = await change.filter_pictures_in_use(set(pictures.values()))
            for key in (key for key, picture in pictures.items() if picture not in used):
                await backend.store.delete(key)
                count += key.endswith(f"/{ORIGINAL}")
    return count
