"""EXIF data for tests: byte by byte as Pillow would not write it, and as it does."""

import io
import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from imageapi.imaging.exif import Exif

NOWHERE = IFDRational(0, 0)
LISBON = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (IFDRational(38), IFDRational(42), IFDRational(4950, 100)),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (IFDRational(9), IFDRational(8), IFDRational(2160, 100)),
}

SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type; of all others one."""


class Stored(NamedTuple):
    """A value as it is stored: the number of its type, its bytes, and how many there are."""

    type: int
    content: bytes
    count: int | None = None


def exif_block(
    ifd0: Mapping[int, Any] | None = None,
    camera: Mapping[int, Any] | None = None,
    gps: Mapping[int, Any] | None = None,
    order: str = "<",
    *,
    big: bool = False,
) -> bytes:
    """A block of these directories; a value is `Stored`, or gets the type that fits it."""
    first = 16 if big else 8
    mark = b"II" if order == "<" else b"MM"
    numbers = (43, 8, 0, first) if big else (42, first)
    head = mark + struct.pack(f"{order}{'HHHQ' if big else 'HL'}", *numbers)
    children = {IFD.Exif: camera, IFD.GPSInfo: gps}
    pointers = {tag: 0 for tag, child in children.items() if child is not None}
    fields = dict(ifd0 or {})
    start, body = first + len(_directory({**fields, **pointers}, 0, order, big)), b""
    for tag in pointers:
        pointers[tag] = start + len(body)
        body += _directory(children[tag] or {}, start + len(body), order, big)
    return head + _directory({**fields, **pointers}, first, order, big) + body


def tiff_file(
    pixels: bytes,
    size: tuple[int, int],
    samples: tuple[int, int, int],
    ifd0: Mapping[int, Any] | None = None,
    gps: Mapping[int, Any] | None = None,
    order: str = "<",
    *,
    big: bool = False,
) -> bytes:
    """A TIFF of one strip; samples are how many there are, their bits, and their SampleFormat."""
    number, bits, format_ = samples
    width, height = size

    def shorts(*values: int) -> Stored:
        return Stored(3, struct.pack(f"{order}{len(values)}H", *values))

    fields = {
        256: shorts(width),
        257: shorts(height),
        258: shorts(*[bits] * number),
        259: shorts(1),
        262: shorts(2 if number == 3 else 1),
        273: 0,
        277: shorts(number),
        278: shorts(height),
        279: len(pixels),
        339: shorts(*[format_] * number),
        **(ifd0 or {}),
    }
    fields = dict(sorted(fields.items()))
    fields[273] = len(exif_block(fields, None, gps, order, big=big))
    return exif_block(fields, None, gps, order, big=big) + pixels


def _directory(fields: Mapping[int, Any], start: int, order: str, big: bool) -> bytes:
    count_code, code, room = ("Q", "HHQ8s", 8) if big else ("H", "HHL4s", 4)
    entry = struct.Struct(f"{order}{code}")
    entries, values = b"", b""
    after = start + struct.calcsize(f"<{count_code}") + entry.size * len(fields) + room
    for tag, value in fields.items():
        type_, content, count = value if isinstance(value, Stored) else stored(value, order)
        if count is None:
            count = len(content) // SIZES.get(type_, 1)
        inline = content.ljust(room, b"\0")
        if len(content) > room:
            inline = struct.pack(f"{order}{'Q' if big else 'L'}", after + len(values))
            values += content
        entries += entry.pack(tag, type_, count, inline)
    return struct.pack(f"{order}{count_code}", len(fields)) + entries + bytes(room) + values


def stored(value: Any, order: str = "<") -> Stored:
    """Text is ASCII, bytes are UNDEFINED, numbers LONG, LONG8, SLONG, DOUBLE or a rational."""
    if isinstance(value, bytes):
        return Stored(7, value)
    if isinstance(value, str):
        return Stored(2, value.encode(errors="surrogatepass") + b"\0")
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    if any(isinstance(number, float) for number in numbers):
        return Stored(12, struct.pack(f"{order}{len(numbers)}d", *map(float, numbers)))
    if any(isinstance(number, IFDRational | Fraction) for number in numbers):
        pairs = [part for number in numbers for part in _pair(number)]
        type_, code = (10, "l") if min(pairs) < 0 else (5, "L")
        return Stored(type_, struct.pack(f"{order}{len(pairs)}{code}", *pairs))
    type_, code = 4, "L"
    if max(numbers, default=0) >= 2**32:
        type_, code = 16, "Q"
    elif min(numbers, default=0) < 0:
        type_, code = 9, "l"
    return Stored(type_, struct.pack(f"{order}{len(numbers)}{code}", *numbers))


def _pair(number: Any) -> tuple[int, int]:
    if isinstance(number, IFDRational) and math.isnan(number):
        return int(number.numerator), 0
    return int(number.numerator), int(number.denominator)


def exif_of(
    ifd0: dict[int, Any] | None = None,
    camera: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    order: str = "<",
) -> Exif:
    return Exif.parse(exif_block(ifd0, camera, gps, order))


def through_jpeg(exif: Image.Exif) -> Exif:
    """What is read from a photograph that Pillow wrote this into."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    with Image.open(file) as image:
        return Exif.parse(image.info["exif"])


def by_pillow(
    ifd0: dict[int, Any] | None = None,
    camera: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
) -> Image.Exif:
    exif = Image.Exif()
    exif.update(ifd0 or {})
    exif.get_ifd(IFD.Exif).update(camera or {})
    exif.get_ifd(IFD.GPSInfo).update(gps or {})
    return exif


def photograph() -> Image.Exif:
    return by_pillow(
        {Base.Make: "NIKON", Base.Orientation: 6, Base.XResolution: IFDRational(300)},
        {
            Base.ExposureTime: IFDRational(1, 4),
            Base.DateTimeOriginal: "2016:02:15 13:02:58",
            Base.LensSpecification: (IFDRational(24), IFDRational(70), NOWHERE, NOWHERE),
            Base.ExifVersion: b"0232",
            Base.FlashPixVersion: b"0100",
            Base.UserComment: b"ASCII\0\0\0a comment   \0",
            Base.MakerNote: b"Nikon\0\2",
            Base.FileSource: b"\3",
        },
        {GPS.GPSVersionID: b"\2\3\0\0", GPS.GPSAltitudeRef: b"\1", **LISBON},
    )
