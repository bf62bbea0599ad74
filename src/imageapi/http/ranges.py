"""Byte ranges (RFC 9110 §14.1.2): a single one, as media players and resumed downloads request."""

import re
from typing import NamedTuple

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


class Range(NamedTuple):
    """Bytes from ``start`` up to, not including, ``end``; empty past the end of the content."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.end - self.start


def parse_range(header: str | None, size: int) -> Range | None:
    """Return the range that a ``Range`` header requests of ``size`` bytes.

    None means all of them: without the header, and where it is invalid or has several ranges, which
    a server may ignore.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[0].strip().endswith("=-"):
        return None
    first, last = match.groups()
    if not first:  # the last bytes, as many as the number says
        return Range(max(size - int(last), 0), size)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return Range(start, end) if start < size else Range(0, 0)
