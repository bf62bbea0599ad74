"""Caches whole lists of untagged images, as the bytes that clients are sent."""

from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cachetools import LRUCache

from imageapi.database.album_versions import VersionBatcher
from imageapi.database.engine import Database
from imageapi.database.images import MAX_CHUNK_RECORDS, UNTAGGED_ONLY, Images
from imageapi.single_flight import SingleFlight

#: Limits of the cache: the bytes of all texts together, without their encoded forms, and the number
#: of lists, because small lists take memory besides their texts.
MAX_CACHE_BYTES = 16 * 1024 * 1024
MAX_LISTS = 2048
#: A longer list is not cached.
MAX_LIST_BYTES = 1024 * 1024


@dataclass(slots=True)
class CachedList:
    """All untagged images of an album as a JSON array, as of the album's ``version`` or later.

    In ``encoded`` the sender may store responses, by the Accept-Encoding they were made for. They
    go with the list when it is replaced or evicted.
    """

    version: int
    text: bytes
    encoded: dict[bytes, Any] = field(default_factory=dict)


class UntaggedCache:
    """Caches the lists of untagged images, and never returns one older than the call.

    Each call reads the album's version first. Every change of an image raises it in the same
    transaction, so that a list read at this version is the current one.
    """

    def __init__(self, database: Database) -> None:
        self._images = Images(database)
        self._versions = VersionBatcher(database)
        self._lists: LRUCache[str, CachedList] = LRUCache(MAX_CACHE_BYTES, _count_bytes)
        #: The version of an album at which its list was found too long.
        self._long_lists: LRUCache[str, int] = LRUCache(MAX_LISTS)
        self._generation = 0
        self._reads = SingleFlight[tuple[str, int], CachedList | None]()

    async def find_list(self, album_id: str) -> CachedList | None:
        """Return the album's list, None if it is too long to cache; raises DatabaseUnavailable.

        An unknown album has an empty list.
        """
        version = await self._versions.find_version(album_id)
        if self._generation != self._versions.generation:
            self._clear()
        if version is None:
            return _EMPTY
        cached = self._lists.get(album_id)
        if cached is not None and cached.version == version:
            return cached
        if self._long_lists.get(album_id) == version:
            return None
        return await self._reads.run((album_id, version), partial(self._read, album_id, version))

    async def close(self) -> None:
        """Close the connection to the database."""
        await self._versions.close()

    async def _read(self, album_id: str, version: int) -> CachedList | None:
        generation = self._generation
        async with aclosing(self._images.iterate_chunks(album_id, UNTAGGED_ONLY)) as chunks:
            records = await anext(chunks)
        current = None
        if len(records) < MAX_CHUNK_RECORDS:
            text = f"[{','.join(records)}]".encode()
            if len(text) <= MAX_LIST_BYTES:
                current = CachedList(version, text)
        if generation == self._generation:
            self._store(album_id, version, current)
        return current

    def _store(self, album_id: str, version: int, current: CachedList | None) -> None:
        if current is None:
            # Else each request for a long list would read its first chunk in vain.
            self._long_lists[album_id] = version
            return
        self._lists[album_id] = current
        if len(self._lists) > MAX_LISTS:
            self._lists.popitem()

    def _clear(self) -> None:
        """Forget all lists, because versions come from a new connection.

        It may lead to another database, which has lost changes. There the same version may stand
        for another list.
        """
        self._generation = self._versions.generation
        self._lists.clear()
        self._long_lists.clear()
        self._reads.clear()


def _count_bytes(cached: CachedList) -> int:
    return len(cached.text)


_EMPTY = CachedList(0, b"[]")
