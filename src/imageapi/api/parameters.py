"""Types of numbers and moments in queries and forms: they are written as in JSON and RFC 3339.

Pydantic and Python read more, for example ``1_0``, digits of other scripts, and a year as seconds
since 1970: a mistake would be taken for something that was not meant.
"""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from imageapi.records.fields import FIRST_DATE, LAST_DATE, invalid_value

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(rf"{_INTEGER.pattern}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})"  # a generated client leaves the colon out
)
EXAMPLE_MOMENT = "2016-02-15T13:02:58.531+01:00"


def parse_number(text: str) -> int | float:
    """Return the number; raises ValueError unless it is written as in JSON (RFC 8259 §6)."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("is no number")
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _require_integer(value: object) -> object:
    if isinstance(value, str) and _INTEGER.fullmatch(value) is None:
        raise invalid_value("must be a whole number")
    return value


def _require_moment(value: object) -> object:
    if isinstance(value, str) and _MOMENT.fullmatch(value) is None:
        hint = "; in an address + is written %2B" if " " in value else ""
        raise invalid_value(f"must be a date and time with its offset, as {EXAMPLE_MOMENT}{hint}")
    return value


def _clamp_moment(moment: datetime) -> datetime:
    """Return the moment, limited to the range of dates that an image may have.

    No image is outside that range, so the filter lets the same images through.
    """
    return min(max(moment, FIRST_DATE), LAST_DATE)


#: For the annotation of a whole number in a query.
WrittenAsInJson = BeforeValidator(_require_integer)
Moment = Annotated[AwareDatetime, BeforeValidator(_require_moment), AfterValidator(_clamp_moment)]
