"""EXIF data of a PNG is found wherever writers put it, and damage costs only itself."""

import struct
import tracemalloc
import zlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.ExifTags import Base

import pictures
from exif_blocks import Stored, exif_block
from imageapi.imaging.exif import read_exif_values
from imageapi.imaging.png_metadata import MAX_CANDIDATES, find_png_exif
from png_chunks import chunk, profile_text, raw_profile, with_chunks

PNG = pictures.png()
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"


def block(make: str) -> bytes:
    return exif_block({Base.Make: make, Base.Orientation: Stored(3, b"\6\0")})


def exif_chunk(make: str, prefix: bytes = b"") -> bytes:
    return chunk(b"eXIf", prefix + block(make))


def make_in(before: bytes = b"", behind: bytes = b"") -> object:
    exif = find_png_exif(with_chunks(PNG, before, behind))
    assert exif.orientation == 6
    return read_exif_values(exif)["Make"]


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_chunk_is_found_before_and_behind_the_pixels(prefix: bytes) -> None:
    assert make_in(before=exif_chunk("a", prefix)) == "a"
    assert make_in(behind=exif_chunk("a", prefix)) == "a"


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("name", ["exif", "APP1", "EXIF", "app1"])
@pytest.mark.parametrize(
    "text",
    [
        partial(profile_text, "tEXt"),
        partial(profile_text, "zTXt"),
        partial(profile_text, "iTXt"),
        partial(profile_text, "iTXt", plain=True),
    ],
)
def test_raw_profile_is_found_in_every_kind_of_text(
    text: partial[bytes], name: str, prefix: bytes
) -> None:
    profile = text(raw_profile(prefix + block("a"), name), name)
    assert make_in(before=profile) == "a"
    assert make_in(behind=profile) == "a"


def test_chunk_goes_before_exif_profile_goes_before_app1() -> None:
    app1 = profile_text("tEXt", raw_profile(block("app1")), "APP1")
    exif = profile_text("zTXt", raw_profile(block("exif")))
    assert make_in(app1 + exif, exif_chunk("chunk")) == "chunk"
    assert make_in(app1, exif) == "exif"
    assert make_in(app1) == "app1"


def test_of_several_of_a_kind_the_first_is_taken() -> None:
    assert make_in(exif_chunk("first"), exif_chunk("second")) == "first"


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"eXIf", b""),
        chunk(b"eXIf", b"Exif\0\0"),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"eXIf", exif_block()),
        profile_text("tEXt", raw_profile(XMP, "APP1"), "APP1"),
        profile_text("tEXt", b""),
        profile_text("tEXt", b"\nexif\n     zwei\n00"),
        profile_text("tEXt", b"\nexif\n       4\nno digits"),
        profile_text("tEXt", b"\nexif\n       4\n\xff"),
        profile_text("tEXt", b"\nexif\n" + b"9" * 5000 + b"\n00"),
        chunk(b"zTXt", b"Raw profile type exif\0\0no zlib"),
        chunk(b"zTXt", b"Raw profile type exif"),
        chunk(b"iTXt", b"Raw profile type exif\0\1\0no more NULs"),
        chunk(b"iTXt", b"Raw profile type exif\0"),
        chunk(b"tEXt", b"no keyword"),
        chunk(b"tEXt", b""),
    ],
)
def test_broken_ones_are_skipped(broken: bytes) -> None:
    good = profile_text("tEXt", raw_profile(block("good")), "APP1")
    assert make_in(broken + good) == "good"
    with pytest.raises(ValueError, match="no EXIF data"):
        find_png_exif(with_chunks(PNG, broken))


def test_length_that_is_wrong_only_cuts() -> None:
    text = raw_profile(block("a") + bytes(4)).replace(b"\nexif\n", b"\nIPTC\n")
    assert make_in(profile_text("tEXt", text)) == "a"


def test_texts_that_unpack_to_gigabytes_cost_little_memory() -> None:
    bomb = b"Raw profile type exif\0\0" + zlib.compress(bytes(64 * 1024**2))
    png = with_chunks(PNG, chunk(b"zTXt", bomb) * (MAX_CANDIDATES + 9))
    tracemalloc.start()
    with pytest.raises(ValueError, match="no EXIF data"):
        find_png_exif(png)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 32 * 1024**2


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 1])
def test_chunk_that_ends_beyond_the_file_is_not_read(size: int) -> None:
    with pytest.raises(ValueError, match="no EXIF data"):
        find_png_exif(PNG[:8] + struct.pack(">L4s", size, b"eXIf") + block("a"))


@given(st.binary(), st.sampled_from([b"eXIf", b"tEXt", b"zTXt", b"iTXt"]), st.booleans())
def test_any_bytes_are_read_or_skipped(data: bytes, kind: bytes, is_profile: bool) -> None:
    keyword = b"Raw profile type exif\0" if is_profile else b""
    good = profile_text("tEXt", raw_profile(block("good")), "APP1")
    assert find_png_exif(with_chunks(PNG, chunk(kind, keyword + data) + good)).image
