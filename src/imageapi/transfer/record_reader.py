"""Reads the records of a file into lines for COPY, at two speeds.

The fast way decodes an element and validates it. It accepts some texts that no record may have, for
example a key that stands twice. So the record it makes is compared with the element's text, and an
element that may contain such a text is read again with all checks. The second way also says which
field is wrong, and why.
"""

import codecs
from collections.abc import Iterable, Iterator

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.records.image import Image
from imageapi.records.parse import MAX_JSON_DEPTH, InvalidRecord, parse_record
from imageapi.transfer.json_array import Element, UnreadableArray, decode_strictly, read_array

#: So many characters of records make one batch of lines.
BATCH_CHARACTERS = 4 * 1024**2

#: Texts that a record must not have, or that may stand for a value that it must not have. Pydantic
#: writes half of a surrogate pair as U+FFFD in some keys, and raises an error everywhere else.
_SUSPECT_TEXTS = ("\\u0000", "NaN", "Infinity", "\ufffd")


class RecordRefused(Exception):
    """A record of the file is refused: ``str()`` says why, ``index`` is its number, from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class RecordReader:
    """Reads JSON arrays of records into the lines that are copied into the database.

    Where ``album_id`` is not None, records of other albums are refused.
    """

    def __init__(self, serializer: RecordSerializer, album_id: str | None) -> None:
        self._serializer = serializer
        self._album_id = album_id

    def read(self, chunks: Iterable[bytes]) -> Iterator[CopyLines]:
        """Yield the lines of a file's records, in batches; raise RecordRefused.

        At most one batch, one element and one chunk are in memory at a time.
        """
        batch: list[NewImage] = []
        characters = 0
        for image in self._read_images(chunks):
            batch.append(image)
            characters += len(image.record)
            if characters >= BATCH_CHARACTERS:
                yield format_lines(batch)
                batch, characters = [], 0
        if batch:
            yield format_lines(batch)

    def _read_images(self, chunks: Iterable[bytes]) -> Iterator[NewImage]:
        index = 0
        try:
            for element in read_array(_decode_utf8(chunks)):
                yield self._read_fast(element) or self._read_strictly(element)
                index += 1
        except InvalidRecord as error:
            raise RecordRefused(index, str(error)) from error
        except UnreadableArray as error:
            raise RecordRefused(error.index, str(error)) from error
        except UnicodeDecodeError as error:
            raise RecordRefused(index, "is not UTF-8") from error

    def _read_fast(self, element: Element) -> NewImage | None:
        """Return the image, or None where `_read_strictly` might return another, or refuse it."""
        try:
            image = self._build(Image.model_validate(element.value))
        except ValueError:
            return None
        return image if _is_same(image.record, element.text) else None

    def _read_strictly(self, element: Element) -> NewImage:
        """Return the image; raise InvalidRecord, UnreadableArray."""
        value, is_plain = decode_strictly(element)
        return self._build(parse_record(value, is_plain=is_plain))

    def _build(self, image: Image) -> NewImage:
        if self._album_id not in (None, image.album_id):
            raise InvalidRecord("album_id", f"must be {self._album_id}, the album asked for")
        return build_new_image(image, self._serializer)


def build_new_image(image: Image, serializer: RecordSerializer) -> NewImage:
    """Return the row to add for an image: its record, and the columns it is searched by."""
    columns = serializer.build_columns(image, asset_key=None)
    return NewImage(image.album_id, image.public_id, image.created_at, *columns)


def _is_same(record: str, text: str) -> bool:
    """Return whether the record certainly has all of the element's text, and nothing invalid.

    Where a key stands twice, one of the two is lost, and the record has fewer quotation marks than
    the text. Escaped ones, which the record has unescaped, could make up for the difference.
    """
    return (
        record.count('"') == text.count('"')
        and "\\u0022" not in text
        and not any(suspect in record for suspect in _SUSPECT_TEXTS)
        and record.count("{") + record.count("[") <= MAX_JSON_DEPTH
    )


def _decode_utf8(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of the chunks, also what is before an error; raise UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for chunk in chunks:
            # Part of a character at a chunk's end is decoded with the next chunk.
            if text := decoder.decode(chunk):
                yield text
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # With the text before it the number of the record with the error is exact.
        if text := error.object[: error.start].decode():
            yield text
        raise
