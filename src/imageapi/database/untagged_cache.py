"""Whole lists of untagged images, kept as the bytes that clients are sent while they hold."""

from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cachetools import LRUCache

from imageapi.database.album_versions import VersionBatcher
from imageapi.database.engine import Database
from imageapi.database.images import MAX_CHUNK_RECORDS, UNTAGGED_ONLY, Images
from imageapi.single_flight import SingleFlight

#: What all lists that are kept may take, in bytes of their plain text, and how many there may be.
MAX_CACHE_BYTES = 16 * 1024 * 1024
MAX_LISTS = 2048
#: A list that takes more is not kept.
MAX_LIST_BYTES = 1024 * 1024


@dataclass(slots=True)
class CachedList:
    """An album's whole queue as a JSON array, as of the album's ``version`` or later.

    ``encoded`` is for whoever sends it: ready answers, by the encodings that are accepted.
    """

    version: int
    text: bytes
    encoded: dict[bytes, Any] = field(default_factory=dict)


class UntaggedCache:
    """The queues of albums, always as of a moment after they were asked for.

    A list is read anew when its album's version is another than the one it was read at: every
    change of an image raises that, in the same transaction.
    """

    def __init__(self, database: Database) -> None:
        self._images = Images(database)
        self._versions = VersionBatcher(database)
        self._lists: LRUCache[str, CachedList] = LRUCache(MAX_CACHE_BYTES, _count_bytes)
        self._generation = 0
        self._reads = SingleFlight[tuple[str, int], CachedList | None]()

    async def get(self, album_id: str) -> CachedList | None:
        """Return the album's list, None if it is too long to cache; raises DatabaseUnavailable."""
        version = await self._versions.get(album_id)
        if self._generation != self._versions.generation:
            self._forget_all()
        if version is None:
            return _EMPTY
        cached = self._lists.get(album_id)
        if cached is not None and cached.version == version:
            return cached
        return await self._reads.run((album_id, version), partial(self._read, album_id, version))

    async def close(self) -> None:
        """Leave the server."""
        await self._versions.close()

    async def _read(self, album_id: str, version: int) -> CachedList | None:
        generation = self._generation
        async with aclosing(self._images.chunks(album_id, UNTAGGED_ONLY)) as chunks:
            records = await anext(chunks)
        if len(records) == MAX_CHUNK_RECORDS:
            return None
        text = f"[{','.join(records)}]".encode()
        if len(text) > MAX_LIST_BYTES:
            return None
        current = CachedList(version, text)
        if generation == self._generation:
            self._lists[album_id] = current
            if len(self._lists) > MAX_LISTS:
                self._lists.popitem()
        return current

    def _forget_all(self) -> None:
        """The same version may be another list: another database may have lost changes."""
        self._generation = self._versions.generation
        self._lists.clear()
        self._reads.clear()


def _count_bytes(cached: CachedList) -> int:
    return len(cached.text)


_EMPTY = CachedList(0, b"[]")
