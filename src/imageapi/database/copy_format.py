"""Formats images as lines of PostgreSQL's COPY. It needs no connection to the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

#: The columns of a line, in this order.
COLUMNS = (
    *("album_id", "public_id", "created_at", "tags", "record"),
    *("format", "latitude", "longitude"),
)


class NewImage(NamedTuple):
    """An image to be added.

    ``record`` is the JSON text that clients are sent. Latitude and longitude are in degrees, None
    where they are unknown.
    """

    album_id: str
    public_id: str
    created_at: datetime
    tags: Sequence[str]
    record: str
    format: str
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class CopyLines:
    """The lines of ``count`` images, in UTF-8."""

    count: int
    text: bytes


def format_lines(images: Iterable[NewImage]) -> CopyLines:
    """Return the images' lines.

    Raises ValueError where a text has a tab or a line end. No valid image has one: JSON escapes
    them, and tags must not contain them. So they are not escaped here, only counted.
    """
    lines = [_format_line(image) for image in images]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\t") != len(lines) * (len(COLUMNS) - 1):
        raise ValueError("a text of an image holds a control character")
    return CopyLines(len(lines), text.encode())


def _format_line(image: NewImage) -> str:
    album_id, public_id, created_at, tags, record, format_, latitude, longitude = image
    return (
        f"{album_id}\t{public_id}\t{created_at.isoformat()}\t"
        f"{_escape(_format_array(tags))}\t{_escape(record)}\t{format_}\t"
        f"{_format_number(latitude)}\t{_format_number(longitude)}\n"
    )


def _format_number(number: float | None) -> str:
    return "\\N" if number is None else str(number)


def _format_array(texts: Sequence[str]) -> str:
    """Return the literal of a ``text[]``: PostgreSQL's manual, 8.15.2."""
    if not texts:
        return "{}"
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _escape(text: str) -> str:
    r"""Return the text with ``\`` doubled: PostgreSQL's manual, COPY, "Text Format"."""
    return text.replace("\\", "\\\\")
