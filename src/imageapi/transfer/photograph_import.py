"""Folders of photographs into an album, each by itself: what is there already is skipped."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from imageapi.albums.backend import Backend
from imageapi.albums.uploader import Uploader, UploadFields
from imageapi.imaging.errors import NotAPicture, PictureError, PictureTooLarge
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.records.fields import MAX_TAGS
from imageapi.records.tags import InvalidTag, parse_tag
from imageapi.workers.process import count_cores

CHUNK_BYTES = 1024 * 1024
#: While one file is read and kept, others are decoded.
TASKS_PER_CORE = 2


@dataclass(slots=True)
class PhotographImportResult:
    """How many pictures were added and were there already; which files were refused, and why."""

    added: int = 0
    present: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)


def find_photographs(folders: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Every file below the folders with the folder it was found from; no hidden ones.

    Links to folders are not followed.
    """
    return sorted({file: folder for folder in folders for file in _iterate_files(folder)}.items())


def _iterate_files(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(path, name) for name in files if not name.startswith("."))


class PhotographImporter:
    """Adds photographs to an album; interrupted, it goes on where it was when it runs again.

    ``progress`` is called after each file.
    """

    def __init__(
        self,
        backend: Backend,
        album_id: str,
        progress: Callable[[], object],
        *,
        tags_from_folders: bool,
    ) -> None:
        self._uploader = Uploader(backend, album_id, user_id=None, kind="import")
        self._progress = progress
        self._tags_from_folders = tags_from_folders
        self._outcome = PhotographImportResult()

    async def run(self, files: Iterable[tuple[Path, Path]]) -> PhotographImportResult:
        """Add the files; raises StoreUnavailable, DecodersBusy, DatabaseUnavailable."""
        waiting = iter(files)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(count_cores() * TASKS_PER_CORE):
                    tasks.create_task(self._work(waiting))
        except ExceptionGroup as group:
            # The first error ends all tasks. The command explains that one, and knows no groups.
            raise group.exceptions[0] from None
        self._outcome.refused.sort()
        return self._outcome

    async def _work(self, waiting: Iterator[tuple[Path, Path]]) -> None:
        for path, folder in waiting:
            try:
                is_new = await self._add(path, self._tags(path, folder))
                self._outcome.added += is_new
                self._outcome.present += not is_new
            except PictureError as error:
                self._outcome.refused.append((path, str(error)))
            except OSError as error:
                reason = error.strerror or "It cannot be read"
                self._outcome.refused.append((path, f"{reason}."))
            self._progress()

    async def _add(self, path: Path, tags: list[str]) -> bool:
        """Whether the picture was new to the album."""
        with await asyncio.to_thread(_open_file, path) as file:
            digest = await asyncio.to_thread(self._digest, file)
            if await self._uploader.find(digest) is not None:
                return False
            file.seek(0)
            async with self._uploader.arriving() as arriving:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await arriving.write(chunk)
                _, is_new = await self._uploader.add(arriving, UploadFields(tags=tags))
                return is_new

    def _digest(self, file: BufferedReader) -> bytes:
        """The SHA-256 of what may be a picture; raises NotAPicture, PictureTooLarge."""
        limit_bytes = self._uploader.backend.limits.max_bytes
        if os.fstat(file.fileno()).st_size > limit_bytes:
            raise PictureTooLarge(limit_bytes)
        if detect_format(file.read(MAGIC_BYTES)) is None:
            raise NotAPicture
        file.seek(0)
        return hashlib.file_digest(file, hashlib.sha256).digest()

    def _tags(self, path: Path, folder: Path) -> list[str]:
        """The names of the folders between, those that can be tags."""
        tags = []
        for name in path.relative_to(folder).parts[:-1] if self._tags_from_folders else ():
            with suppress(InvalidTag):
                tags.append(parse_tag(name, self._uploader.album_id))
        return list(dict.fromkeys(tags))[:MAX_TAGS]


def _open_file(path: Path) -> BufferedReader:
    """The file, open for reading; a pipe or a device is none, and would never end."""
    if not path.is_file():
        raise OSError(None, "Not a file")
    return path.open("rb")
