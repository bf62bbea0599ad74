"""TIFFs of all kinds: shown as what their numbers mean, or refused, and never shown black."""

import io
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from exif_blocks import Stored, exif_block, tiff_file
from fixture_types import TokenFor
from imageapi.imaging.decode_pool import DecodePool
from imageapi.imaging.errors import InvalidPicture, NotAPicture
from imageapi.imaging.views import View

RED = (200, 50, 20)
SIDE = 32
COUNT = SIDE * SIDE
RAW = "not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF"


@pytest.fixture
async def decoders() -> AsyncIterator[DecodePool]:
    pool = DecodePool(1, max_pixels=10**6)
    yield pool
    await pool.close()


def shorts(*values: int) -> Stored:
    return Stored(3, struct.pack(f"<{len(values)}H", *values))


def tiff(
    pixels: bytes,
    bits: int,
    channels: int,
    photometric: int,
    fields: Mapping[int, Any] | None = None,
) -> bytes:
    """A TIFF of 32 by 32 pixels in one strip, of unsigned integers if the fields do not differ."""
    more = {262: shorts(photometric), **(fields or {})}
    return tiff_file(pixels, (SIDE, SIDE), (channels, bits, 1), more)


async def show(decoders: DecodePool, folder: Path, content: bytes) -> tuple[int, ...]:
    """The colour in the middle."""
    path = folder / "picture"
    path.write_bytes(content)
    facts = await decoders.inspect(path, "tiff", View(SIDE))
    assert (facts.width, facts.height) == (SIDE, SIDE)
    with Image.open(io.BytesIO(facts.mini)) as shown:
        return shown.convert("RGB").getpixel((SIDE // 2, SIDE // 2))  # type: ignore[return-value]


def close_to(colour: tuple[float, ...]) -> Any:
    return pytest.approx(colour, abs=3)


def encode_srgb(linear: float) -> float:
    """IEC 61966-2-1."""
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return encoded * 255


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values) * COUNT


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values) * COUNT


