"""Turns a parsed JSON value into an image, or into one line that names the field and the error."""

import math
from collections.abc import Iterator

from pydantic import ValidationError

from imageapi.records.image import Image
from imageapi.records.messages import describe_error

MAX_JSON_DEPTH = 32


class InvalidRecord(ValueError):
    """A record is refused. ``field`` is a dotted path; ``reason`` continues the sentence."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


def parse_record(value: object, *, is_plain: bool = False) -> Image:
    """Return the image that the value describes in the documented shape; raise InvalidRecord.

    ``is_plain`` means that the parser of the JSON has found nothing that UTF-8 or PostgreSQL cannot
    store. Otherwise the whole value is searched for that, which takes a third of the time.
    """
    if not isinstance(value, dict):
        raise InvalidRecord("", "must be an object")
    if not is_plain:
        for field, reason in _find_invalid_values(value, (), MAX_JSON_DEPTH):
            raise InvalidRecord(field, reason)
    try:
        return Image.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRecord(
            ".".join(str(part) for part in first["loc"]), describe_error(first)
        ) from error


def _find_invalid_values(
    value: object, path: tuple[str, ...], levels: int
) -> Iterator[tuple[str, str]]:
    """Yield path and reason of each part that JSON in UTF-8, or PostgreSQL, cannot store."""
    if isinstance(value, str):
        reason = _find_invalid_text(value)
    elif isinstance(value, float):
        reason = None if math.isfinite(value) else "must be a finite number"
    elif isinstance(value, dict | list):
        reason = None if levels else "is nested too deep"
    else:
        reason = None
    if reason is not None:
        yield ".".join(path), reason
    elif isinstance(value, dict):
        for key, inner in value.items():
            if (reason := _find_invalid_text(key)) is not None:
                yield ".".join(path), f"has a key that {reason}"
            yield from _find_invalid_values(inner, (*path, key), levels - 1)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _find_invalid_values(inner, (*path, str(position)), levels - 1)


def _find_invalid_text(text: str) -> str | None:
    if "\0" in text:
        return "must not hold a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not hold half a surrogate pair"
    return None
