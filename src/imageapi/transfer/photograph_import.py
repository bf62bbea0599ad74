"""Imports folders of photographs into an album. Each photograph is a change of its own.

Pictures that the album already has are skipped.
"""

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
#: More tasks than cores: while one reads and stores its file, others have theirs decoded.
TASKS_PER_CORE = 2


@dataclass(slots=True)
class PhotographImportResult:
    """Numbers of pictures added and already present; the files refused, each with the reason."""

    added: int = 0
    present: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)


def find_photographs(folders: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return each file below the folders, together with the folder it was found in, sorted.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    return sorted({file: folder for folder in folders for file in _iterate_files(folder)}.items())


def _iterate_files(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(path, name) for name in files if not name.startswith("."))


class PhotographImporter:
    """Adds photographs to an album.

    After an interruption a second run adds what is missing. ``progress`` is called after each file.
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
        self._result = PhotographImportResult()

    async def run(self, files: Iterable[tuple[Path, Path]]) -> PhotographImportResult:
        """Add the files, which are pairs of file and folder as `find_photographs` returns them.

        A file that cannot be read or is not a picture is listed in the result. Raises
        StoreUnavailable, DecodersBusy, DatabaseUnavailable.
        """
        remaining = iter(files)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(count_cores() * TASKS_PER_CORE):
                    tasks.create_task(self._add_files(remaining))
        except ExceptionGroup as group:
            # The first error ends all tasks. The command explains that one, and knows no groups.
            raise group.exceptions[0] from None
        self._result.refused.sort()
        return self._result

    async def _add_files(self, remaining: Iterator[tuple[Path, Path]]) -> None:
        for path, folder in remaining:
            try:
                is_new = await self._add_file(path, self._get_tags(path, folder))
                self._result.added += is_new
                self._result.present += not is_new
            except PictureError as error:
                self._result.refused.append((path, str(error)))
            except OSError as error:
                reason = error.strerror or "It cannot be read"
                self._result.refused.append((path, f"{reason}."))
            self._progress()

    async def _add_file(self, path: Path, tags: list[str]) -> bool:
        """Add the picture, and return whether it was new to the album.

        Raises PictureError, OSError, StoreUnavailable, DecodersBusy, DatabaseUnavailable.
        """
        with await asyncio.to_thread(_open_file, path) as file:
            digest = await asyncio.to_thread(self._compute_digest, file)
            if await self._uploader.find_by_digest(digest) is not None:
                return False
            file.seek(0)
            async with self._uploader.start_upload() as upload:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await upload.write(chunk)
                _, is_new = await self._uploader.add(upload, UploadFields(tags=tags))
                return is_new

    def _compute_digest(self, file: BufferedReader) -> bytes:
        """Return the SHA-256 of the file; raise NotAPicture, PictureTooLarge.

        Only size and first bytes are checked here: a file that passes may still be no picture.
        """
        limit_bytes = self._uploader.backend.limits.max_bytes
        if os.fstat(file.fileno()).st_size > limit_bytes:
            raise PictureTooLarge(limit_bytes)
        if detect_format(file.read(MAGIC_BYTES)) is None:
            raise NotAPicture
        file.seek(0)
        return hashlib.file_digest(file, hashlib.sha256).digest()

    def _get_tags(self, path: Path, folder: Path) -> list[str]:
        """Return the names of the folders between folder and file that are valid tags."""
        tags = []
        for name in path.relative_to(folder).parts[:-1] if self._tags_from_folders else ():
            with suppress(InvalidTag):
                tags.append(parse_tag(name, self._uploader.album_id))
        return list(dict.fromkeys(tags))[:MAX_TAGS]


def _open_file(path: Path) -> BufferedReader:
    """Open the file for reading; raise OSError.

    Pipes and devices are refused, because reading one might never end.
    """
    if not path.is_file():
        raise OSError(None, "Not a file")
    return path.open("rb")
