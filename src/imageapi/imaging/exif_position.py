"""Reads the position in EXIF data (EXIF 3.0 §4.6.6)."""

import math
from contextlib import suppress

from PIL.ExifTags import GPS

from imageapi.imaging.exif import Exif
from imageapi.imaging.tiff_directory import BYTE, BYTE_TYPES, RATIONAL, SRATIONAL, Field
from imageapi.records.positions import MAX_LATITUDE, MAX_LONGITUDE

#: Degrees, minutes and seconds are at most these; the hemisphere limits degrees. 60 is what
#: writers make of 59.999 when they round.
_PART_LIMITS = (math.inf, 60, 60)
_MAX_REF_BYTES = 16


def read_exif_position(exif: Exif) -> list[float] | None:
    """Return [latitude, longitude] in degrees, north and east positive.

    Return None where either is missing, has no hemisphere or is out of range, and where both are
    exactly 0, which is what cameras write that have not found their position.
    """
    gps = exif.gps
    with suppress(KeyError, ValueError):
        latitude = _to_degrees(gps[GPS.GPSLatitude], gps[GPS.GPSLatitudeRef], b"NS", MAX_LATITUDE)
        longitude = _to_degrees(
            gps[GPS.GPSLongitude], gps[GPS.GPSLongitudeRef], b"EW", MAX_LONGITUDE
        )
        if latitude or longitude:
            return [latitude, longitude]
    return None


def _to_degrees(angle: Field, ref: Field, hemispheres: bytes, limit: int) -> float:
    """Return degrees, minutes and seconds as one number of degrees, negative for south and west.

    Raises ValueError where they are no angle of at most ``limit`` degrees, or where a sign
    contradicts the hemisphere.
    """
    parts = _read_parts(angle)
    is_opposite = _read_hemisphere(ref, hemispheres) == hemispheres[1:]
    is_negative = next((part < 0 for part in parts if part), False)
    if is_negative and not is_opposite:
        # Either may be wrong, and the two places are far apart. exiftool drops the sign, of the
        # degrees only: it reads -48° 51' north as 47° 9' north.
        raise ValueError("the sign contradicts the hemisphere")
    if not is_negative and any(part < 0 for part in parts):
        raise ValueError("signs contradict each other")
    sizes = [abs(part) for part in parts]
    degrees = math.fsum(size / 60**place for place, size in enumerate(sizes))
    in_range = all(size <= end for size, end in zip(sizes, _PART_LIMITS, strict=False))
    if not in_range or degrees > limit:
        raise ValueError("out of range")
    # Not -degrees: 0 degrees south is 0.0, not -0.0.
    return 0.0 - degrees if is_opposite else degrees


def _read_hemisphere(ref: Field, hemispheres: bytes) -> bytes:
    """Return the letter of the hemisphere, whatever blanks, NULs and letters are around it.

    Raises ValueError where it is none of ``hemispheres``.
    """
    if ref.type not in BYTE_TYPES and ref.type != BYTE:
        raise ValueError("no text")
    letter = ref.read_start(_MAX_REF_BYTES).lstrip(b" \0")[:1].upper()
    if not letter or letter not in hemispheres:
        raise ValueError(f"not in {hemispheres!r}")
    return letter


def _read_parts(angle: Field) -> list[float]:
    """Return the finite numbers of the angle; minutes and seconds of 0/0 are 0, as not given.

    Raises ValueError where they are not one to three finite numbers.
    """
    if angle.type in BYTE_TYPES or angle.type == BYTE or angle.count > len(_PART_LIMITS):
        raise ValueError("neither degrees, nor with minutes, nor with seconds")
    degrees, *rest = map(float, angle.read_numbers() or (math.nan,))
    if angle.type in (RATIONAL, SRATIONAL):
        rest = [0.0 if math.isnan(part) else part for part in rest]
    if not all(map(math.isfinite, (degrees, *rest))):
        raise ValueError("not finite")
    return [degrees, *rest]
