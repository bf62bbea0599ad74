"""Facts read from whole files: EXIF data turns a PNG, and that of a TIFF needs no pixels."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import GPS, Base

import pictures
from exif_blocks import Stored, exif_block, tiff_file
from imageapi.imaging.decode_pool import DecodePool, PictureFacts
from imageapi.imaging.exif import Exif, read_exif_values
from imageapi.imaging.exif_position import read_exif_position
from imageapi.imaging.views import View
from pictures import CORNERS
from png_chunks import chunk, profile_text, raw_profile, with_chunks

PLACE = {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: 10, GPS.GPSLongitudeRef: "W", 4: 20}


@pytest.fixture(scope="module")
async def decoders() -> AsyncIterator[DecodePool]:
    decoders = DecodePool(1, max_pixels=1_000_000, seconds=20)
    yield decoders
    await decoders.close()


async def inspect(decoders: DecodePool, folder: Path, content: bytes, format_: str) -> PictureFacts:
    path = folder / "picture"
    path.write_bytes(content)
    return await decoders.inspect(path, format_, View(48))


def block(orientation: int) -> bytes:
    fields = {Base.Make: "a", Base.Orientation: Stored(3, struct.pack("<H", orientation))}
    return exif_block(fields, None, PLACE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("where", ["before", "behind", "stray prefix", "tEXt", "zTXt", "iTXt"])
async def test_png_is_turned_by_its_exif_data(
    decoders: DecodePool, tmp_path: Path, where: str, orientation: int
) -> None:
    exif = block(orientation)
    png = with_chunks(
        pictures.written(pictures.folded(pictures.marked(), orientation), "PNG"),
        before={
            "before": chunk(b"eXIf", exif),
            "stray prefix": chunk(b"eXIf", b"Exif\0\0" + exif),
        }.get(where, b"")
        or (profile_text(where, raw_profile(exif)) if where.endswith("Xt") else b""),
        behind=chunk(b"eXIf", exif) if where == "behind" else b"",
    )
    facts = await inspect(decoders, tmp_path, png, "png")
    assert (facts.width, facts.height) == (96, 64)
    assert pictures.corners(facts.mini) == list(CORNERS)
    assert (facts.exifs["Make"], facts.exifs["Orientation"]) == ("a", orientation)
    assert facts.position == [-10, -20]


async def test_png_is_turned_by_the_exif_data_that_are_told(
    decoders: DecodePool, tmp_path: Path
) -> None:
    sideways = pictures.folded(pictures.marked(), 6)
    profile = profile_text("zTXt", raw_profile(block(3)))
    png = with_chunks(pictures.written(sideways, "PNG"), profile, chunk(b"eXIf", block(6)))
    facts = await inspect(decoders, tmp_path, png, "png")
    assert facts.exifs["Orientation"] == 6
    assert pictures.corners(facts.mini) == list(CORNERS)


async def test_png_without_a_known_orientation_stays(decoders: DecodePool, tmp_path: Path) -> None:
    png = with_chunks(pictures.png(), chunk(b"eXIf", block(9)))
    facts = await inspect(decoders, tmp_path, png, "png")
    assert (facts.width, facts.height) == (96, 64)
    assert pictures.corners(facts.mini) == list(CORNERS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("samples", [(3, 32, 3), (3, 8, 1), (1, 16, 1)], ids=str)
async def test_facts_of_a_tiff_need_no_pixels_that_pillow_reads(
    decoders: DecodePool, tmp_path: Path, order: str, big: bool, samples: tuple[int, int, int]
) -> None:
    number, bits, _ = samples
    pixels = bytes(16 * 16 * number * bits // 8)
    content = tiff_file(pixels, (16, 16), samples, {Base.Make: "a"}, PLACE, order, big=big)
    facts = await inspect(decoders, tmp_path, content, "tiff")
    assert (facts.width, facts.height, facts.exifs["Make"]) == (16, 16, "a")
    assert facts.position == [-10, -20]


def test_facts_of_a_tiff_have_no_limit_of_pixels() -> None:
    exif = Exif.parse(tiff_file(b"", (60_000, 60_000), (1, 8, 1), {Base.Make: "a"}, PLACE))
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 60_000**2
    assert read_exif_values(exif)["Make"] == "a"
    assert read_exif_position(exif) == [-10, -20]


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (Stored(1, b"\6"), 6),
        (Stored(4, b"\6\0\0\0"), 6),
        (Stored(5, b"\6\0\0\0\1\0\0\0"), 6),
        (Stored(3, b"\6\0\1\0"), [6, 1]),
    ],
)
@pytest.mark.parametrize("format_", ["jpg", "png", "webp"])
async def test_orientation_of_another_type_turns_every_format_alike(
    decoders: DecodePool, tmp_path: Path, format_: str, stored: Stored, read: object
) -> None:
    exif = b"Exif\0\0" + exif_block({Base.Orientation: stored})
    sideways = pictures.folded(pictures.marked(), 6)
    name = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[format_]
    content = pictures.written(sideways, name, **({"exif": exif} if format_ != "png" else {}))
    if format_ == "png":
        content = with_chunks(content, chunk(b"eXIf", exif))
    facts = await inspect(decoders, tmp_path, content, format_)
    assert facts.exifs == {"Orientation": read}
    assert (facts.width, facts.height) == (96, 64)
    assert pictures.corners(facts.mini) == list(CORNERS)
