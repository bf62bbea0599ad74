"""Reads the directories (IFDs) of TIFF 6.0, BigTIFF and EXIF blocks, of both byte orders.

The data comes from strangers: directories, fields and bytes have limits, and a field is read only
when its values are asked for.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

MAX_DIRECTORIES = 1024
MAX_FIELDS = 4096
MAX_FIELD_BYTES = 4 * 1024**2
"""Enough for the offsets of a million strips."""

BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG, SRATIONAL = range(1, 11)
FLOAT, DOUBLE, IFD = range(11, 14)
LONG8, SLONG8, IFD8 = range(16, 19)
UTF_8 = 129
"""A type of EXIF 3.0 (§4.6.2); all others are those of TIFF 6.0 and BigTIFF."""

Content = bytes | mmap.mmap

#: How `struct` reads a number of each type. Rationals are pairs.
_NUMBER_CODES = {
    BYTE: "B",
    SHORT: "H",
    LONG: "L",
    RATIONAL: "L",
    SBYTE: "b",
    SSHORT: "h",
    SLONG: "l",
    SRATIONAL: "l",
    FLOAT: "f",
    DOUBLE: "d",
    IFD: "L",
    LONG8: "Q",
    SLONG8: "q",
    IFD8: "Q",
}
_PAIR_TYPES = (RATIONAL, SRATIONAL)
BYTE_TYPES = (ASCII, UNDEFINED, UTF_8)
_SIZES = dict.fromkeys(BYTE_TYPES, 1) | {
    type_: struct.calcsize(f"<{code}") * (2 if type_ in _PAIR_TYPES else 1)
    for type_, code in _NUMBER_CODES.items()
}
_MIN_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where numbers stand in a directory, as codes of `struct`."""

    count: str
    entry: str
    offset: str


