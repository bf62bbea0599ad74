"""What folders and buckets have in common: keys, errors, and files that are not there yet."""

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

#: What is written, and handed out, at once.
CHUNK_BYTES = 1024**2

#: A name within a key. None leads elsewhere.
KEY_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+"

_KEY = re.compile(rf"(?!\.incoming(?:/|$)){KEY_PART}(?:/{KEY_PART})*")
#: So many ask disks at once.
MAX_DISK_THREADS = 16

_LIST_PAGE_OBJECTS = 1000
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Something that a store has."""

    key: str
    size_bytes: int
    modified: datetime


def validate_key(key: str) -> str:
    """The key. It is ours, so that another than we make is a mistake of this program."""
    assert _KEY.fullmatch(key), f"not a key: {key!r}"
    return key


@contextmanager
def translate_store_errors(
    missing: type[StoreUnavailable | ObjectNotFound] = StoreUnavailable,
) -> Iterator[None]:
    """What the disk or the bucket raises, as an error of ours."""
    try:
        yield
    except _MISSING as error:
        raise missing from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable from error


async def run_in_disk_thread(work: Callable[..., T], *arguments: object, seconds: float) -> T:
    """What `work` returns in a thread. When cancelled, return no sooner than the thread does.

    So whoever is cancelled may close and remove what the thread was working on. But a disk that
    does not answer in so many seconds is a TimeoutError; its thread is left to itself.
    """
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(_get_disk_threads(), partial(work, *arguments))
    deadline = loop.time() + seconds
    is_cancelled = False
    while not running.done() and loop.time() < deadline:
        try:
            await asyncio.wait([running], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            is_cancelled = True
    if not running.done():
        running.cancel()  # where it has not begun; else nobody asks for what becomes of it
    if is_cancelled:
        if running.done() and not running.cancelled():
            running.exception()
        raise asyncio.CancelledError
    if running.cancelled():
        raise TimeoutError
    return running.result()


@cache
def _get_disk_threads() -> ThreadPoolExecutor:
    """Threads that may all hang, without anybody else's standing still."""
    return ThreadPoolExecutor(MAX_DISK_THREADS, "disk")


async def list_objects(
    store: ObjectStore, prefix: str, seconds: float | None = None
) -> AsyncIterator[StoredObject]:
    """What is kept under the prefix. A page may take this long."""
    pages = store.list(prefix or None, chunk_size=_LIST_PAGE_OBJECTS)
    while True:
        with translate_store_errors():
            async with asyncio.timeout(seconds):
                page = await anext(pages, None)
        if page is None:
            return
        for each in page:
            yield StoredObject(each["path"], each["size"], each["last_modified"])


class StagedFile:
    """A file for one's own use, until it is moved to its place or discarded.

    One thread works on it at a time: one that was given up may still do so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._lock = Lock()

    def open(self) -> None:
        """Make the file; nobody but this user may read it."""
        with self._lock:
            self._file = FileIO(self.path, "xb", opener=partial(os.open, mode=0o600))

    def write(self, content: bytes) -> None:
        """Write all of it."""
        with self._lock:
            assert self._file is not None
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Have it on the disk."""
        with self._lock:
            assert self._file is not None
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close it, and remove it where it still is."""
        with self._lock:
            with suppress(OSError):
                if self._file is not None:
                    self._file.close()
            with suppress(OSError):
                self.path.unlink()


async def discard(staged: StagedFile, seconds: float) -> None:
    """Have it discarded, now or, after so many seconds, when the disk answers again."""
    with suppress(TimeoutError):
        await run_in_disk_thread(staged.discard, seconds=seconds)


class StoreWriter:
    """A picture on its way into a store. It is for one task at a time.

    Every method raises StoreUnavailable; after that, and after `keep`, there is no more to be done.
    """

    def __init__(
        self,
        staged: StagedFile,
        disk_seconds: float,
        finish: Callable[[], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """``disk_seconds`` is how long the disk of the staged file may take to answer."""
        self._staged = staged
        self._disk_seconds = disk_seconds
        self._finish = finish
        self._send = send
        self._waiting = bytearray()
        self._usable = True

    @property
    def path(self) -> Path:
        """The file that holds what was written, once it is `flushed` and until it is kept."""
        return self._staged.path

    async def write(self, chunk: bytes) -> None:
        """Take what comes next. It may wait in memory until there is 1 MiB of it."""
        self._waiting += chunk
        if len(self._waiting) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> Path:
        """The file, with all that was written until now in it."""
        if not self._usable:
            raise StoreUnavailable
        self._usable = False  # what fails or is cancelled half way cannot be taken up again
        waiting, self._waiting = bytes(self._waiting), bytearray()
        if waiting:
            with translate_store_errors():
                await run_in_disk_thread(self._staged.write, waiting, seconds=self._disk_seconds)
            if self._send is not None:
                await self._send(waiting)
        self._usable = True
        return self.path

    async def commit(self) -> None:
        """Have all of it under the key, durable. When cancelled: whole or not at all."""
        await self.flush()
        self._usable = False
        await self._finish()


def remove_stale(folder: Path, pattern: str, older_than: timedelta) -> int:
    """Remove the folder's files of such names that were not written to for so long."""
    count = 0
    for path in folder.glob(pattern):
        with suppress(OSError):  # another's, or gone by itself
            if path.stat().st_mtime < time() - older_than.total_seconds():
                path.unlink()
                count += 1
    return count
