"""Records in the documented shape, from files into the database, all or nothing."""

import codecs
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import IO
from uuid import UUID

from imageapi.albums.rendering import Rendering
from imageapi.database.engine import Database
from imageapi.database.errors import RecordTwice
from imageapi.database.transfers import Added, NewImage, add_images
from imageapi.records.image import Image
from imageapi.records.reading import UnfitRecord, read_record
from imageapi.transfer.json_array import Element, UnreadableArray, read_array

CHUNK_BYTES = 64 * 1024

#: Called with the number of bytes read since it was last called.
Progressed = Callable[[int], object]


class ImportRefused(Exception):
    """Nothing was changed; ``str()`` is one line that names file, record and field."""


class Importer:
    """Reads files of records, remembering where it is, so that a refusal can say where."""

    def __init__(self, rendering: Rendering, album_id: str | None, progress: Progressed) -> None:
        self._rendering = rendering
        self._album_id = album_id
        self._progress = progress
        self._starts: list[tuple[int, str]] = []
        self._count = 0

    async def run(self, database: Database, sources: Iterable[tuple[str, IO[bytes]]]) -> Added:
        """Add the records of every source, given as name and open file; raise ImportRefused."""
        try:
            return await add_images(database, self._images(sources), self._rendering.name)
        except RecordTwice as error:
            first, second = self._place(error.first), self._place(error.second)
            raise ImportRefused(f"{second}: public_id: is that of {first} too") from error

    async def _images(self, sources: Iterable[tuple[str, IO[bytes]]]) -> AsyncIterator[NewImage]:
        for name, file in sources:
            self._starts.append((self._count, name))
            for image in self._images_of(name, file):
                yield image
                self._count += 1

    def _images_of(self, name: str, file: IO[bytes]) -> Iterator[NewImage]:
        try:
            for element in read_array(self._chunks(file)):
                yield self._image(element)
        except UnfitRecord as error:
            raise ImportRefused(f"{self._place(self._count)}: {error}") from error
        except UnreadableArray as error:
            raise ImportRefused(f"{name}: record {error.index}: {error}") from error
        except UnicodeDecodeError as error:
            raise ImportRefused(f"{self._place(self._count)}: is not UTF-8") from error
        except OSError as error:
            raise ImportRefused(f"{name}: {error.strerror or 'cannot be read'}") from error

    def _image(self, element: Element) -> NewImage:
        image = read_record(element.value, is_plain=element.is_plain)
        if self._album_id is not None and image.album_id != self._album_id:
            raise UnfitRecord("album_id", f"must be {self._album_id}, the album asked for")
        return new_image(image, self._rendering)

    def _chunks(self, file: IO[bytes]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        while chunk := file.read(CHUNK_BYTES):
            # Half a character at a chunk's end waits for its other half.
            if text := decoder.decode(chunk):
                yield text
            self._progress(len(chunk))
        decoder.decode(b"", final=True)

    def _place(self, index: int) -> str:
        """File and record of the image that came as number ``index`` over all files."""
        start, name = next(each for each in reversed(self._starts) if each[0] <= index)
        return f"{name}: record {index - start}"


def new_image(image: Image, rendering: Rendering) -> NewImage:
    """The image as it is added: its record, and what it is searched by."""
    return NewImage(
        image.album_id,
        UUID(image.public_id),
        image.created_at,
        image.tags,
        rendering.text(image, None),
        image.infos.format,
        image.gps,
    )


def open_source(path: Path) -> IO[bytes]:
    """The file, open for reading; raises ImportRefused in one line."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ImportRefused(f"{path}: {error.strerror or 'cannot be read'}") from error
