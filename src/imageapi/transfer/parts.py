"""The text of a JSON array, cut into parts that can be read apart from each other.

Where to cut is guessed: at a comma between two objects, best where the second begins with the key
that the first element begins with. Each part is closed into an array of its own, so a part that
was cut in the wrong place, within an element, is no array: it is `joined` with what follows it.
"""

import re
from collections.abc import Iterable, Iterator

PART_BYTES = 256 * 1024
#: No element is as long: a part of more that is no array would be none with what follows either.
LARGEST_PART_BYTES = 17 * 1024**2

_BETWEEN_OBJECTS = rb"\}\s*(,)\s*(?=\{%s)"
_BETWEEN_ANY = re.compile(_BETWEEN_OBJECTS % b"")
_FIRST_KEY = re.compile(rb'[^{]{0,100}\{(\s*"[^"\\]{1,100}"\s*:)')


def parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the text, which comes in chunks; each part is the text of an array."""
    rest = bytearray()
    between: re.Pattern[bytes] | None = None
    for chunk in chunks:
        rest += chunk
        while len(rest) > PART_BYTES:
            between = between or _between_elements(rest)
            cut = between.search(rest, PART_BYTES)
            if cut is None and len(rest) > 2 * PART_BYTES:
                cut = _BETWEEN_ANY.search(rest, PART_BYTES)
            if cut is None:
                break
            yield bytes(rest[: cut.start() + 1] + b"]")
            rest[cut.start(1)] = ord("[")
            del rest[: cut.start() + 1]
        if len(rest) > LARGEST_PART_BYTES:
            yield bytes(rest + b",")  # which is no array, whatever comes
            return
    yield bytes(rest)


def joined(part: bytes, following: bytes) -> bytes:
    """One part of two that follow each other, as their text was."""
    return part[:-1] + following.replace(b"[", b",", 1)


def _between_elements(text: bytearray) -> re.Pattern[bytes]:
    """What stands between two elements that begin alike."""
    first = _FIRST_KEY.match(text)
    return re.compile(_BETWEEN_OBJECTS % (re.escape(first[1].strip()) if first else b""))
