"""Says in plain words what is wrong with a value that Pydantic refuses.

Each message continues a sentence after the name of the field: "rotation", "must be 0, 90, 180 or
270". A validator's own sentence never reaches a person.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from imageapi.records.fields import PATTERN_MESSAGES

_MOMENT = "a date and time with its offset, as 2016-02-15T13:02:58.531+01:00"
_FALLBACK = "is not what is expected here"

_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field that is known here",
    "none_required": "must be null",
    "finite_number": "must be a finite number",
    "string_unicode": "must be text without half a surrogate pair",
    "json_invalid": "must be JSON",
}
#: What a value must be, by the beginning of the error's type, as ``int_parsing`` and ``int_type``.
_KINDS: Mapping[str, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "uuid": "a UUID",
    "date": "a date",
    "datetime": _MOMENT,
    "timezone": _MOMENT,
    "time": "a time",
    "path": "a path",
    "url": "a URL",
    "bytes": "a file",
}


def describe_error(error: ErrorDetails) -> str:
    """Return what is wrong with the value, to follow the name of its field."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "unfit":  # our own words
        return error["msg"]
    if kind in _WITH_CONTEXT:
        return _WITH_CONTEXT[kind](context)
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    expected = _KINDS.get(kind.partition("_")[0])
    return f"must be {expected}" if expected else _FALLBACK


def _describe_pattern(context: Mapping[str, Any]) -> str:
    return PATTERN_MESSAGES.get(context["pattern"], _FALLBACK)


def _describe_length(bound: str, unit: str, context: Mapping[str, Any]) -> str:
    length = context["min_length" if bound == "at least" else "max_length"]
    return f"must have {bound} {length} {unit}{'' if length == 1 else 's'}"


_WITH_CONTEXT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "value_error": lambda context: str(context["error"]),
    "string_pattern_mismatch": _describe_pattern,
    "string_too_short": lambda context: _describe_length("at least", "character", context),
    "string_too_long": lambda context: _describe_length("at most", "character", context),
    "too_short": lambda context: _describe_length("at least", "item", context),
    "too_long": lambda context: _describe_length("at most", "item", context),
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "greater_than_equal": lambda context: f"must be {context['ge']} or more",
    "less_than": lambda context: f"must be less than {context['lt']}",
    "less_than_equal": lambda context: f"must be {context['le']} or less",
    "multiple_of": lambda context: f"must be a multiple of {context['multiple_of']}",
    "literal_error": lambda context: f"must be {context['expected']}",
    "enum": lambda context: f"must be {context['expected']}",
}
