"""Reads a JSON array one element at a time: memory does not grow with the array.

The standard library's decoder reads each element and finds its end. It accepts some texts that no
record may have, so there are two readers: `read_array` is fast and leaves those texts in, and
`decode_strictly` reads one element again and reports them. Both keep the kind of every number.
"""

import json
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import NamedTuple

from imageapi.records.parse import MAX_JSON_DEPTH

MAX_ELEMENT_CHARACTERS = 4 * 1024 * 1024
#: NUL, and halves of surrogate pairs. Unescaped, the text would not be JSON, or not UTF-8.
_INVALID_UNITS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_WHITESPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class UnreadableArray(ValueError):
    """The text is not a JSON array of objects. ``index`` is the element with the error, from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Element(NamedTuple):
    """An object of the array: its number from 0, its text, and its value.

    Where a key stands twice, ``value`` has the last of its values only.
    """

    number: int
    text: str
    value: dict[str, object]


class StrictValue(NamedTuple):
    """The value of an element without duplicate keys.

    ``is_plain`` means that the text has no escaped NUL, no half of a surrogate pair, no number that
    is not finite, and too few brackets to be nested too deep.
    """

    value: dict[str, object]
    is_plain: bool


def read_array(chunks: Iterable[str]) -> Iterator[Element]:
    """Yield the objects of the array; raise UnreadableArray where the text is not one.

    At most one element and one chunk are in memory at a time. Chunks should not be much shorter
    than an element: with every chunk the element is decoded again from its start.
    """
    text = _Text(chunks)
    if text.take() != "[":
        raise UnreadableArray(0, "is not a JSON array of objects")
    index = 0
    more = text.peek() != "]" or not text.take()
    while more:
        if text.peek() != "{":
            raise UnreadableArray(index, "is not a JSON object")
        yield text.take_object(index)
        index += 1
        separator = text.take()
        if separator not in (",", "]"):
            raise UnreadableArray(index - 1, "is followed by neither a comma nor the array's end")
        more = separator == ","
    if text.peek():
        raise UnreadableArray(index, "stands behind the array's end")


def decode_strictly(element: Element) -> StrictValue:
    """Decode the element's text again; raise UnreadableArray where an object has a key twice."""
    numbers = _Numbers()
    try:
        value = numbers.decoder.decode(element.text)
    except _DuplicateKey as error:
        raise UnreadableArray(element.number, f"has the key {error} twice") from error
    except RecursionError as error:
        raise UnreadableArray(element.number, "is nested too deep") from error
    assert isinstance(value, dict)
    return StrictValue(value, numbers.are_finite and _is_plain(element.text))


class _Text:
    """The text that has been read from the chunks and not been consumed."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self._chunks = iter(chunks)
        self._buffer = ""
        self._position = 0

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end of the text."""
        while True:
            white_space = _WHITESPACE.match(self._buffer, self._position)
            assert white_space is not None
            self._position = white_space.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._grow():
                return ""

    def take(self) -> str:
        """Consume and return the next character that is not white space."""
        character = self.peek()
        self._position += 1
        return character

    def take_object(self, index: int) -> Element:
        """Consume and return the object at the current position, which is element ``index``."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except RecursionError as error:
                raise UnreadableArray(index, "is nested too deep") from error
            except json.JSONDecodeError as error:
                # The buffer may simply end within the object.
                if len(self._buffer) - self._position > MAX_ELEMENT_CHARACTERS:
                    raise UnreadableArray(index, "is not JSON, or far too long") from error
                if not self._grow():
                    raise UnreadableArray(index, f"is not JSON: {error.msg}") from error
            except ValueError as error:  # a number of thousands of digits
                raise UnreadableArray(index, "holds a number that is too long") from error
            else:
                if end - self._position > MAX_ELEMENT_CHARACTERS:
                    raise UnreadableArray(index, "is not JSON, or far too long")
                text, self._position = self._buffer[self._position : end], end
                return Element(index, text, value)

    def _grow(self) -> bool:
        chunk = next(self._chunks, "")
        self._buffer, self._position = self._buffer[self._position :] + chunk, 0
        return bool(chunk)


class _DuplicateKey(Exception):
    """An object has a key twice: one of the two values would be lost."""


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result


class _Numbers:
    """A JSON decoder that notes whether it read a number that is not finite: NaN, or 1e999."""

    def __init__(self) -> None:
        self.are_finite = True
        self.decoder = json.JSONDecoder(
            object_pairs_hook=_build_object,
            parse_float=self._parse_float,
            parse_constant=self._parse_float,
        )

    def _parse_float(self, text: str) -> float:
        number = float(text)
        self.are_finite &= isfinite(number)
        return number


def _is_plain(text: str) -> bool:
    if "\\u" in text and _INVALID_UNITS.search(text) is not None:
        return False
    return text.count("{") + text.count("[") <= MAX_JSON_DEPTH
