"""Reads EXIF data (EXIF 3.0 §4.6) as JSON values, and the position in it.

The data comes from strangers. A tag that cannot be read is left out; no error is raised.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from numbers import Real

from PIL.ExifTags import GPS, GPSTAGS, IFD, TAGS
from PIL.Image import Exif

from imageapi.records.positions import MAX_LATITUDE, MAX_LONGITUDE

MAX_TEXT_CHARACTERS = 4096
MAX_LIST_VALUES = 256
MAX_EXIF_JSON_BYTES = 64 * 1024

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
_BYTE_NUMBERS = {"GPSVersionID", "GPSAltitudeRef"}  # of type BYTE; Pillow returns bytes

_SURROGATES = range(0xD800, 0xE000)
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
_UNWANTED = dict.fromkeys({*_SURROGATES, *_CONTROLS})
_INTEGERS = range(-(2**63), 2**64)
_EXACT_IN_FLOAT = 2**53
#: Degrees, minutes and seconds must be less than these; the hemisphere limits degrees.
_PART_LIMITS = (math.inf, 60, 60)


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


def read_exif_position(exif: Exif) -> list[float] | None:
    """Return [latitude, longitude] in degrees, north and east positive (EXIF 3.0 §4.6.6).

    Return None where either is missing, has no hemisphere or is out of range, and where both are
    exactly 0, which is what cameras write that have not found their position.
    """
    with suppress(Exception):
        gps = exif.get_ifd(IFD.GPSInfo)
        latitude = _to_degrees(
            gps[GPS.GPSLatitude], gps[GPS.GPSLatitudeRef], ("N", "S"), MAX_LATITUDE
        )
        longitude = _to_degrees(
            gps[GPS.GPSLongitude], gps[GPS.GPSLongitudeRef], ("E", "W"), MAX_LONGITUDE
        )
        if latitude or longitude:
            return [latitude, longitude]
    return None


def _iterate_named_values(exif: Exif) -> Iterator[tuple[str, object]]:
    """Yield name and JSON value of every tag that can be read."""
    utf_16 = ("utf-16-le", "utf-16-be") if exif.endian == "<" else ("utf-16-be", "utf-16-le")
    for names, ifd in (
        (TAGS, exif),
        (TAGS, _get_ifd(exif, IFD.Exif)),
        (GPSTAGS, _get_ifd(exif, IFD.GPSInfo)),
    ):
        for tag in sorted(names.keys() & ifd.keys()):
            name = names[tag]
            if name in _EXCLUDED_NAMES:
                continue
            with suppress(Exception):
                yield name, _to_json_value(name, ifd[tag], utf_16)


def _get_ifd(exif: Exif, tag: int) -> Mapping[int, object]:
    with suppress(Exception):
        return exif.get_ifd(tag)
    return {}


def _to_json_value(name: str, value: object, utf_16: tuple[str, str]) -> object:
    """Return the value as JSON has it.

    Raises TypeError or ValueError for anything but text, numbers and short lists of them.
    """
    if isinstance(value, bytes) and name in _BYTE_NUMBERS:
        value = value[0] if len(value) == 1 else tuple(value)
    if isinstance(value, bytes | tuple | list) and name in _WINDOWS_TEXTS:
        return _clean_text(bytes(value).decode("utf-16-le", "ignore"))
    if isinstance(value, bytes):
        return _decode_bytes(name, value, utf_16)
    if isinstance(value, tuple | list):
        if len(value) > MAX_LIST_VALUES:
            raise ValueError(f"more than {MAX_LIST_VALUES} values")
        return [_to_text_or_number(part) for part in value]
    return _to_text_or_number(value)


def _decode_bytes(name: str, value: bytes, utf_16: tuple[str, str]) -> str:
    if name in _VERSIONS:
        return _clean_text(value.decode("ascii"))
    if name in _CODED_TEXTS:
        return _decode_coded_text(value, utf_16)
    raise TypeError("binary")


def _decode_coded_text(value: bytes, utf_16: tuple[str, str]) -> str:
    """Return the text behind its eight bytes of character code (EXIF 3.0 §4.6.5, UserComment).

    UNICODE is UTF-16, in the byte order of its mark or else of the file. Some cameras write the
    other order, so that is tried where the file's order gives no valid text. Raises ValueError for
    other codes.
    """
    code, text = value[:8].rstrip(b"\0 ").upper(), value[8:]
    if code == b"ASCII":
        return _repair_text(text.decode("latin-1"))
    if code == b"UNICODE":
        has_mark = text.startswith((b"\xff\xfe", b"\xfe\xff"))
        for codec in ("utf-16",) if has_mark else utf_16:
            with suppress(UnicodeDecodeError):
                return _clean_text(text[: len(text) // 2 * 2].decode(codec))
    raise ValueError("no known character code")


def _to_text_or_number(value: object) -> str | float | None:
    if isinstance(value, str):
        return _repair_text(value)
    if isinstance(value, int | Real):
        return _to_number(value)
    raise TypeError("neither text nor number")


def _repair_text(text: str) -> str:
    """Return the text decoded as UTF-8 if its bytes are valid: Pillow decodes all as Latin-1."""
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode()
    return _clean_text(text)


def _clean_text(text: str) -> str:
    """Remove control characters and surrogates, cut the text, and remove spaces at its end."""
    return text.translate(_UNWANTED)[:MAX_TEXT_CHARACTERS].rstrip(" ")


def _to_number(value: int | Real) -> float | None:
    """Return an int if the number is whole, None if it is not finite.

    Raises OverflowError for integers beyond 64 bits.
    """
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise OverflowError(f"not in {_INTEGERS}")
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _EXACT_IN_FLOAT else number


def _to_degrees(value: object, ref: object, hemispheres: tuple[str, str], limit: int) -> float:
    """Return degrees, minutes and seconds as one number of degrees, negative for south and west.

    Raises ValueError where they are no angle of at most ``limit`` degrees.
    """
    hemisphere = ref[:1].upper() if isinstance(ref, str) else None
    if hemisphere not in hemispheres:
        raise ValueError(f"not in {hemispheres}")
    parts = value if isinstance(value, tuple | list) else (value,)
    if not 1 <= len(parts) <= len(_PART_LIMITS):
        raise ValueError("neither degrees, nor with minutes, nor with seconds")
    numbers = [float(part) for part in parts if isinstance(part, int | Real)]
    in_range = [0 <= number < end for number, end in zip(numbers, _PART_LIMITS, strict=False)]
    degrees = sum((number / 60**place for place, number in enumerate(numbers)), 0.0)
    if len(numbers) < len(parts) or not all(in_range) or degrees > limit:
        raise ValueError("out of range")
    # Not -degrees: 0 degrees south is 0.0, not -0.0.
    return 0.0 - degrees if hemisphere == hemispheres[1] else degrees
