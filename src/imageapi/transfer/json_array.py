"""A JSON array read an element at a time, so that its length does not matter.

The standard library's decoder does the reading; what is added is where each element begins. It
keeps the kind of every number, and reads NaN where it stands, so that its field can be named.
"""

import json
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import NamedTuple

from imageapi.records.parse import MAX_JSON_DEPTH

#: One element may be this long, in characters.
MAX_ELEMENT_CHARACTERS = 4 * 1024 * 1024
#: NUL, and halves of surrogate pairs: unescaped, the text would be no JSON, or no UTF-8.
_INVALID_UNITS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_WHITESPACE = " \t\r\n"


class UnreadableArray(ValueError):
    """The text is no JSON array of objects; ``index`` is the element it fails at, from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Element(NamedTuple):
    """An object of the array.

    ``is_plain`` says that its text has no escaped NUL nor half of a surrogate pair, no
    number that is not finite, and too few brackets to be nested too deep.
    """

    value: dict[str, object]
    is_plain: bool


def read_array(chunks: Iterable[str]) -> Iterator[Element]:
    """Yield the objects of the array; raise UnreadableArray where it is not one.

    At most one element and one chunk are held at a time.
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


class _Text:
    """What has been read of the chunks and not yet consumed."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self._chunks = iter(chunks)
        self._buffer = ""
        self._numbers = _Numbers()
        self.position = 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self.position < len(self._buffer):
                if (character := self._buffer[self.position]) not in _WHITESPACE:
                    return character
                self.position += 1
            if not self._grow():
                return ""

    def take(self) -> str:
        """The same, consumed."""
        character = self.peek()
        self.position += 1
        return character

    def take_object(self, index: int) -> Element:
        """The object that begins here, consumed; ``index`` is for what is wrong with it."""
        while True:
            try:
                self._numbers.are_finite = True
                value, end = self._numbers.decoder.raw_decode(self._buffer, self.position)
            except _DuplicateKey as error:
                raise UnreadableArray(index, f"has the key {error} twice") from error
            except RecursionError as error:
                raise UnreadableArray(index, "is nested too deep") from error
            except json.JSONDecodeError as error:
                # Perhaps only not all there yet.
                if len(self._buffer) - self.position > MAX_ELEMENT_CHARACTERS:
                    raise UnreadableArray(index, "is not JSON, or far too long") from error
                if not self._grow():
                    raise UnreadableArray(index, f"is not JSON: {error.msg}") from error
            except ValueError as error:  # a number of thousands of digits
                raise UnreadableArray(index, "holds a number that is too long") from error
            else:
                assert isinstance(value, dict)
                text, self.position = self._buffer[self.position : end], end
                return Element(value, self._numbers.are_finite and _is_plain(text))

    def _grow(self) -> bool:
        chunk = next(self._chunks, "")
        self._buffer = self._buffer[self.position :] + chunk
        self.position = 0
        return bool(chunk)


class _DuplicateKey(Exception):
    """An object names a key twice: one of the two values would be lost."""


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result


class _Numbers:
    """Reads JSON, and notes whether a number is not finite: NaN, or 1e999."""

    def __init__(self) -> None:
        self.are_finite = True
        self.decoder = json.JSONDecoder(
            object_pairs_hook=_build_object, parse_float=self._float, parse_constant=self._float
        )

    def _float(self, text: str) -> float:
        number = float(text)
        self.are_finite &= isfinite(number)
        return number


def _is_plain(text: str) -> bool:
    if "\\u" in text and _INVALID_UNITS.search(text) is not None:
        return False
    return text.count("{") + text.count("[") <= MAX_JSON_DEPTH
