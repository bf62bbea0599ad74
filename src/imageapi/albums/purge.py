"""Empties the trash, and removes pictures from the store that no record has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from imageapi.albums.asset_paths import ORIGINAL, build_store_key
from imageapi.albums.backend import Backend
from imageapi.database.album_change import album_change, list_album_ids
from imageapi.records.ids import ALBUM_ID, PUBLIC_ID
from imageapi.storage.store import Store

#: A younger picture may belong to an upload whose record is not written yet.
ORPHAN_AGE = timedelta(hours=1)
#: How many images one change removes at most.
BATCH_IMAGES = 1000
#: How many keys are checked at a time. Their albums are locked one after the other.
ORPHAN_BATCH_KEYS = 100

_CLOCK = "clock"


@dataclass(slots=True)
class PurgeResult:
    """How many images were removed for good, and how many pictures without a record (orphans)."""

    images: int = 0
    orphans: int = 0


async def purge(backend: Backend, older_than: timedelta) -> PurgeResult:
    """Remove images that were deleted so long ago, and pictures in the store that no image has.

    An image's record is removed before its picture. If this is interrupted, orphans are left, which
    the next run removes. Raises StoreUnavailable and DatabaseUnavailable.
    """
    result = PurgeResult()
    before = datetime.now(UTC) - older_than
    for album_id in await list_album_ids(backend.database):
        while count := await _empty_trash(backend, album_id, before):
            result.images += count
    orphans_before = await _read_store_clock(backend.store) - ORPHAN_AGE
    result.orphans = await _remove_orphans(backend, orphans_before)
    result.orphans += await backend.store.sweep(ORPHAN_AGE)
    return result


async def _empty_trash(backend: Backend, album_id: str, before: datetime) -> int:
    """Remove one batch of the images that were deleted before the moment; return how many."""
    async with album_change(backend.database, album_id) as change:
        images = await change.list_trashed_before(before, BATCH_IMAGES)
        if images:
            ids = [image.public_id for image in images]
            await change.remove_images(ids)
            names = [str(public_id) for public_id in ids]
            deleted = {"deleted": True}
            await change.record_event(
                "purge", ids, dict.fromkeys(names, deleted), dict.fromkeys(names)
            )
    for image in images:
        if image.picture is not None:
            await _remove_picture(backend.store, album_id, image.picture)
    return len(images)


async def _remove_picture(store: Store, album_id: str, picture: UUID) -> None:
    """Remove the renditions, and the original last: by it an interrupted removal is found again."""
    async for stored in store.list(f"{album_id}/{picture}"):
        if not stored.key.endswith(f"/{ORIGINAL}"):
            await store.delete(stored.key)
    await store.delete(build_store_key(album_id, picture, ORIGINAL))


async def _read_store_clock(store: Store) -> datetime:
    """Return the time of the store's clock, which also dates the stored objects.

    It is the date of an object that is stored for this. The key looks like a picture's that no
    image has: if this process is killed, the next purge removes it as an orphan.
    """
    picture = uuid4()
    key = build_store_key(_CLOCK, picture, "now")
    await store.put(key, b"")
    try:
        return max([stored.modified async for stored in store.list(f"{_CLOCK}/{picture}")])
    finally:
        await store.delete(key)


async def _remove_orphans(backend: Backend, before: datetime) -> int:
    """Remove objects from before the moment that no image has; return how many were originals."""
    count = 0
    batch: list[tuple[str, UUID, str]] = []
    async for stored in backend.store.list():
        parts = stored.key.split("/")
        if len(parts) == len(("album", "picture", "name")) and stored.modified < before:
            album_id, picture, _ = parts
            if ALBUM_ID.fullmatch(album_id) and PUBLIC_ID.fullmatch(picture):
                batch.append((album_id, UUID(picture), stored.key))
        if len(batch) == ORPHAN_BATCH_KEYS:
            count += await _remove_unused_keys(backend, batch)
            batch.clear()
    return count + await _remove_unused_keys(backend, batch)


async def _remove_unused_keys(backend: Backend, batch: Sequence[tuple[str, UUID, str]]) -> int:
    """Remove the keys whose picture no image has; return how many were originals.

    Their album is locked meanwhile. An upload checks, with the same lock, that its picture still
    exists before it commits. So no record loses its picture here, even if all clocks are wrong.
    """
    count = 0
    for album_id in dict.fromkeys(album_id for album_id, _, _ in batch):
        pictures = {key: picture for album, picture, key in batch if album == album_id}
        async with album_change(backend.database, album_id) as change:
            used = await change.filter_pictures_in_use(set(pictures.values()))
            for key in (key for key, picture in pictures.items() if picture not in used):
                await backend.store.delete(key)
                count += key.endswith(f"/{ORIGINAL}")
    return count
