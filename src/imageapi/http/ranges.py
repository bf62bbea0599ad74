"""Ranges of bytes (RFC 9110 §14.1.2): one of them, as players and resumed downloads ask for."""

import re
from typing import NamedTuple

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


class Range(NamedTuple):
    """From byte ``start`` up to, not including, byte ``end``; empty where nothing is there."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


def parse_range(header: str | None, size: int) -> Range | None:
    """The range asked for of so many bytes; None for all: several ranges are not read."""
    parts = _RANGE.fullmatch(header or "")
    if parts is None or parts[0].strip().endswith("=-"):
        return None
    first, last = parts.groups()
    if not first:
        return Range(max(size - int(last), 0), size)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return Range(start, end) if start < size else Range(0, 0)
