"""Stores pictures in a folder.

A file is first written in ``.incoming``, on the same file system. It is moved to its key after the
disk has all of it, so that a power cut or a kill never leaves half a picture under a key.
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
_PRIVATE_MODE = 0o700

T = TypeVar("T")


class Folder:
    """A `Store` in a folder, which is created if it is missing.

    Raises OSError if it cannot be created or written to.
    """

    def __init__(self, root: Path, deadlines: StoreDeadlines) -> None:
        self.root = root
        self._deadlines = deadlines
        self._staging = root / _STAGING
        root.mkdir(_PRIVATE_MODE, parents=True, exist_ok=True)
        self._staging.mkdir(_PRIVATE_MODE, exist_ok=True)
        for folder in (root, self._staging):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        for folder in (root, *root.parents):
            with suppress(OSError):  # folders above may belong to another user
                _sync_folder(folder)
        self._local = LocalStore(root)

    @asynccontextmanager
    async def open_writer(self, key: str) -> AsyncIterator[StoreWriter]:
        """Yield a writer; the picture is discarded when the block ends without a commit."""
        staged, key = self._create_staged_file(), validate_key(key)

        async def finish() -> None:
            with translate_store_errors():
                await run_in_disk_thread(
                    self._move_to_key, staged, key, seconds=self._deadlines.write_seconds
                )

        try:
            with translate_store_errors():
                await self._run_in_thread(staged.open)
            yield StoreWriter(staged, self._deadlines.response_seconds, finish)
        finally:
            await discard(staged, self._deadlines.response_seconds)

    async def put(self, key: str, content: bytes) -> None:
        """Store something small, whole or not at all."""
        with translate_store_errors():
            await run_in_disk_thread(
                self._write_file, validate_key(key), content, seconds=self._deadlines.write_seconds
            )

    async def get(self, key: str) -> bytes:
        """Return the whole content. Raises ObjectNotFound."""
        async with self._translate_missing():
            return await self._run_in_thread((self.root / validate_key(key)).read_bytes)

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to, not including, ``end``. Raises ObjectNotFound."""
        path, position = self.root / validate_key(key), start
        with ExitStack() as stack:
            async with self._translate_missing():
                file = await self._run_in_thread(lambda: stack.enter_context(FileIO(path)))
                file.seek(start)
            while end is None or position < end:
                max_bytes = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position)
                with translate_store_errors():
                    chunk = await self._run_in_thread(file.read, max_bytes)
                if not chunk:
                    return
                yield chunk
                position += len(chunk)

    async def size(self, key: str) -> int:
        """Return the size in bytes. Raises ObjectNotFound."""
        path = self.root / validate_key(key)
        async with self._translate_missing():
            return (await self._run_in_thread(_stat_regular_file, path)).st_size

    async def delete(self, key: str) -> None:
        """Delete the file if it exists, and the folders above it that are empty then."""
        with suppress(ObjectNotFound):
            async with self._translate_missing():
                await self._run_in_thread(self._delete_file, validate_key(key))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Yield the stored files, in no order."""
        with translate_store_errors():
            await self._run_in_thread(self._require_folder)
        async for stored in list_objects(self._local, prefix):
            if not stored.key.startswith(f"{_STAGING}/"):
                yield stored

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """Yield the path of the stored file itself. Raises ObjectNotFound."""
        path = self.root / validate_key(key)
        async with self._translate_missing():
            await self._run_in_thread(_stat_regular_file, path)
        yield path

    async def sweep(self, older_than: timedelta) -> int:
        """Remove staged files that were last written so long ago; return how many."""
        with translate_store_errors():
            return await self._run_in_thread(remove_stale, self._staging, "*", older_than)

    @asynccontextmanager
    async def _translate_missing(self) -> AsyncIterator[None]:
        """Translate the errors of a read in the block.

        Raises ObjectNotFound where a file is missing, and StoreUnavailable where the whole folder
        is: its disk may not be mounted, and then the picture is not lost.
        """
        try:
            with translate_store_errors(ObjectNotFound):
                yield
        except ObjectNotFound:
            with translate_store_errors():
                await self._run_in_thread(self._require_folder)
            raise

    async def _run_in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what ``work`` returns in a disk thread. Raises TimeoutError and its errors."""
        seconds = self._deadlines.response_seconds
        return await run_in_disk_thread(work, *arguments, seconds=seconds)

    def _require_folder(self) -> None:
        """Raise StoreUnavailable if the folder is gone."""
        if not os.access(self._staging, os.F_OK):
            raise StoreUnavailable

    def _create_staged_file(self) -> StagedFile:
        return StagedFile(self._staging / str(uuid4()))

    def _write_file(self, key: str, content: bytes) -> None:
        staged = self._create_staged_file()
        try:
            staged.open()
            staged.write(content)
            self._move_to_key(staged, key)
        finally:
            staged.discard()

    def _move_to_key(self, staged: StagedFile, key: str) -> None:
        """Move the staged file to its key. On return it survives a power cut."""
        staged.sync()
        target = self.root / key
        parents = self._list_parents(key)
        while True:
            try:
                for folder in reversed(parents):
                    with suppress(FileExistsError):
                        folder.mkdir(_PRIVATE_MODE)
                staged.path.replace(target)
                break
            except FileNotFoundError:
                if not staged.path.exists():
                    raise
                # A deletion removed one of the folders while it was still empty: create it again.
        for folder in (*parents, self.root):
            with suppress(FileNotFoundError):  # deleted again
                _sync_folder(folder)

    def _delete_file(self, key: str) -> None:
        (self.root / key).unlink()
        with suppress(OSError):  # ends at the first folder that is not empty
            for folder in self._list_parents(key):
                folder.rmdir()

    def _list_parents(self, key: str) -> Sequence[Path]:
        """Return the folders between the key and the root, the innermost first."""
        return [self.root / parent for parent in Path(key).parents[:-1]]


def _stat_regular_file(path: Path) -> os.stat_result:
    """Return the file's status. Raises FileNotFoundError for anything but a regular file."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise FileNotFoundError
    return status


def _sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on the disk, for example of a file that was moved."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
