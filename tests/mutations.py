"""Pictures as strangers send them: cut off, flipped, spliced; the same bytes for the same seed.

`python tests/mutations.py NUMBER [SEED] > file` writes one of them. The same bytes come of the same
versions of the encoders.
"""

import io
import random
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import pillow_heif
import pyvips
from PIL import Image

import pictures
from png_chunks import profile_text, raw_profile, with_chunks

Dice = random.Random

LISBON = (38.713750, -9.139333)
LARGE_SIZE = (1200, 850)
SWOLLEN_BYTES = 5_000_000
"""Such a mutation is larger than this."""

_LARGE_SHARE = 0.04
_SWOLLEN_SHARE = 0.002
_REPAIRED_SHARE = 0.5
_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES = 256

#: Where sizes, counts and offsets stand near by, in formats whose parts lie within others.
_LANDMARKS = re.compile(
    rb"\xff[\xc0\xc2\xc4\xda\xdb\xdd]|Exif\0\0|EXIF|ICC_PROFILE|acsp|II\*\0|MM\0\*|acTL|fcTL|fdAT"
    rb"|VP8[ LX]|ANMF|ALPH|ispe|iloc|iinf|infe|ipma|ipco|iprp|iref|irot|imir|clap|pixi|colr|auxC"
    rb"|hvcC|av1C|av1f|hdlr|pitm|mdat|stsz|stco|stsc|trak|stsd|tkhd|\x21\xf9\x04|\x21\xff\x0b"
)
_NUMBERS = (
    *(0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 65500, 100_000),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF),
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A picture that something was done to: `kind` to `base`, of those in `bases`."""

    seed: int
    number: int
    kind: str
    base: str
    content: bytes

    def __str__(self) -> str:
        """How to have it again."""
        command = f"python tests/mutations.py {self.number} {self.seed}"
        return f"seed {self.seed}, number {self.number} ({self.base}, {self.kind}): {command}"


def mutation(number: int, seed: int = 0) -> Mutation:
    """The mutation of this number."""
    dice = random.Random(f"{seed}:{number}")
    base, content = _base(dice)
    if dice.random() < _SWOLLEN_SHARE:
        kind, content = "swollen", content + bytes(SWOLLEN_BYTES)
    else:
        kind = dice.choice(tuple(_KINDS))
        content = _KINDS[kind](content, dice)
        if kind != "truncated" and dice.random() < _REPAIRED_SHARE:
            content = repaired(content)
    return Mutation(seed, number, kind, base, content)


def _base(dice: Dice) -> tuple[str, bytes]:
    those = large_bases() if dice.random() < _LARGE_SHARE else bases()
    name = dice.choice(tuple(those))
    return name, those[name]


# What is mutated


@cache
def bases() -> Mapping[str, bytes]:
    """Small pictures of every format and kind, each decoded in a few milliseconds."""
    return {**_jpegs(), **_pngs(), **_webps(), **_gifs(), **_tiffs(), **_heifs()}


@cache
def large_bases() -> Mapping[str, bytes]:
    """Of about one megapixel."""
    image = spots(*LARGE_SIZE)
    return {
        "large jpeg": pictures.written(image, "JPEG", quality=85),
        "large progressive jpeg": pictures.written(image, "JPEG", quality=85, progressive=True),
        "large png": pictures.written(image, "PNG"),
        "large interlaced png": _by_vips(image).pngsave_buffer(interlace=True, filter="all"),
        "large webp": pictures.written(image, "WEBP", quality=80, method=0),
        "large lossless webp": pictures.written(image, "WEBP", lossless=True, method=0),
        "large gif": pictures.written(image.convert("L"), "GIF"),
        "large tiff": pictures.written(image.convert("L"), "TIFF", compression="tiff_lzw"),
        "large tiled tiff": _by_vips(image).tiffsave_buffer(compression="deflate", tile=True),
        "large heic": _heic(image),
        "large avif": pictures.written(image, "AVIF", quality=60, speed=10),
    }


def spots(width: int, height: int) -> Image.Image:
    """A picture of soft spots, which does not compress to nothing."""
    small = (width // 16, height // 16)
    pixels = random.Random(0).randbytes(small[0] * small[1] * 3)
    return Image.frombytes("RGB", small, pixels).resize((width, height), Image.Resampling.BICUBIC)


def _exif(orientation: int | None = None) -> bytes:
    comment = b"ASCII\0\0\0a comment"
    return pictures.exif(orientation, LISBON, ISOSpeedRatings=200, UserComment=comment).tobytes()


def _by_vips(image: Image.Image) -> Any:
    pixels = image.tobytes()
    bands = len(image.getbands())
    kept = pyvips.Image.new_from_memory(pixels, image.width, image.height, bands, "uchar")
    return kept.copy(interpretation="srgb" if bands >= 3 else "b-w")


def _frames() -> list[Image.Image]:
    return [Image.new("RGB", (96, 64), (each,) * 3) for each in (50, 200)]


def _jpegs() -> dict[str, bytes]:
    def jpeg(mode: str = "RGB", **options: Any) -> bytes:
        return pictures.written(pictures.marked().convert(mode), "JPEG", quality=90, **options)

    upright = {
        f"jpeg of orientation {each}": jpeg(exif=_exif(each), icc_profile=pictures.profile())
        for each in range(1, 9)
    }
    return upright | {
        "progressive jpeg": jpeg(progressive=True, exif=_exif()),
        "cmyk jpeg": jpeg("CMYK"),
        "grey jpeg": jpeg("L"),
        "jpeg with restarts": jpeg(restart_marker_blocks=2, subsampling="4:4:4"),
        "spotted jpeg": pictures.written(spots(200, 140), "JPEG", quality=70, subsampling="4:1:1"),
    }


def _pngs() -> dict[str, bytes]:
    vips = _by_vips(pictures.marked())
    grey = Image.frombytes("I;16", (96, 64), random.Random(0).randbytes(96 * 64 * 2))
    return {
        **{f"png {mode}": pictures.png(mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")},
        "png with exif": pictures.png(exif=_exif(6), icc_profile=pictures.profile()),
        "png with a raw profile": with_chunks(
            pictures.png(), behind=profile_text("zTXt", raw_profile(_exif(6)))
        ),
        "png of 16 bits": pictures.png_16_bit(),
        "grey png of 16 bits": pictures.written(grey, "PNG"),
        "interlaced png": vips.pngsave_buffer(interlace=True),
        "interlaced palette png": vips.pngsave_buffer(interlace=True, palette=True),
        "transparent palette png": pictures.png("P", transparency=1),
        "animated png": pictures.png(save_all=True, append_images=_frames()),
    }


def _webps() -> dict[str, bytes]:
    clear = pictures.marked().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    return {
        "webp": pictures.webp(),
        "webp with exif": pictures.webp(exif=_exif(6), icc_profile=pictures.profile()),
        "lossless webp": pictures.webp(lossless=True),
        "transparent webp": pictures.written(clear, "WEBP"),
        "animated webp": pictures.animated_webp(),
    }


def _gifs() -> dict[str, bytes]:
    return {
        "gif": pictures.gif(1),
        "animated gif": pictures.gif(),
        "spotted gif": pictures.written(spots(120, 80), "GIF", interlace=1),
        "transparent gif": pictures.written(pictures.marked().convert("P"), "GIF", transparency=1),
    }


def _tiffs() -> dict[str, bytes]:
    vips = _by_vips(pictures.marked())
    tiled = {"tile": True, "tile_width": 32, "tile_height": 32}
    grey = Image.frombytes("I;16B", (96, 64), random.Random(0).randbytes(96 * 64 * 2))
    fax = pictures.marked().convert("1")
    compressions = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    by_pillow = {f"tiff {each}": pictures.tiff(compression=each) for each in compressions}
    return by_pillow | {
        "tiff": pictures.tiff(gps=LISBON),
        "tiff of orientation 6": pictures.tiff(6),
        "tiff group4": pictures.written(fax, "TIFF", compression="group4"),
        "tiff group3": pictures.written(fax, "TIFF", compression="group3"),
        "big-endian tiff": pictures.written(grey, "TIFF"),
        "cmyk tiff": pictures.written(pictures.marked().convert("CMYK"), "TIFF"),
        "palette tiff": pictures.written(pictures.marked().convert("P"), "TIFF"),
        "tiff of floats": (vips / 255.0).tiffsave_buffer(compression="deflate", predictor="float"),
        "tiled tiff": vips.tiffsave_buffer(compression="lzw", predictor="horizontal", **tiled),
        "tiled tiff webp": vips.tiffsave_buffer(compression="webp", **tiled),
        "BigTIFF": vips.tiffsave_buffer(compression="deflate", bigtiff=True),
        "tiled BigTIFF": vips.tiffsave_buffer(
            compression="jpeg", bigtiff=True, pyramid=True, **tiled
        ),
    }


def _heifs() -> dict[str, bytes]:
    image = pictures.marked()
    return {
        "heic": pictures.heic(gps=LISBON),
        "heic of orientation 6": pictures.heic(6),
        "transparent heic": _heic(image.convert("RGBA")),
        "grey heic": _heic(image.convert("L")),
        "heic of two": _heic(image, image.rotate(180)),
        "avif": pictures.avif(gps=LISBON),
        "avif of orientation 6": pictures.avif(6),
        "transparent avif": pictures.written(image.convert("RGBA"), "AVIF"),
        "animated avif": _timeless(
            pictures.written(image, "AVIF", save_all=True, append_images=_frames())
        ),
    }


def _timeless(film: bytes) -> bytes:
    """The film without when it was made (ISO/IEC 14496-12 §8.2.2, §8.3.2, §8.4.2)."""
    times = re.compile(rb"((?:mvhd|tkhd|mdhd)\x01...).{16}", re.DOTALL)
    return times.sub(rb"\1" + bytes(16), film)


def _heic(*images: Image.Image) -> bytes:
    heif = pillow_heif.from_pillow(images[0])
    for other in images[1:]:
        heif.add_from_pillow(other)
    file = io.BytesIO()
    heif.save(file, quality=60, enc_params={"preset": "ultrafast"})
    return file.getvalue()


# What is done to it


def _truncated(content: bytes, dice: Dice) -> bytes:
    return content[: dice.randrange(len(content))]


def _flipped(content: bytes, dice: Dice) -> bytes:
    return _with_flips(content, dice, len(content))


def _head_flipped(content: bytes, dice: Dice) -> bytes:
    return _with_flips(content, dice, min(_HEAD_BYTES, len(content)))


def _with_flips(content: bytes, dice: Dice, end: int) -> bytes:
    result = bytearray(content)
    for _ in range(dice.choice((1, 2, 4, dice.randint(1, 64)))):
        result[dice.randrange(end)] ^= 1 << dice.randrange(8)
    return bytes(result)


def _overwritten(content: bytes, dice: Dice) -> bytes:
    at = dice.randrange(len(content))
    length = min(dice.choice((1, 4, 16, 64, dice.randint(1, len(content)))), len(content) - at)
    filled = dice.choice((bytes(length), b"\xff" * length, dice.randbytes(length)))
    return content[:at] + filled + content[at + length :]


def _numbered(content: bytes, dice: Dice) -> bytes:
    """With numbers that break arithmetic where lengths, sizes and offsets stand."""
    result = bytearray(content)
    places = [*_cuts(content), *(found.start() for found in _LANDMARKS.finditer(content))]
    for _ in range(dice.choice((1, 1, 2, 4))):
        length = dice.choice((2, 4, 4, 8))
        order = dice.choice(("big", "little"))
        at = max(0, dice.choice(places) + dice.randrange(-4, 28))
        number = dice.choice(_NUMBERS) % 256**length
        result[at : at + length] = number.to_bytes(length, order)
    return bytes(result)


def _doubled(content: bytes, dice: Dice) -> bytes:
    pieces = list(_pieces(content))
    at = dice.randrange(len(pieces))
    times = dice.choice((1, 1, 2, 50, 2000 if len(pieces[at]) < 100 else 5))
    pieces[at:at] = [pieces[at]] * times
    return b"".join(pieces)


def _dropped(content: bytes, dice: Dice) -> bytes:
    pieces = list(_pieces(content))
    del pieces[dice.randrange(len(pieces))]
    return b"".join(pieces)


def _swapped(content: bytes, dice: Dice) -> bytes:
    pieces = list(_pieces(content))
    one, other = dice.randrange(len(pieces)), dice.randrange(len(pieces))
    pieces[one], pieces[other] = pieces[other], pieces[one]
    return b"".join(pieces)


def _transplanted(content: bytes, dice: Dice) -> bytes:
    """With a piece of another picture in the place of one of its own."""
    pieces = list(_pieces(content))
    others = list(_pieces(_base(dice)[1]))
    pieces[dice.randrange(len(pieces))] = dice.choice(others)
    return b"".join(pieces)


def _grafted(content: bytes, dice: Dice) -> bytes:
    """Its head on the body of another."""
    other = _base(dice)[1]
    length = dice.choice((12, 32, 64, _HEAD_BYTES, dice.choice(_cuts(content))))
    return content[:length] + other[dice.choice((length, 0, dice.choice(_cuts(other)))) :]


def _joined(content: bytes, dice: Dice) -> bytes:
    return content + _base(dice)[1]


def _exif_replaced(content: bytes, dice: Dice) -> bytes:
    """With noise for its EXIF; where it has none, for what is after a landmark."""
    blocks = re.finditer(rb"Exif\0\0|eXIf|EXIF|II\*\0|MM\0\*", content)
    found = list(blocks) or list(_LANDMARKS.finditer(content))
    at = dice.choice([each.end() for each in found] or [len(content) // 2])
    length = min(dice.choice((8, 40, 120)), len(content) - at)
    return content[:at] + dice.randbytes(length) + content[at + length :]


def _inserted(content: bytes, dice: Dice) -> bytes:
    at = dice.randrange(len(content) + 1)
    return content[:at] + dice.randbytes(dice.choice((1, 3, 8, 100, 5000))) + content[at:]


_KINDS: Mapping[str, Callable[[bytes, Dice], bytes]] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "head flipped": _head_flipped,
    "overwritten": _overwritten,
    "numbered": _numbered,
    "doubled": _doubled,
    "dropped": _dropped,
    "swapped": _swapped,
    "transplanted": _transplanted,
    "grafted": _grafted,
    "joined": _joined,
    "exif replaced": _exif_replaced,
    "inserted": _inserted,
}


def repaired(content: bytes) -> bytes:
    """A PNG with the checksums of what its chunks hold now; anything else as it is."""
    if not content.startswith(_PNG):
        return content
    result, at = bytearray(content), len(_PNG)
    while at + 12 <= len(result):
        end = at + 8 + int.from_bytes(result[at : at + 4])
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(result)


# Where the parts of a picture begin


def _pieces(content: bytes) -> Iterator[bytes]:
    """The parts of a whole picture, which joined are the picture."""
    cuts = [0, *_cuts(content), len(content)]
    for start, end in pairwise(cuts):
        yield content[start:end]


def _cuts(content: bytes) -> Sequence[int]:
    """Where segments, chunks, boxes, entries of the picture begin, ascending."""
    if content.startswith(b"\xff\xd8"):
        return list(_segments(content))
    if content.startswith(_PNG):
        return list(_chunks(content, 8, ">", 12))
    if content.startswith(b"RIFF"):
        return list(_chunks(content, 12, "<", 8))
    if content[:2] in {b"II", b"MM"}:
        return list(_entries(content))
    if content.startswith(b"GIF"):
        return [
            found.start() for found in re.finditer(rb"[\x21\x2c]", content) if found.start() > 12
        ]
    return list(_boxes(content, 0, len(content)))


def _segments(content: bytes) -> Iterator[int]:
    at = 2
    while content[at + 1] != 0xDA:
        yield at
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    yield at


def _chunks(content: bytes, at: int, order: str, overhead: int) -> Iterator[int]:
    length_at = 0 if order == ">" else 4
    while at + 8 <= len(content):
        yield at
        length: int = struct.unpack_from(f"{order}I", content, at + length_at)[0]
        at += overhead + length + (length % 2 if order == "<" else 0)


def _entries(content: bytes) -> Iterator[int]:
    """TIFF 6.0 §2, and BigTIFF: the entries of the first directory."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = 43 in content[2:4]
    at = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", content, 8 if is_big else 4)[0]
    count = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", content, at)[0]
    yield at
    first, length = (at + 8, 20) if is_big else (at + 2, 12)
    yield from range(first, first + (count + 1) * length, length)


def _boxes(content: bytes, at: int, end: int) -> Iterator[int]:
    """ISO/IEC 14496-12 §4.2: boxes, and those within the ones that hold others."""
    within = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"trak": 8, b"mdia": 8, b"minf": 8}
    while at + 8 <= end:
        yield at
        length, name = struct.unpack_from(">I4s", content, at)
        length = length or end - at
        if name in within:
            yield from _boxes(content, at + within[name], at + length)
        at += length


if __name__ == "__main__":
    sys.stdout.buffer.write(mutation(*map(int, sys.argv[1:3])).content)
