"""What folders and buckets share: keys, translated errors, disk threads and staged files."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from io import FileIO
from pathlib import Path
from threading import Lock
from time import time
from typing import TypeVar

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from imageapi.storage.errors import ObjectNotFound, StoreUnavailable

#: How much is written or yielded at once.
CHUNK_BYTES = 1024**2

#: One part of a key, between slashes. It cannot be ``.`` or ``..``, so no key leaves the store.
KEY_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+"

_KEY = re.compile(rf"(?!\.incoming(?:/|$)){KEY_PART}(?:/{KEY_PART})*")
#: How many threads may wait for disks at the same time.
MAX_DISK_THREADS = 16

_LIST_PAGE_OBJECTS = 1000
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a store."""

    key: str
    size_bytes: int
    modified: datetime


def validate_key(key: str) -> str:
    """Return the key; assert that it has our format.

    Keys never come from clients, so an invalid one is a bug of this program.
    """
    assert _KEY.fullmatch(key), f"not a key: {key!r}"
    return key


@contextmanager
def translate_store_errors(
    missing: type[StoreUnavailable | ObjectNotFound] = StoreUnavailable,
) -> Iterator[None]:
    """Translate what a disk or a bucket raises in the block.

    Raises ``missing`` where there is no such file or object, and StoreUnavailable for all else.
    """
    try:
        yield
    except _MISSING as error:
        raise missing from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable from error


async def run_in_disk_thread(work: Callable[..., T], *arguments: object, seconds: float) -> T:
    """Return what ``work`` returns in a thread for disks, or raise its error.

    On cancellation wait for the thread first, so that the caller may close and delete what the
    thread was using. After ``seconds`` raise TimeoutError, and abandon the thread: the disk hangs,
    and a thread cannot be stopped.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(_get_disk_threads(), partial(work, *arguments))
    deadline = loop.time() + seconds
    is_cancelled = False
    while not future.done() and loop.time() < deadline:
        try:
            await asyncio.wait([future], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            is_cancelled = True
    if not future.done():
        # Stops work that has not begun. The result of work that has is not used.
        future.cancel()
    if is_cancelled:
        if future.done() and not future.cancelled():
            future.exception()  # retrieve it, or asyncio logs that it never was
        raise asyncio.CancelledError
    if future.cancelled():
        raise TimeoutError
    return future.result()


@cache
def _get_disk_threads() -> ThreadPoolExecutor:
    """Return threads of our own: if all of them hang, those of asyncio's executor still work."""
    return ThreadPoolExecutor(MAX_DISK_THREADS, "disk")


async def list_objects(
    store: ObjectStore, prefix: str, seconds_per_page: float | None = None
) -> AsyncIterator[StoredObject]:
    """Yield the objects under the prefix. Raises StoreUnavailable."""
    pages = store.list(prefix or None, chunk_size=_LIST_PAGE_OBJECTS)
    while True:
        with translate_store_errors():
            async with asyncio.timeout(seconds_per_page):
                page = await anext(pages, None)
        if page is None:
            return
        for meta in page:
            yield StoredObject(meta["path"], meta["size"], meta["last_modified"])


class StagedFile:
    """A private file that is written, and then moved to its final place or discarded.

    A lock lets only one thread use the file at a time, because a thread that `run_in_disk_thread`
    abandoned may still work on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._lock = Lock()

    def open(self) -> None:
        """Create the file. Only this user may read it."""
        with self._lock:
            self._file = FileIO(self.path, "xb", opener=partial(os.open, mode=0o600))

    def write(self, content: bytes) -> None:
        """Write all of the content, behind what was written before."""
        with self._lock:
            assert self._file is not None
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Wait until what was written is on the disk (fsync)."""
        with self._lock:
            assert self._file is not None
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close the file, and delete it unless it was moved."""
        with self._lock:
            with suppress(OSError):
                if self._file is not None:
                    self._file.close()
            with suppress(OSError):
                self.path.unlink()


async def discard(staged: StagedFile, seconds: float) -> None:
    """Discard the file. If the disk hangs for so long, return; the thread discards it later."""
    with suppress(TimeoutError):
        await run_in_disk_thread(staged.discard, seconds=seconds)


class StoreWriter:
    """Writes one picture into a store. Only one task may use it at a time.

    Every method raises StoreUnavailable. After such an error, and after `commit`, the writer cannot
    be used any more.
    """

    def __init__(
        self,
        staged: StagedFile,
        disk_seconds: float,
        finish: Callable[[], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """Write to ``staged``, and pass each chunk to ``send`` as well; ``finish`` commits.

        ``disk_seconds`` is the deadline for one write to the staged file.
        """
        self._staged = staged
        self._disk_seconds = disk_seconds
        self._finish = finish
        self._send = send
        self._buffer = bytearray()
        self._is_usable = True

    @property
    def path(self) -> Path:
        """The file that has what was written, after a `flush` and before `commit`."""
        return self._staged.path

    async def write(self, chunk: bytes) -> None:
        """Append the chunk. Less than 1 MiB may stay in memory until the next call."""
        self._buffer += chunk
        if len(self._buffer) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> Path:
        """Write the rest of the buffer to the file, and return the file's path."""
        if not self._is_usable:
            raise StoreUnavailable
        self._is_usable = False  # a write that fails or is cancelled half way cannot be continued
        content, self._buffer = bytes(self._buffer), bytearray()
        if content:
            with translate_store_errors():
                await run_in_disk_thread(self._staged.write, content, seconds=self._disk_seconds)
            if self._send is not None:
                await self._send(content)
        self._is_usable = True
        return self.path

    async def commit(self) -> None:
        """Store what was written under the key; it is durable on return.

        If this is cancelled, the store has all of the picture or none of it.
        """
        await self.flush()
        self._is_usable = False
        await self._finish()


def remove_stale(folder: Path, pattern: str, older_than: timedelta) -> int:
    """Remove the folder's files of the pattern that were last written so long ago.

    Return how many. Files that cannot be removed are skipped: they may belong to another user, or
    be gone already.
    """
    count = 0
    for path in folder.glob(pattern):
        with suppress(OSError):
            if path.stat().st_mtime < time() - older_than.total_seconds():
                path.unlink()
                count += 1
    return count
