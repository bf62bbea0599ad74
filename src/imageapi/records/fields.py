"""Types of the values in an image's record.

Each type either keeps a value as it was sent or refuses it; it does not convert.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

from imageapi.records.ids import ALBUM_ID, PUBLIC_ID
from imageapi.records.positions import MAX_LATITUDE, MAX_LONGITUDE, is_position
from imageapi.records.tag_text import build_tag_pattern, check_tag_text, normalize_tag_text

MAX_TAG_CHARACTERS = 100
MAX_TAGS = 100

_DATE = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:[Zz]|[+-][0-2]\d:[0-5]\d)", re.ASCII
)
FIRST_DATE = datetime(1970, 1, 1, tzinfo=UTC)
LAST_DATE = datetime(9999, 1, 1, tzinfo=UTC)
_MILLISECOND_DIGITS = 3
_ROTATIONS = (0, 90, 180, 270)
_SECONDS_CHARACTERS = len("2016-02-15T13:02:58")


def forbid_null(schema: dict[str, Any]) -> None:
    """Change the JSON schema of an optional field: the field is left out, never null."""
    (kind,) = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
    schema |= kind


def invalid_value(message: str) -> PydanticCustomError:
    """Return the error for a refused value. Readers see the field's name, then the message."""
    return PydanticCustomError("unfit", "{why}", {"why": message})


@dataclass(frozen=True, slots=True)
class PlainCheck:
    """Validate with a Python function only, and serialize without one.

    Pydantic's PlainValidator also calls Python for each value that it serializes, which is slower.
    """

    check: Callable[[object], object]

    def __get_pydantic_core_schema__(self, _: object, __: object) -> core_schema.CoreSchema:
        """Return a schema without a serializer: values are serialized by their Python type."""
        return core_schema.no_info_plain_validator_function(self.check)


def _check_number(value: object) -> int | float:
    """Return a JSON number in the kind it was written in: 36 stays 36, and 0.0 stays 0.0."""
    if type(value) not in (int, float):
        raise invalid_value("must be a number")
    assert isinstance(value, int | float)
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid_value("must be a finite number")
    return value


def _check_between(low: float, high: float) -> PlainCheck:
    def check(value: object) -> int | float:
        number = _check_number(value)
        if not low <= number <= high:
            raise invalid_value(f"must be between {low} and {high}")
        return number

    return PlainCheck(check)


def _check_rotation(value: object) -> int:
    if type(value) is not int or value not in _ROTATIONS:
        raise invalid_value("must be 0, 90, 180 or 270")
    return value


def _check_position(value: object) -> list[int | float]:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - latitude, longitude
        raise invalid_value("must be [latitude, longitude] or null")
    latitude, longitude = _check_number(value[0]), _check_number(value[1])
    if not is_position(latitude, longitude):
        raise invalid_value("must be [-90 to 90, -180 to 180] degrees")
    return value


def _parse_date(value: object) -> datetime:
    """Parse a date and time of RFC 3339: with an offset, and not finer than a millisecond."""
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise invalid_value(
            "must be a date and time with an offset, as 2016-02-15T13:02:58.531+01:00"
        )
    if (match[1] or "")[_MILLISECOND_DIGITS:].strip("0"):
        raise invalid_value("must not be finer than a millisecond")
    try:
        date = datetime.fromisoformat(match[0].upper())
    except ValueError as error:
        raise invalid_value("must be a date and time that exists") from error
    if not (FIRST_DATE.year < date.year < LAST_DATE.year - 1 or FIRST_DATE <= date < LAST_DATE):
        raise invalid_value("must lie between 1970 and 9999")
    return date


def _parse_utc_second(value: object) -> str:
    date = _parse_date(value)
    if date.microsecond:
        raise invalid_value("must be whole seconds")
    return f"{date.astimezone(UTC).isoformat()[:_SECONDS_CHARACTERS]}Z"


def _check_tag(value: str) -> str:
    try:
        check_tag_text(value)
    except ValueError as error:
        raise invalid_value(str(error)) from error
    return value


def _normalize_tag(value: object) -> object:
    try:
        return normalize_tag_text(value) if isinstance(value, str) else value
    except ValueError as error:
        raise invalid_value(str(error)) from error


_NUMBER_SCHEMA = {"type": "number", "format": "double"}
_LATITUDE_SCHEMA = {**_NUMBER_SCHEMA, "minimum": -MAX_LATITUDE, "maximum": MAX_LATITUDE}
_LONGITUDE_SCHEMA = {**_NUMBER_SCHEMA, "minimum": -MAX_LONGITUDE, "maximum": MAX_LONGITUDE}
_DATE_SCHEMA = {"type": "string", "format": "date-time"}

