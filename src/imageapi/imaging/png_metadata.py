"""Finds the EXIF data of a PNG, wherever writers put it.

PNG 3 has the chunk eXIf, before or behind the pixels. ImageMagick and Exiv2 write a text with the
keyword "Raw profile type exif" or "Raw profile type APP1", which has the data in hexadecimal.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from imageapi.imaging.exif import Exif
from imageapi.imaging.tiff_directory import Content

MAX_CHUNKS = 100_000
"""As many as 100 MB in chunks of 1 KiB."""
MAX_CANDIDATES = 16
MAX_PROFILE_CHARACTERS = 2 * 1024**2

_SIGNATURE_BYTES = 8
_CHECKSUM_BYTES = 4
_CHUNK_HEAD = struct.Struct(">L4s")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_KEYWORD_BYTES = 79
_KEYWORDS = (b"raw profile type exif", b"raw profile type app1")


def find_png_exif(content: Content) -> Exif:
    """Return the EXIF data of the best rank that can be read: eXIf, then exif, then APP1.

    Of the same rank it is the first. Raises ValueError where there is none.
    """
    candidates = sorted(_iterate_candidates(content), key=lambda candidate: candidate[0])
    for _, kind, place in candidates:
        data = content[place]
        with suppress(ValueError, zlib.error):
            exif = Exif.parse(data if kind == b"eXIf" else _decode_profile(kind, data))
            if exif.image:
                return exif
    raise ValueError("no EXIF data")


def _iterate_candidates(content: Content) -> Iterator[tuple[int, bytes, slice]]:
    """Yield rank, type and place of chunks that may have EXIF data, of each rank a limited number.

    The place of a text begins behind the keyword.
    """
    ranks = dict.fromkeys(range(1 + len(_KEYWORDS)), 0)
    for kind, start, end in _iterate_chunks(content):
        rank, data_start = 0, start
        if kind in _TEXT_CHUNKS:
            head = content[start : min(end, start + _MAX_KEYWORD_BYTES + 1)]
            keyword = head.partition(b"\0")[0]
            if keyword.lower() not in _KEYWORDS:
                continue
            rank = 1 + _KEYWORDS.index(keyword.lower())
            data_start = start + len(keyword) + 1
        elif kind != b"eXIf":
            continue
        if ranks[rank] < MAX_CANDIDATES and end - start <= MAX_PROFILE_CHARACTERS:
            ranks[rank] += 1
            yield rank, kind, slice(data_start, end)


def _iterate_chunks(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the data of each whole chunk."""
    place = _SIGNATURE_BYTES
    for _ in range(MAX_CHUNKS):
        start = place + _CHUNK_HEAD.size
        if start > len(content):
            return
        size, kind = _CHUNK_HEAD.unpack(content[place:start])
        if start + size > len(content):
            return
        yield kind, start, start + size
        place = start + size + _CHECKSUM_BYTES


def _decode_profile(kind: bytes, data: bytes) -> bytes:
    """Return the bytes that the text of a raw profile has: its name, its length, and hexadecimal.

    Raises ValueError or zlib.error where it cannot be decoded or is too long.
    """
    if kind == b"zTXt":
        data = _decompress(data[1:])
    elif kind == b"iTXt":
        is_compressed, (_, _, data) = data[:1] == b"\1", data[2:].split(b"\0", 2)
        data = _decompress(data) if is_compressed else data
    _, size, digits = data.decode("ascii").split(None, 2)
    return bytes.fromhex(digits)[: int(size)]


def _decompress(data: bytes) -> bytes:
    """Return at most MAX_PROFILE_CHARACTERS; a profile that is longer is cut."""
    return zlib.decompressobj().decompress(data, MAX_PROFILE_CHARACTERS)
