"""Reads EXIF data (EXIF 3.0 §4.6) as JSON values.

The data comes from strangers. A tag that cannot be read is left out; no error is raised.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from PIL.ExifTags import GPSTAGS, IFD, TAGS, Base

from imageapi.imaging.exif_text import (
    MAX_TEXT_BYTES,
    decode_coded_text,
    decode_copyright,
    decode_text,
    decode_windows_text,
)
from imageapi.imaging.tiff_directory import (
    ASCII,
    BYTE,
    BYTE_TYPES,
    UNDEFINED,
    UTF_8,
    Content,
    Field,
    TiffBlock,
)

MAX_LIST_VALUES = 256
MAX_EXIF_JSON_BYTES = 64 * 1024

#: The tags of EXIF 3.0 (§4.6.5) that Pillow does not know.
_TAG_NAMES: Mapping[int, str] = TAGS | {
    0xA436: "ImageTitle",
    0xA437: "Photographer",
    0xA438: "ImageEditor",
    0xA439: "CameraFirmware",
    0xA43A: "RAWDevelopingSoftware",
    0xA43B: "ImageEditingSoftware",
    0xA43C: "MetadataEditingSoftware",
}

# Offsets of other data in the file, and blocks of other standards.
_EXCLUDED_NAMES = {
    "AsShotICCProfile",
    "CurrentICCProfile",
    "ExifInteroperabilityOffset",
    "ExifOffset",
    "GPSInfo",
    "IPTCNAA",
    "ImageResources",
    "InterColorProfile",
    "JpegIFByteCount",
    "JpegIFOffset",
    "MakerNote",
    "PrintImageMatching",
    "SubIFDs",
    "XMLPacket",
}
_VERSIONS = {"ExifVersion", "FlashPixVersion"}
_CODED_TEXTS = {"UserComment", "GPSProcessingMethod", "GPSAreaInformation"}
_WINDOWS_TEXTS = {"XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"}
_BYTE_NUMBERS = {"GPSVersionID", "GPSAltitudeRef", "Orientation"}
#: Texts that some writers store as UNDEFINED or BYTE.
_TEXTS = {
    "Artist",
    "DateTime",
    "DateTimeDigitized",
    "DateTimeOriginal",
    "GPSDateStamp",
    "GPSDestBearingRef",
    "GPSDestDistanceRef",
    "GPSDestLatitudeRef",
    "GPSDestLongitudeRef",
    "GPSImgDirectionRef",
    "GPSLatitudeRef",
    "GPSLongitudeRef",
    "GPSMapDatum",
    "GPSMeasureMode",
    "GPSSatellites",
    "GPSSpeedRef",
    "GPSStatus",
    "GPSTrackRef",
    "ImageDescription",
    "LensMake",
    "LensModel",
    "Make",
    "Model",
    "OffsetTime",
    "OffsetTimeDigitized",
    "OffsetTimeOriginal",
    "Software",
    "SubsecTime",
    "SubsecTimeDigitized",
    "SubsecTimeOriginal",
}

_EXACT_IN_FLOAT = 2**53
_PREFIX = b"Exif\0\0"
_MAX_PREFIXES = 2
_MAX_NUMBER_BYTES = 8
_ORIENTATIONS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Exif:
    """The directories of EXIF data. Those that are missing or cannot be read are empty."""

    order: str
    """The byte order as `struct` has it: ``<`` or ``>``."""
    image: Mapping[int, Field]
    photo: Mapping[int, Field]
    gps: Mapping[int, Field]

    @classmethod
    def parse(cls, content: Content) -> Self:
        """Read a TIFF file, or the block of EXIF data in another file, which may have prefixes.

        Raises ValueError where it has no directory.
        """
        for _ in range(_MAX_PREFIXES):
            if content[: len(_PREFIX)] == _PREFIX:
                content = content[len(_PREFIX) :]
        block = TiffBlock.parse(content)
        image = block.read_directory(block.first_offset)
        photo = _read_child(block, image, IFD.Exif)
        gps = _read_child(block, image, IFD.GPSInfo) or _read_child(block, photo, IFD.GPSInfo)
        return cls(block.order, image, photo, gps)

    @property
    def orientation(self) -> int:
        """How the stored picture is turned and mirrored (EXIF 3.0 §4.6.5.1.6); 1 if not said.

        Of several numbers it is the first, as in libvips.
        """
        with suppress(KeyError, ValueError):
            numbers = self.image[Base.Orientation].read_numbers(_MAX_NUMBER_BYTES)
            if numbers and numbers[0] in _ORIENTATIONS:
                return int(numbers[0])
        return 1


def read_exif_values(exif: Exif) -> dict[str, object]:
    """Return names and JSON values of the readable tags of IFD0, the Exif IFD and the GPS IFD.

    They are in the order of the IFDs and of the tags' numbers; of two tags with the same name the
    first is returned. Binary values, blocks of other standards and tags without a known name are
    left out. It ends at the first tag that would make the JSON larger than MAX_EXIF_JSON_BYTES.
    """
    values: dict[str, object] = {}
    size_bytes = len("{}")
    for name, value in _iterate_named_values(exif):
        if name in values:
            continue
        # `dumps` escapes to ASCII, which is never shorter than UTF-8, so the limit holds for both.
        size_bytes += len(json.dumps({name: value}, allow_nan=False, separators=(",", ":"))) - 1
        if size_bytes > MAX_EXIF_JSON_BYTES:
            break
        values[name] = value
    return values


def _read_child(block: TiffBlock, parent: Mapping[int, Field], tag: int) -> Mapping[int, Field]:
    """Return the directory at the offset that the field of the tag has."""
    with suppress(KeyError, ValueError, OverflowError):
        (offset,) = parent[tag].read_numbers(_MAX_NUMBER_BYTES)
        return block.read_directory(int(offset))
    return {}


def _iterate_named_values(exif: Exif) -> Iterator[tuple[str, object]]:
    """Yield name and JSON value of every tag that can be read."""
    for names, directory in (
        (_TAG_NAMES, exif.image),
        (_TAG_NAMES, exif.photo),
        (GPSTAGS, exif.gps),
    ):
        for tag in sorted(names.keys() & directory.keys()):
            name = names[tag]
            if name in _EXCLUDED_NAMES:
                continue
            with suppress(ValueError):
                yield name, _to_json_value(name, directory[tag], exif.order)


def _to_json_value(name: str, field: Field, order: str) -> object:
    """Return the value as JSON has it.

    Raises ValueError for anything but text, numbers and short lists of numbers.
    """
    if not field.count:
        raise ValueError("empty")
    is_bytes = field.type in BYTE_TYPES or field.type == BYTE
    if is_bytes and name in _CODED_TEXTS:
        return decode_coded_text(field.read_start(MAX_TEXT_BYTES), order)
    if name in _WINDOWS_TEXTS and field.type != ASCII:
        return _decode_windows_text(field)
    if is_bytes and name == "Copyright":
        return decode_copyright(field.read_start(MAX_TEXT_BYTES))
    if field.type in (ASCII, UTF_8) or (is_bytes and name in _TEXTS):
        return decode_text(field.read_start(MAX_TEXT_BYTES))
    if field.type == UNDEFINED and name in _VERSIONS:
        return decode_text(field.read_start(MAX_TEXT_BYTES))
    if is_bytes and name not in _BYTE_NUMBERS:
        raise ValueError("binary")
    return _to_numbers(field)


def _decode_windows_text(field: Field) -> str:
    """Return the text of numbers of any type below 256. Raises ValueError for others."""
    if field.type in BYTE_TYPES or field.type == BYTE:
        return decode_windows_text(field.read_start(MAX_TEXT_BYTES))
    numbers = field.read_numbers(MAX_TEXT_BYTES)
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("no bytes")
    return decode_windows_text(bytes(map(int, numbers)))


def _to_numbers(field: Field) -> object:
    """Return the number, or the list of several. Raises ValueError for more than the limit."""
    if field.count > MAX_LIST_VALUES:
        raise ValueError(f"more than {MAX_LIST_VALUES} values")
    numbers = [_to_json_number(number) for number in field.read_numbers()]
    return numbers if len(numbers) > 1 else numbers[0]


def _to_json_number(number: float) -> float | None:
    """Return an int if the number is whole, None if it is not finite."""
    if isinstance(number, int):
        return number
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _EXACT_IN_FLOAT else number
