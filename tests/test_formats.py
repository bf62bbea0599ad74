"""The format of a file by its first bytes, and where a view lies in its picture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageapi.imaging.formats import MAGIC_BYTES, MEDIA_TYPES, detect_format
from imageapi.imaging.views import View
from pictures import each_format


def boxes(major: bytes, *compatible: bytes) -> bytes:
    """The first box of a file of ISO/IEC 14496-12, and the beginning of the next."""
    content = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(content) + 4).to_bytes(4) + content + b"\0\0\0\x08heic"


def test_what_encoders_write_is_known_by_its_head() -> None:
    for name, content in each_format().items():
        assert detect_format(content[:MAGIC_BYTES]) == name
        assert name in MEDIA_TYPES


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GIF87a", "gif"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"MM\0+\0\x08\0\0", "tiff"),
        (boxes(b"heic", b"mif1"), "heic"),
        (boxes(b"heix"), "heic"),
        (boxes(b"mif1", b"miaf", b"heic"), "heic"),
        (boxes(b"msf1", b"hevc", b"heis"), "heic"),
        (boxes(b"mif1", b"miaf"), "heif"),
        (boxes(b"avif", b"mif1", b"heic"), "avif"),
        (boxes(b"avis", b"msf1"), "avif"),
        (boxes(b"mif1", b"avif"), "avif"),
    ],
)
def test_brands_and_byte_orders_are_distinguished(head: bytes, name: str) -> None:
    assert detect_format(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"<?xml version='1.0'?><svg>",
        b"%PDF-1.7",
        b"<!doctype html>",
        b"BM\x36\0\0\0",
        b"\0\0\x01\0\x01\0",
        b"8BPS\0\x01",
        b"RIFF\0\0\0\0AVI LIST",
        b"GIF88a",
        boxes(b"isom", b"mp42"),
        boxes(b"qt  "),
        boxes(b"msf1"),
    ],
)
def test_all_else_is_no_format(head: bytes) -> None:
    assert detect_format(head) is None


@given(st.binary(max_size=MAGIC_BYTES))
def test_any_bytes_are_a_known_format_or_none(head: bytes) -> None:
    for beginning in (b"", b"\0\0\0\x20ftyp", b"RIFF"):
        name = detect_format(beginning + head)
        assert name is None or name in MEDIA_TYPES


numbers = st.floats(-1000, 1000)


@given(
    st.tuples(numbers, numbers, numbers, numbers),
    st.sampled_from([0, 90, 180, 270]),
    st.integers(1, 500),
    st.integers(1, 500),
)
def test_the_region_of_any_crop_lies_within_the_picture(
    crop: tuple[float, float, float, float], rotation: int, width: int, height: int
) -> None:
    left, top, wide, high = View(100, rotation, crop).compute_region(width, height)
    assert left >= 0
    assert top >= 0
    assert wide >= 1
    assert high >= 1
    assert left + wide <= width + 1e-6
    assert top + high <= height + 1e-6


def test_a_crop_is_of_the_turned_picture() -> None:
    # The left upper corner after each turn clockwise, in a picture of 100 by 60.
    corner = (0, 0, 10, 5)
    assert View(100, 0, corner).compute_region(100, 60) == (0, 0, 10, 5)
    assert View(100, 90, corner).compute_region(100, 60) == (0, 50, 5, 10)
    assert View(100, 180, corner).compute_region(100, 60) == (90, 55, 10, 5)
    assert View(100, 270, corner).compute_region(100, 60) == (95, 0, 5, 10)


def test_the_cropped_part_is_what_fits_the_edge() -> None:
    assert View(50).compute_scale(100, 60) == 0.5
    assert View(50, crop=(0, 0, 20, 10)).compute_scale(100, 60) == 1
    assert View(5, crop=(0, 0, 20, 10)).compute_scale(100, 60) == 0.25