_MAX_MEASURE = 10**12
_MEASURE_SCHEMA = {**_NUMBER_SCHEMA, "minimum": 0, "maximum": _MAX_MEASURE}

Measure = Annotated[int | float, _check_between(0, _MAX_MEASURE), WithJsonSchema(_MEASURE_SCHEMA)]
Latitude = Annotated[
    int | float,
    _check_between(-MAX_LATITUDE, MAX_LATITUDE),
    WithJsonSchema(_LATITUDE_SCHEMA),
]
Longitude = Annotated[
    int | float,
    _check_between(-MAX_LONGITUDE, MAX_LONGITUDE),
    WithJsonSchema(_LONGITUDE_SCHEMA),
]
Position = Annotated[
    list[int | float],
    PlainCheck(_check_position),
    WithJsonSchema(
        {
            "type": "array",
            "items": _NUMBER_SCHEMA,  # not prefixItems: two generators make three numbers of it
            "minItems": 2,
            "maxItems": 2,
        },
    ),
]
#: In the record always with a decimal point, also where it was sent without one.
Pixels = Annotated[
    float,
    Field(strict=True, ge=0, le=_MAX_MEASURE, allow_inf_nan=False),
    WithJsonSchema(_MEASURE_SCHEMA),
]
_INT_32 = {"format": "int32"}
_INT_64 = {"format": "int64"}
PixelCount = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1, json_schema_extra=_INT_32)]
ByteCount = Annotated[int, Field(strict=True, ge=0, le=2**53, json_schema_extra=_INT_64)]
#: A number of things.
Count = Annotated[int, Field(ge=0, json_schema_extra=_INT_64)]
#: The version of an album: every change raises it.
Version = Annotated[int, Field(ge=0, json_schema_extra=_INT_64)]
#: Degrees clockwise.
Rotation = Annotated[
    int,
    PlainCheck(_check_rotation),
    WithJsonSchema({"type": "integer", "format": "int32", "enum": list(_ROTATIONS)}),
]

#: Written with milliseconds and with the offset of the value.
Moment = Annotated[
    datetime,
    PlainCheck(_parse_date),
    PlainSerializer(lambda date: date.isoformat(timespec="milliseconds"), return_type=str),
    WithJsonSchema(_DATE_SCHEMA),
]
#: UTC, whole seconds, ``Z``. The value is its text.
UtcSecond = Annotated[str, PlainCheck(_parse_utc_second), WithJsonSchema(_DATE_SCHEMA)]

Text = Annotated[str, Field(strict=True)]
_ALBUM_ID = rf"^{ALBUM_ID.pattern}$"
_PUBLIC_ID = rf"^{PUBLIC_ID.pattern}$"
_DIGEST = "^[0-9a-f]{32}$"
_FORMAT_NAME = "^[a-z0-9]{1,16}$"
_RENDITION_PATH = "^(/|https?://)[!-~]*$"
#: What a text must be, by the pattern that it must match. See `messages`.
PATTERN_MESSAGES = {
    _ALBUM_ID: "must be an album's id: 1 to 64 characters of A-Z a-z 0-9 - _",
    _PUBLIC_ID: "must be a UUID, such as 078fafdc-f05a-44c4-94df-c04244c7cda4",
    _DIGEST: "must be an MD5 digest: 32 characters of 0-9 a-f",
    _FORMAT_NAME: "must be a format's name: 1 to 16 characters of a-z 0-9",
    _RENDITION_PATH: "must be a path that begins with /, or an address that begins with https://",
}

AlbumId = Annotated[Text, StringConstraints(pattern=_ALBUM_ID)]
PublicId = Annotated[
    Text,
    StringConstraints(pattern=_PUBLIC_ID, to_lower=True),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]
Digest = Annotated[Text, StringConstraints(pattern=_DIGEST)]
FormatName = Annotated[Text, StringConstraints(pattern=_FORMAT_NAME)]
Tag = Annotated[
    Text, StringConstraints(min_length=1, max_length=MAX_TAG_CHARACTERS), AfterValidator(_check_tag)
]
GIVEN_TAG_SCHEMA = {"type": "string", "pattern": build_tag_pattern(MAX_TAG_CHARACTERS)}
#: A tag as a person types it. It is trimmed and brought to Unicode's normal form C.
GivenTag = Annotated[Tag, BeforeValidator(_normalize_tag), WithJsonSchema(GIVEN_TAG_SCHEMA)]
#: Where a rendition is: a path of this service, or the URL of another.
RenditionPath = Annotated[Text, StringConstraints(max_length=2048, pattern=_RENDITION_PATH)]
