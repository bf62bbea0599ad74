"""Pictures in a folder.

What is written is staged in ``.incoming``, on the same file system, and moved to its place once it
is on the disk: no power cut and no kill leaves half a picture under a key.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from errno import EACCES
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar
from uuid import uuid4

from obstore.store import LocalStore

from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.errors import ObjectNotFound, StoreUnavailable
from imageapi.storage.staging import (
    CHUNK_BYTES,
    StagedFile,
    StoredObject,
    StoreWriter,
    discard,
    list_objects,
    remove_stale,
    run_in_disk_thread,
    translate_store_errors,
    validate_key,
)

_STAGING = ".incoming"
_PRIVATE = 0o700

T = TypeVar("T")


class Folder:
    """A store in a folder, which is made where it is missing. Raises OSError if it cannot be."""

    def __init__(self, root: Path, deadlines: StoreDeadlines) -> None:
        self.root = root
        self._deadlines = deadlines
        self._staging = root / _STAGING
        root.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._staging.mkdir(_PRIVATE, exist_ok=True)
        for folder in (root, self._staging):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        for folder in (root, *root.parents):
            with suppress(OSError):  # those above may be another's
                _sync_folder(folder)
        self._local = LocalStore(root)

    @asynccontextmanager
    async def open_writer(self, key: str) -> AsyncIterator[StoreWriter]:
        """A picture on its way: thrown away at the end of the block, unless it was told `keep`."""
        staged, key = self._staged(), validate_key(key)

        async def finish() -> None:
            with translate_store_errors():
                await run_in_disk_thread(
                    self._place, staged, key, seconds=self._deadlines.write_seconds
                )

        try:
            with translate_store_errors():
                await self._ask(staged.open)
            yield StoreWriter(staged, self._deadlines.answer_seconds, finish)
        finally:
            await discard(staged, self._deadlines.answer_seconds)

    async def put(self, key: str, content: bytes) -> None:
        """Keep something small, whole or not at all."""
        with translate_store_errors():
            await run_in_disk_thread(
                self._put, validate_key(key), content, seconds=self._deadlines.write_seconds
            )

    async def get(self, key: str) -> bytes:
        """All of it."""
        async with self._reading():
            return await self._ask((self.root / validate_key(key)).read_bytes)

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `end`, in chunks."""
        path, at = self.root / validate_key(key), start
        with ExitStack() as held:
            async with self._reading():
                file = await self._ask(lambda: held.enter_context(FileIO(path)))
                file.seek(start)
            while end is None or at < end:
                most = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - at)
                with translate_store_errors():
                    chunk = await self._ask(file.read, most)
                if not chunk:
                    return
                yield chunk
                at += len(chunk)

    async def size(self, key: str) -> int:
        """How many bytes there are."""
        async with self._reading():
            return (await self._ask(_stat_regular_file, self.root / validate_key(key))).st_size

    async def delete(self, key: str) -> None:
        """Have nothing under the key, and no empty folders above it."""
        with suppress(ObjectNotFound):
            async with self._reading():
                await self._ask(self._delete, validate_key(key))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """What is kept, in no order."""
        with translate_store_errors():
            await self._ask(self._check_there)
        async for each in list_objects(self._local, prefix):
            if not each.key.startswith(f"{_STAGING}/"):
                yield each

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """The file itself."""
        path = self.root / validate_key(key)
        async with self._reading():
            await self._ask(_stat_regular_file, path)
        yield path

    async def sweep(self, older_than: timedelta) -> int:
        """Remove staged files that were not written to for so long."""
        with translate_store_errors():
            return await self._ask(remove_stale, self._staging, "*", older_than)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            with translate_store_errors(ObjectNotFound):
                yield
        except ObjectNotFound:
            with translate_store_errors():
                await self._ask(self._check_there)
            raise

    async def _ask(self, work: Callable[..., T], *arguments: object) -> T:
        """What the work returns, which the disk has to answer in time; raises TimeoutError."""
        return await run_in_disk_thread(work, *arguments, seconds=self._deadlines.answer_seconds)

    def _check_there(self) -> None:
        """Raise StoreUnavailable if the folder is gone: the disk may not be mounted."""
        if not os.access(self._staging, os.F_OK):
            raise StoreUnavailable

    def _staged(self) -> StagedFile:
        return StagedFile(self._staging / str(uuid4()))

    def _put(self, key: str, content: bytes) -> None:
        staged = self._staged()
        try:
            staged.open()
            staged.write(content)
            self._place(staged, key)
        finally:
            staged.discard()

    def _place(self, staged: StagedFile, key: str) -> None:
        """Move what is staged to its key, so that it survives a power cut on return."""
        staged.sync()
        target = self.root / key
        above = self._above(key)
        while True:
            try:
                for folder in reversed(above):
                    with suppress(FileExistsError):
                        folder.mkdir(_PRIVATE)
                staged.path.replace(target)
                break
            except FileNotFoundError:
                if not staged.path.exists():
                    raise
                # A deletion took a folder that was still empty.
        for folder in (*above, self.root):
            with suppress(FileNotFoundError):  # deleted again
                _sync_folder(folder)

    def _delete(self, key: str) -> None:
        (self.root / key).unlink()
        with suppress(OSError):  # the first that is not empty
            for folder in self._above(key):
                folder.rmdir()

    def _above(self, key: str) -> Sequence[Path]:
        """The folders between the key and the root, from below."""
        return [self.root / above for above in Path(key).parents[:-1]]


def _stat_regular_file(path: Path) -> os.stat_result:
    found = path.stat()
    if not S_ISREG(found.st_mode):
        raise FileNotFoundError
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