FLOAT = {339: shorts(3)}
FLOATS = {339: shorts(3, 3, 3)}
NO_SUBSAMPLING = {530: shorts(1, 1)}
VIDEO_RANGE = {
    532: Stored(5, struct.pack("<12I", *[15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]))
}
KINDS = {
    "two extra channels": (tiff(bytes((*RED, 255, 9)) * COUNT, 8, 5, 2, {338: shorts(2, 0)}), RED),
    "a channel that is no alpha": (tiff(bytes((*RED, 0)) * COUNT, 8, 4, 2, {338: shorts(0)}), RED),
    "a channel that is not described": (tiff(bytes((*RED, 0)) * COUNT, 8, 4, 2), RED),
    "alpha": (tiff(bytes((*RED, 0)) * COUNT, 8, 4, 2, {338: shorts(2)}), (255, 255, 255)),
    "half of alpha": (
        tiff(bytes((200, 100, 0, 128)) * COUNT, 8, 4, 2, {338: shorts(2)}),
        (227, 177, 127),
    ),
    "half of premultiplied alpha": (
        tiff(bytes((100, 50, 0, 128)) * COUNT, 8, 4, 2, {338: shorts(1)}),
        (227, 177, 127),
    ),
    "alpha behind another channel": (
        tiff(bytes((*RED, 255, 0)) * COUNT, 8, 5, 2, {338: shorts(0, 2)}),
        (255, 255, 255),
    ),
    "grey and a channel": (tiff(bytes((90, 0)) * COUNT, 8, 2, 1, {338: shorts(0)}), (90,) * 3),
    "white is zero": (tiff(bytes((90,)) * COUNT, 8, 1, 0), (165,) * 3),
    "16 bits": (tiff(struct.pack("<3H", *(257 * c for c in RED)) * COUNT, 16, 3, 2), RED),
    "16 bits of grey": (tiff(struct.pack("<H", 257 * 90) * COUNT, 16, 1, 1), (90,) * 3),
    "32 bits": (tiff(longs(*(c * 0x1010101 for c in RED)), 32, 3, 2), RED),
    "32 bits of grey": (tiff(longs(90 * 0x1010101), 32, 1, 1), (90,) * 3),
    "floats": (
        tiff(floats(0.5, 0.2, 0.1), 32, 3, 2, FLOATS),
        tuple(map(encode_srgb, (0.5, 0.2, 0.1))),
    ),
    "floats of grey": (tiff(floats(0.5), 32, 1, 1, FLOAT), (encode_srgb(0.5),) * 3),
    # TIFF 6.0 §21, with the coefficients of CCIR 601-1.
    "YCbCr": (
        tiff(bytes((128, 128, 200)) * COUNT, 8, 3, 6, NO_SUBSAMPLING),
        (128 + 1.402 * 72 * 255 / 254, 128 - 0.714 * 72, 128),
    ),
    "YCbCr of video": (
        tiff(bytes((235, 128, 128)) * COUNT, 8, 3, 6, {**NO_SUBSAMPLING, **VIDEO_RANGE}),
        (255, 255, 255),
    ),
    "big-endian": (
        tiff_file(bytes(RED) * COUNT, (SIDE, SIDE), (3, 8, 1), None, None, ">", big=True),
        RED,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_pixels_are_shown_as_what_they_mean(
    decoders: DecodePool, tmp_path: Path, kind: str
) -> None:
    content, colour = KINDS[kind]
    assert await show(decoders, tmp_path, content) == close_to(colour)


async def test_spot_colours_are_kept_out_of_cmyk(decoders: DecodePool, tmp_path: Path) -> None:
    spot = tiff(bytes((0, 255, 255, 0, 7)) * COUNT, 8, 5, 5, {338: shorts(0)})
    plain = tiff(bytes((0, 255, 255, 0)) * COUNT, 8, 4, 5)
    red, green, blue = await show(decoders, tmp_path, spot)
    assert (red, green, blue) == await show(decoders, tmp_path, plain)
    assert red > 200
    assert max(green, blue) < 80


PIXELS = bytes(RED) * COUNT
UNREADABLE = {
    "a codec that is not there": tiff(PIXELS, 8, 3, 2, {259: shorts(50000)}),
    "a codec that nobody has": tiff(PIXELS, 8, 3, 2, {259: shorts(12345)}),
    "no strip": tiff(PIXELS, 8, 3, 2, {273: Stored(4, b"", 0), 279: Stored(4, b"", 0)}),
    "a strip of no byte": tiff(PIXELS, 8, 3, 2, {279: 0}),
    "a strip beyond the end": tiff(PIXELS, 8, 3, 2)[: -len(PIXELS)],
    "half a strip": tiff(PIXELS, 8, 3, 2)[: -len(PIXELS) // 2],
    "signed numbers": tiff(PIXELS, 8, 3, 2, {339: shorts(2, 2, 2)}),
    "YCbCr with fewer colours than pixels": tiff(PIXELS, 8, 3, 6),
    "old-style JPEG": tiff(PIXELS, 8, 3, 6, {259: shorts(6)}),
    "floats of 64 bits": tiff(struct.pack("<d", 0.5) * COUNT, 64, 1, 1, FLOAT),
    "12 bits": tiff(PIXELS, 12, 3, 2),
    "noise instead of LZW": tiff(b"\xa5" * 999, 8, 3, 2, {259: shorts(5)}),
    "noise instead of ZIP": tiff(b"\xa5" * 999, 8, 3, 2, {259: shorts(8)}),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_picture_whose_pixels_are_not_read_is_refused(
    decoders: DecodePool, tmp_path: Path, kind: str
) -> None:
    with pytest.raises(InvalidPicture):
        await show(decoders, tmp_path, UNREADABLE[kind])


def with_tiles(fields: Mapping[int, Any]) -> bytes:
    """A TIFF of one tile, with these of its fields changed."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), RED).save(file, "TIFF")
    tile = {322: shorts(SIDE), 323: shorts(SIDE), 324: 0, 325: len(PIXELS)}
    base = {
        256: shorts(SIDE),
        257: shorts(SIDE),
        258: shorts(8, 8, 8),
        259: shorts(1),
        262: shorts(2),
        277: shorts(3),
        **tile,
        **fields,
    }
    start = len(exif_block(base))
    return exif_block({**base, 324: fields.get(324, start)}) + PIXELS


@pytest.mark.parametrize(
    ("fields", "is_read"), [({}, True), ({324: 10**6}, False), ({325: 0}, False), ({325: 5}, False)]
)
async def test_tile_is_read_or_the_picture_refused(
    decoders: DecodePool, tmp_path: Path, fields: dict[int, Any], is_read: bool
) -> None:
    if is_read:
        assert await show(decoders, tmp_path, with_tiles(fields)) == close_to(RED)
    else:
        with pytest.raises(InvalidPicture):
            await show(decoders, tmp_path, with_tiles(fields))


def with_sub_ifd(ifd0: Mapping[int, Any], sub: Mapping[int, Any]) -> bytes:
    """A TIFF whose first page refers to a further directory, as raw files do."""
    head = tiff(bytes(RED) * COUNT, 8, 3, 2, {330: 0, **ifd0})
    at = len(head)
    content = tiff(bytes(RED) * COUNT, 8, 3, 2, {330: at, **ifd0})
    return content + exif_block(sub)[8:]


MOSAIC = {262: shorts(32803)}
RAW_FILES = {
    "DNG": tiff(PIXELS, 8, 3, 2, {254: 1, 50706: Stored(1, b"\1\4\0\0")}),
    "a mosaic": tiff(PIXELS, 8, 3, 32803),
    "linear raw": tiff(PIXELS, 8, 3, 34892),
    "a mosaic behind a thumbnail": with_sub_ifd({254: 1}, MOSAIC),
    "Nikon's compression": with_sub_ifd({254: 1}, {259: shorts(34713)}),
    "Sony's compression": with_sub_ifd({}, {259: shorts(32767)}),
    "CR2": PIXELS and b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + exif_block(MOSAIC)[8:],
    "IIQ": b"II*\0\x10\0\0\0IIII" + bytes(4) + exif_block({254: 1})[8:],
}


@pytest.mark.parametrize("kind", RAW_FILES)
async def test_raw_file_is_no_picture(decoders: DecodePool, tmp_path: Path, kind: str) -> None:
    with pytest.raises(NotAPicture, match=RAW):
        await show(decoders, tmp_path, RAW_FILES[kind])


async def test_raw_file_is_415(client: httpx.AsyncClient, album: str, may: TokenFor) -> None:
    answer = await client.post(
        f"/api/v1/albums/{album}/images",
        headers=may(album, "image_create"),
        files={"file": ("a.tif", RAW_FILES["DNG"])},
    )
    assert answer.status_code == 415
    assert RAW in answer.json()["detail"]


def pages(*kinds: tuple[int, tuple[int, int, int]]) -> bytes:
    """A TIFF of pages with these NewSubfileTypes and colours."""
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (SIDE, SIDE), colour) for _, colour in kinds]
    first.save(file, "TIFF", save_all=True, append_images=others, tiffinfo={254: 7})
    content = bytearray(file.getvalue())
    at = 0
    for kind, _ in kinds:
        at = content.index(struct.pack("<HHI", 254, 4, 1), at) + 8
        content[at : at + 4] = struct.pack("<I", kind)
    return bytes(content)


@pytest.mark.parametrize("types", [(1, 0), (4, 0), (1, 1, 0), (1, 2), (5, 0)], ids=str)
async def test_first_page_that_is_no_reduced_one_is_the_picture(
    decoders: DecodePool, tmp_path: Path, types: tuple[int, ...]
) -> None:
    content = pages(
        *[(kind, RED if at == len(types) - 1 else (0, 0, 9)) for at, kind in enumerate(types)]
    )
    assert await show(decoders, tmp_path, content) == close_to(RED)


async def test_first_of_several_pages_is_the_picture(decoders: DecodePool, tmp_path: Path) -> None:
    content = pages((0, RED), (0, (0, 0, 9)), (2, (9, 9, 9)))
    assert await show(decoders, tmp_path, content) == close_to(RED)
    assert await show(decoders, tmp_path, pages((1, RED), (1, (9, 9, 9)))) == close_to(RED)
