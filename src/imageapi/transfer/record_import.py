"""Records in the documented shape, from files into the database, all or nothing."""

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
from imageapi.transfer.parts import parts
from imageapi.transfer.readers import ReaderDied, Readers
from imageapi.transfer.record_reader import InvalidPart, Reader

CHUNK_BYTES = 256 * 1024

#: Called with the number of bytes read since it was last called.
ReportProgress = Callable[[int], object]


class ImportRefused(Exception):
    """Nothing was changed; ``str()`` is one line that names file, record and field."""


class Importer:
    """Reads files of records, remembering where it is, so that a refusal can say where."""

    def __init__(
        self, serializer: RecordSerializer, album_id: str | None, progress: ReportProgress
    ) -> None:
        self._serializer = serializer
        self._album_id = album_id
        self._progress = progress
        self._starts: list[tuple[int, str]] = []
        self._count = 0

    async def run(
        self, database: Database, sources: Iterable[tuple[str, IO[bytes]]]
    ) -> ImportResult:
        """Add the records of every source, given as name and open file; raise ImportRefused."""
        readers = Readers(Reader(self._serializer, self._album_id))
        try:
            async with aclosing(self._lines(readers, sources)) as lines:
                return await add_images(database, lines, self._serializer.name)
        except DuplicateRecord as error:
            first, second = self._place(error.first), self._place(error.second)
            raise ImportRefused(f"{second}: public_id: is that of {first} too") from error
        finally:
            await readers.close()

    async def _lines(
        self, readers: Readers, sources: Iterable[tuple[str, IO[bytes]]]
    ) -> AsyncGenerator[CopyLines]:
        for name, file in sources:
            self._starts.append((self._count, name))
            try:
                async with aclosing(readers.read(parts(self._chunks(file)))) as each:
                    async for lines in each:
                        yield lines
                        self._count += lines.count
            except InvalidPart as error:
                place = self._place(self._count + error.index)
                raise ImportRefused(f"{place}: {error}") from error
            except ReaderDied as error:
                raise ImportRefused(f"{name}: the process that read it was ended") from error
            except OSError as error:
                raise ImportRefused(f"{name}: {error.strerror or 'cannot be read'}") from error

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            self._progress(len(chunk))

    def _place(self, index: int) -> str:
        """File and record of the image that came as number ``index`` over all files."""
        start, name = next(each for each in reversed(self._starts) if each[0] <= index)
        return f"{name}: record {index - start}"


def open_source(path: Path) -> IO[bytes]:
    """The file, or standard input for ``-``, open for reading; raises ImportRefused in one line.

    What comes through a pipe is read to its end first: an import holds its albums, and must not
    wait for whoever writes.
    """
    if str(path) == "-" and sys.stdin is None:
        raise ImportRefused("standard input: is closed")
    try:
        file = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        return file if S_ISREG(os.fstat(file.fileno()).st_mode) else _read_to_temporary_file(file)
    except OSError as error:
        raise ImportRefused(f"{path}: {error.strerror or 'cannot be read'}") from error


def _read_to_temporary_file(file: IO[bytes]) -> IO[bytes]:
    with file:
        whole = TemporaryFile()  # noqa: SIM115  # the caller's
        shutil.copyfileobj(file, whole, CHUNK_BYTES)
    whole.seek(0)
    return whole