_CLASSIC = _Layout(count="H", entry="HHL4s", offset="L")
_BIG = _Layout(count="Q", entry="HHQ8s", offset="Q")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a directory: its type, the number of its values, and how to read them."""

    tag: int
    type: int
    count: int
    _content: Content = field(repr=False)
    _order: str = field(repr=False)
    _inline: bytes = field(repr=False)

    def read_bytes(self, max_bytes: int = MAX_FIELD_BYTES) -> bytes:
        """Return the values as they are stored.

        Raises ValueError where the type is unknown, the values are longer than ``max_bytes``, or
        they do not lie in the file.
        """
        stored = self.read_start(max_bytes)
        if len(stored) < self.count * _SIZES[self.type]:
            raise ValueError(f"more than {max_bytes} bytes")
        return stored

    def read_start(self, max_bytes: int) -> bytes:
        """Return the first ``max_bytes`` of the stored values, or all if they are fewer.

        Raises ValueError where the type is unknown, or not all values lie in the file.
        """
        if self.type not in _SIZES:
            raise ValueError(f"unknown type {self.type}")
        size_bytes = self.count * _SIZES[self.type]
        if size_bytes <= len(self._inline):
            return self._inline[: min(size_bytes, max_bytes)]
        code = "L" if len(self._inline) == struct.calcsize("<L") else "Q"
        (offset,) = struct.unpack(f"{self._order}{code}", self._inline)
        if offset + size_bytes > len(self._content):
            raise ValueError("beyond the end of the file")
        return self._content[offset : offset + min(size_bytes, max_bytes)]

    def read_numbers(self, max_bytes: int = MAX_FIELD_BYTES) -> tuple[int | float, ...]:
        """Return the values as numbers. A rational is its quotient: infinite for 1/0, NaN for 0/0.

        ASCII, UNDEFINED and UTF-8 are numbers from 0 to 255. Raises ValueError as `read_bytes`.
        """
        stored = self.read_bytes(max_bytes)
        if self.type in BYTE_TYPES:
            return tuple(stored)
        code = _NUMBER_CODES[self.type]
        count = len(stored) // struct.calcsize(f"<{code}")
        numbers = struct.unpack(f"{self._order}{count}{code}", stored)
        if self.type in _PAIR_TYPES:
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            return tuple(_divide(above, below) for above, below in pairs)
        return numbers


class Directory(Mapping[int, Field]):
    """The fields of a directory by their tags. Of two fields with one tag it has the first."""

    def __init__(self, fields: Mapping[int, Field], next_offset: int) -> None:
        self._fields = fields
        self.next_offset = next_offset
        """Where the next directory of the chain is; 0 after the last one."""

    def __getitem__(self, tag: int) -> Field:
        return self._fields[tag]

    def __iter__(self) -> Iterator[int]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def read_numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int | float, ...]:
        """Return the numbers of a field, and ``default`` where it is missing or unreadable."""
        with suppress(KeyError, ValueError):
            return self._fields[tag].read_numbers()
        return default


@dataclass(frozen=True, slots=True)
class TiffBlock:
    """A TIFF file, or the block of EXIF data in another file."""

    order: str
    """The byte order as `struct` has it: ``<`` or ``>``."""
    first_offset: int
    _content: Content = field(repr=False)
    _layout: _Layout = field(repr=False)

    @classmethod
    def parse(cls, content: Content) -> Self:
        """Read the header. Raises ValueError where it is that of no TIFF."""
        order = {b"II": "<", b"MM": ">"}.get(content[:2])
        if order is None:
            raise ValueError("no byte order")
        # Some writers have the 42 in the other byte order than the rest.
        if content[2:4] in (b"*\0", b"\0*"):
            return cls(order, _read_number(content, 4, f"{order}L"), content, _CLASSIC)
        if content[2:8] == struct.pack(f"{order}HHH", 43, 8, 0):
            return cls(order, _read_number(content, 8, f"{order}Q"), content, _BIG)
        raise ValueError("neither TIFF nor BigTIFF")

    def read_directory(self, offset: int) -> Directory:
        """Return the directory at an offset; where it is cut, the fields that are there.

        At most MAX_FIELDS fields are read. Raises ValueError where there is no directory.
        """
        if offset < _MIN_HEADER_BYTES:
            raise ValueError("in the header")
        layout, order = self._layout, self.order
        count = _read_number(self._content, offset, f"{order}{layout.count}")
        start = offset + struct.calcsize(f"<{layout.count}")
        entry = struct.Struct(f"{order}{layout.entry}")
        end = start + min(count, MAX_FIELDS) * entry.size
        table = self._content[start:end]
        fields: dict[int, Field] = {}
        for at in range(0, len(table) - entry.size + 1, entry.size):
            tag, type_, values, inline = entry.unpack_from(table, at)
            fields.setdefault(tag, Field(tag, type_, values, self._content, order, inline))
        next_offset = 0
        with suppress(ValueError):
            end = start + count * entry.size
            next_offset = _read_number(self._content, end, f"{order}{layout.offset}")
        return Directory(fields, next_offset)

    def iterate_directories(self) -> Iterator[Directory]:
        """Yield the first directory and those that follow it, each once, at most MAX_DIRECTORIES.

        It ends at a directory that cannot be read.
        """
        offset, seen = self.first_offset, set[int]()
        while offset and offset not in seen and len(seen) < MAX_DIRECTORIES:
            seen.add(offset)
            try:
                directory = self.read_directory(offset)
            except ValueError:
                return
            yield directory
            offset = directory.next_offset


def _divide(above: int, below: int) -> float:
    if below:
        return above / below
    return math.copysign(math.inf, above) if above else math.nan


def _read(content: Content, offset: int, size_bytes: int) -> bytes:
    """Return the bytes at an offset. Raises ValueError where they are not all there."""
    if not 0 <= offset <= len(content) - size_bytes:
        raise ValueError("beyond the end of the file")
    return content[offset : offset + size_bytes]


def _read_number(content: Content, offset: int, code: str) -> int:
    number: int
    (number,) = struct.unpack(code, _read(content, offset, struct.calcsize(code)))
    return number
