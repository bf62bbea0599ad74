"""Imports records in the documented shape from files into the database: all of them or none."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryFile
from typing import IO

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.bulk_import import ImportResult, add_images
from imageapi.database.copy_format import CopyLines
from imageapi.database.engine import Database
from imageapi.database.errors import DuplicateRecord
from imageapi.transfer.record_reader import RecordReader, RecordRefused

CHUNK_BYTES = 256 * 1024

#: Called with the number of bytes read since the last call, not in the event loop's thread.
ReportProgress = Callable[[int], object]


class ImportRefused(Exception):
    """Nothing was changed; ``str()`` is one line that names file, record and field."""


class Importer:
    """Imports files of records. It counts them, so that an error can name file and record."""

    def __init__(
        self, serializer: RecordSerializer, album_id: str | None, progress: ReportProgress
    ) -> None:
        self._serializer = serializer
        self._reader = RecordReader(serializer, album_id)
        self._progress = progress
        self._starts: list[tuple[int, str]] = []
        self._count = 0

    async def run(
        self, database: Database, sources: Iterable[tuple[str, IO[bytes]]]
    ) -> ImportResult:
        """Add the records of all sources, which are pairs of name and open file.

        Raises ImportRefused, DatabaseUnavailable; nothing is changed then.
        """
        try:
            async with aclosing(_read_ahead(self._read(sources))) as batches:
                return await add_images(database, batches, self._serializer.name)
        except DuplicateRecord as error:
            first, second = self._locate(error.first), self._locate(error.second)
            raise ImportRefused(f"{second}: public_id: is that of {first} too") from error

    def _read(self, sources: Iterable[tuple[str, IO[bytes]]]) -> Iterator[CopyLines]:
        for name, file in sources:
            self._starts.append((self._count, name))
            try:
                for lines in self._reader.read(self._read_chunks(file)):
                    self._count += lines.count
                    yield lines
            except RecordRefused as error:
                raise ImportRefused(f"{name}: record {error.index}: {error}") from error
            except OSError as error:
                raise ImportRefused(f"{name}: {error.strerror or 'cannot be read'}") from error

    def _read_chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            self._progress(len(chunk))

    def _locate(self, index: int) -> str:
        """Return file and record of the image that is number ``index`` of all files."""
        start, name = next(each for each in reversed(self._starts) if each[0] <= index)
        return f"{name}: record {index - start}"


async def _read_ahead(batches: Iterator[CopyLines]) -> AsyncGenerator[CopyLines]:
    """Yield the batches. A thread reads the next one while the caller uses the last one.

    Reading is Python's work and adding is PostgreSQL's, so both go on at the same time.
    """

    def start_next() -> asyncio.Task[CopyLines | None]:
        return asyncio.create_task(asyncio.to_thread(next, batches, None))

    upcoming = start_next()
    try:
        while (batch := await upcoming) is not None:
            upcoming = start_next()
            yield batch
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)  # its error is not wanted any more


def open_source(path: Path) -> IO[bytes]:
    """Open a file for reading, or standard input for ``-``; raise ImportRefused.

    A pipe is first read to its end into a temporary file. An import locks its albums, and must not
    wait for the program at the other end meanwhile.
    """
    if str(path) == "-" and sys.stdin is None:
        raise ImportRefused("standard input: is closed")
    try:
        file = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        return file if S_ISREG(os.fstat(file.fileno()).st_mode) else _copy_to_temporary_file(file)
    except OSError as error:
        raise ImportRefused(f"{path}: {error.strerror or 'cannot be read'}") from error


def _copy_to_temporary_file(file: IO[bytes]) -> IO[bytes]:
    with file:
        copy = TemporaryFile()  # noqa: SIM115 - the caller closes it
        shutil.copyfileobj(file, copy, CHUNK_BYTES)
    copy.seek(0)
    return copy
