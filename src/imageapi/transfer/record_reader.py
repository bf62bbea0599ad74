"""Reads the records of a part, in a process of its own where there are many parts.

Nearly all records are read at once by Pydantic's own JSON parser. It takes what this service does
not, as a key that stands twice; so what it read is compared with the text, and a part that might
hold any of that is read again an element at a time, which also says what is wrong with it, and
where.
"""

import codecs
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import IO
from zoneinfo import ZoneInfo

from pydantic_core import from_json

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.records.image import Image
from imageapi.records.parse import MAX_JSON_DEPTH, InvalidRecord, parse_record
from imageapi.transfer.json_array import MAX_ELEMENT_CHARACTERS, UnreadableArray, read_array
from imageapi.workers.job_loop import Job, JobResult, run_job_loop

CHUNK_BYTES = 64 * 1024

#: Half of a surrogate pair is refused by Pydantic's parser itself.
_INVALID_TEXTS = ("\\u0000", "NaN", "Infinity")


class InvalidPart(Exception):
    """A record of the part cannot be taken: ``str()`` says why, ``index`` is its number, from 0.

    ``is_broken`` says that the text is no array: perhaps the part was cut in the wrong place.
    """

    def __init__(self, index: int, reason: str, *, is_broken: bool = False) -> None:
        super().__init__(reason)
        self.index = index
        self.is_broken = is_broken


class Reader:
    """Reads parts into the lines that are copied into the database.

    Records of another album than ``album_id``, if it is given, are refused.
    """

    def __init__(self, serializer: RecordSerializer, album_id: str | None) -> None:
        self._serializer = serializer
        self._album_id = album_id

    @property
    def arguments(self) -> list[str]:
        """What `main` makes the same reader of."""
        zone, sizes = self._serializer.time_zone.key, self._serializer.sizes
        return [json.dumps({"time_zone": zone, "sizes": dict(sizes), "album_id": self._album_id})]

    def read(self, part: bytes) -> CopyLines:
        """The lines of the part's records; raises InvalidPart."""
        images = self._at_once(part)
        return format_lines(self._one_by_one(part) if images is None else images)

    def _at_once(self, part: bytes) -> list[NewImage] | None:
        """The records, or None where that is not certain to be what `_one_by_one` says."""
        if len(part) > MAX_ELEMENT_CHARACTERS or b"\\u0022" in part:
            return None
        try:
            array = from_json(part, allow_inf_nan=False, cache_strings="keys")
            if not isinstance(array, list):
                return None
            images = [
                build_new_image(self._checked(Image.model_validate(element)), self._serializer)
                for element in array
            ]
        except ValueError:
            return None
        return images if _is_complete([image.record for image in images], part) else None

    def _one_by_one(self, part: bytes) -> Iterator[NewImage]:
        index = 0
        try:
            for element in read_array(_decode(BytesIO(part))):
                image = parse_record(element.value, is_plain=element.is_plain)
                yield build_new_image(self._checked(image), self._serializer)
                index += 1
        except InvalidRecord as error:
            raise InvalidPart(index, str(error)) from error
        except UnreadableArray as error:
            raise InvalidPart(error.index, str(error), is_broken=True) from error
        except UnicodeDecodeError as error:
            raise InvalidPart(index, "is not UTF-8") from error

    def _checked(self, image: Image) -> Image:
        if self._album_id not in (None, image.album_id):
            raise InvalidRecord("album_id", f"must be {self._album_id}, the album asked for")
        return image


def build_new_image(image: Image, serializer: RecordSerializer) -> NewImage:
    """The image as it is added: its record, and what it is searched by."""
    return NewImage(
        image.album_id,
        image.public_id,
        image.created_at,
        image.tags,
        serializer.text(image, None),
        image.infos.format,
        image.gps,
    )


def _is_complete(records: Sequence[str], part: bytes) -> bool:
    """Whether the records hold what the part does, and nothing that is unfit.

    A key that stands twice is read once: a text without it has fewer quotes.
    """
    text = "".join(records)
    return (
        text.count('"') == part.count(b'"')
        and not any(unfit in text for unfit in _INVALID_TEXTS)
        and all(each.count("{") + each.count("[") <= MAX_JSON_DEPTH for each in records)
    )


def _decode(file: IO[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while chunk := file.read(CHUNK_BYTES):
        # Half a character at a chunk's end waits for its other half.
        if text := decoder.decode(chunk):
            yield text
    decoder.decode(b"", final=True)


def main() -> None:
    """Read the parts that come in, as `readers` asks."""
    given = json.loads(sys.argv[1])
    serializer = RecordSerializer(ZoneInfo(given["time_zone"]), given["sizes"])
    reader = Reader(serializer, given["album_id"])

    def answer(_: Job, part: bytes) -> JobResult:
        try:
            lines = reader.read(part)
        except InvalidPart as unfit:
            reason = {"unfit": str(unfit), "index": unfit.index, "is_broken": unfit.is_broken}
            return reason, b""
        return {"count": lines.count}, lines.text

    gc.disable()  # thousands of records at once, none of which refers to itself
    run_job_loop(answer)


if __name__ == "__main__":
    main()
