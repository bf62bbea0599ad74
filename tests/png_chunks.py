"""PNGs chunk by chunk, with EXIF data where writers put it."""

import struct
import zlib

_END = struct.pack(">L4s", 0, b"IEND")


def chunk(type_: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + type_ + data + struct.pack(">L", zlib.crc32(type_ + data))


def with_chunks(png: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """The PNG with chunks before and behind its pixels."""
    start = png.index(b"IDAT") - 4
    end = png.rindex(_END)
    return png[:start] + before + png[start:end] + behind + png[end:]


def raw_profile(exif: bytes, name: str = "exif") -> bytes:
    """The EXIF data in hexadecimal, as ImageMagick and Exiv2 write it."""
    digits = exif.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["", name, f"{len(exif):8}", *lines, ""]).encode()


def profile_text(chunk_type: str, text: bytes, name: str = "exif", *, plain: bool = False) -> bytes:
    """A chunk of text with the keyword of a raw profile; an iTXt is compressed unless plain."""
    keyword = f"Raw profile type {name}".encode() + b"\0"
    if chunk_type == "tEXt":
        return chunk(b"tEXt", keyword + text)
    if chunk_type == "zTXt":
        return chunk(b"zTXt", keyword + b"\0" + zlib.compress(text))
    head = b"\0\0en\0translated\0" if plain else b"\1\0en\0translated\0"
    return chunk(b"iTXt", keyword + head + (text if plain else zlib.compress(text)))
