"""Detects a file's format by its first bytes, never by its name or its declared media type."""

from collections.abc import Mapping

MAGIC_BYTES = 512
"""How many of a file's first bytes are needed to detect its format."""

MEDIA_TYPES: Mapping[str, str] = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "heic": "image/heic",
    "heif": "image/heif",
    "avif": "image/avif",
}
"""The formats that are read, and their IANA media types."""

_MAGIC_NUMBERS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # BigTIFF: offsets of eight bytes
    b"MM\0+": "tiff",
}
# The brands of a file that name its codec (ISO/IEC 23008-12 §10 and annex B).
_BRANDS = {
    b"heic": "heic",
    b"heix": "heic",
    b"heim": "heic",
    b"heis": "heic",
    b"hevc": "heic",
    b"hevx": "heic",
    b"avif": "avif",
    b"avis": "avif",
}
# Brands of images of any codec; a file promises what each of its brands promises.
_STRUCTURAL_BRANDS = {b"mif1", b"miaf"}


def detect_format(head: bytes) -> str | None:
    """Return the format's name in MEDIA_TYPES, or None for a format that is not read."""
    for start, name in _MAGIC_NUMBERS.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return _detect_heif_format(head) if head[4:8] == b"ftyp" else None


def _detect_heif_format(head: bytes) -> str | None:
    """Return the format of the first known brand, the major before the compatible ones.

    ISO/IEC 14496-12 §4.3 has the layout of the box.
    """
    box = head[: int.from_bytes(head[:4])]
    brands = [box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))]
    for brand in brands:
        if brand in _BRANDS:
            return _BRANDS[brand]
    return "heif" if not _STRUCTURAL_BRANDS.isdisjoint(brands) else None
