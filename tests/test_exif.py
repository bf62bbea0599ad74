"""What the camera wrote as JSON values, and whatever a stranger wrote instead."""

import json
import math
import unicodedata
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from exif_blocks import LISBON, Stored, by_pillow, exif_block, exif_of, photograph, through_jpeg
from imageapi.imaging.exif import MAX_EXIF_JSON_BYTES, MAX_LIST_VALUES, Exif, read_exif_values
from imageapi.imaging.exif_position import read_exif_position
from imageapi.imaging.exif_text import MAX_TEXT_CHARACTERS


def as_json(exif: Exif) -> str:
    return json.dumps(read_exif_values(exif), allow_nan=False, separators=(",", ":"))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in (*value, *value.values()) for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def assert_fit_for_json(exif: Exif) -> None:
    """Whatever the exif holds: encodable, within the limits, each text clean, a place on Earth."""
    values = read_exif_values(exif)
    assert json.loads(as_json(exif)) == values
    assert len(as_json(exif)) <= MAX_EXIF_JSON_BYTES
    json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    for text in strings(values):
        assert len(text) <= MAX_TEXT_CHARACTERS
        assert {unicodedata.category(each) for each in set(text) - set("\n\t")}.isdisjoint(
            {"Cc", "Cs"}
        )
    if (position := read_exif_position(exif)) is not None:
        assert abs(position[0]) <= 90
        assert abs(position[1]) <= 180


def test_values_of_a_photograph_come_in_the_order_of_their_ifds() -> None:
    values = read_exif_values(through_jpeg(photograph()))
    assert values == {
        "Make": "NIKON",
        "Orientation": 6,
        "XResolution": 300,
        "ExposureTime": 0.25,
        "ExifVersion": "0232",
        "DateTimeOriginal": "2016:02:15 13:02:58",
        "UserComment": "a comment",
        "FlashPixVersion": "0100",
        "LensSpecification": [24, 70, None, None],
        "GPSVersionID": [2, 3, 0, 0],
        "GPSLatitudeRef": "N",
        "GPSLatitude": [38, 42, 49.5],
        "GPSLongitudeRef": "W",
        "GPSLongitude": [9, 8, 21.6],
        "GPSAltitudeRef": 1,
    }
    assert [*values][:4] == ["Make", "Orientation", "XResolution", "ExposureTime"]
    assert [*values][-1] == "GPSAltitudeRef"


def test_whole_numbers_are_ints() -> None:
    values = read_exif_values(through_jpeg(photograph()))
    assert isinstance(values["XResolution"], int)
    assert isinstance(values["ExposureTime"], float)


def test_photograph_without_exif_has_no_values_and_no_position() -> None:
    for exif in (exif_of(), exif_of({}, {}, {})):
        assert read_exif_values(exif) == {}
        assert read_exif_position(exif) is None


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_prefixes_are_skipped(prefix: bytes) -> None:
    assert read_exif_values(Exif.parse(prefix + exif_block({Base.Make: "a"}))) == {"Make": "a"}


def test_big_endian_reads_the_same() -> None:
    little, big = (
        exif_of(
            {Base.Make: "a", Base.XResolution: IFDRational(1, 3)}, {Base.ISOSpeed: 7}, LISBON, each
        )
        for each in "<>"
    )
    assert read_exif_values(little) == read_exif_values(big)
    assert read_exif_position(little) == read_exif_position(big) is not None


@pytest.mark.parametrize(
    "tag", [Base.XMLPacket, Base.IPTCNAA, Base.ImageResources, Base.InterColorProfile, 50341, 330]
)
def test_blocks_of_other_standards_and_pointers_are_left_out(tag: int) -> None:
    for value in (b"text", "text", 7, (7, 8)):
        assert read_exif_values(exif_of({tag: value})) == {}


def test_tags_without_a_known_name_are_left_out() -> None:
    exif = exif_of({0xFEDC: 1}, {0xFEDC: "a"}, {200: "b"})
    assert read_exif_values(exif) == {}


def test_thumbnail_and_interoperability_ifds_are_left_out() -> None:
    exif = by_pillow({Base.Make: "a"}, {IFD.Interop: {1: "R98"}})
    assert read_exif_values(through_jpeg(exif)) == {"Make": "a"}


def test_of_two_tags_with_one_name_the_first_stays() -> None:
    assert read_exif_values(exif_of({Base.Software: "a"}, {Base.Software: "b"})) == {
        "Software": "a"
    }


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (IFDRational(5, 0), None),
        (IFDRational(-1, 3), -1 / 3),
        (Fraction(4, 2), 2),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (-0.0, 0),
        (1e300, 1e300),
        (True, 1),
        (2**64 - 1, 2**64 - 1),
        ((1, math.nan, IFDRational(1, 4)), [1, None, 0.25]),
        (Stored(6, b"\xff\1"), [-1, 1]),
    ],
)
def test_numbers_are_json(value: Any, read: object) -> None:
    values = read_exif_values(exif_of({Base.BatteryLevel: value}))
    assert values == {"BatteryLevel": read}
    assert type(values["BatteryLevel"]) is type(read)


@pytest.mark.parametrize(
    "value",
    [
        b"binary",
        (),
        Stored(1, b"binary"),
        Stored(99, b"of no known type"),
        Stored(4, b"1234", 2**32 - 1),
        Stored(2, b"far beyond the end", 2**32 - 1),
        Stored(129, b"\xff\xff\xff\xff", 5),
        (1,) * (MAX_LIST_VALUES + 1),
    ],
    ids=str,
)
def test_values_without_a_place_in_json_are_left_out(value: Any) -> None:
    exif = exif_of({Base.BatteryLevel: value, Base.Artist: "stays"})
    assert read_exif_values(exif) == {"Artist": "stays"}


@pytest.mark.parametrize(
    "pointer",
    [0, 7, 0xFFFFFFFF, 2**32, -1, "8", b"8", (8, 8), (), 8.5, math.nan, math.inf, Stored(99, b"8")],
    ids=str,
)
def test_directory_that_cannot_be_read_costs_only_itself(pointer: Any) -> None:
    exif = exif_of({Base.Make: "a", IFD.Exif: pointer, IFD.GPSInfo: pointer})
    assert read_exif_values(exif) == {"Make": "a"}
    assert read_exif_position(exif) is None


def test_directories_that_are_one_are_read() -> None:
    exif = exif_of({Base.Make: "a", IFD.Exif: 8, IFD.GPSInfo: 8})
    assert read_exif_values(exif) == {"Make": "a"}


def test_list_of_the_most_values_is_kept() -> None:
    exif = exif_of({Base.BitsPerSample: (1,) * MAX_LIST_VALUES})
    assert read_exif_values(exif) == {"BitsPerSample": [1] * MAX_LIST_VALUES}


def test_what_is_beyond_the_largest_json_is_left_out() -> None:
    tags = [tag for tag in Base if tag.name.startswith(("Image", "Lens", "DNG", "Profile"))]
    exif = exif_of(
        {Base.Artist: "kept", **dict.fromkeys(tags, "東" * MAX_TEXT_CHARACTERS)}, {}, {1: "N"}
    )
    assert 6 * MAX_TEXT_CHARACTERS < len(as_json(exif)) <= MAX_EXIF_JSON_BYTES
    assert "GPSLatitudeRef" not in read_exif_values(exif)


def assert_any_block_is_fit(block: bytes) -> None:
    with suppress(ValueError):
        assert_fit_for_json(Exif.parse(block))


@given(
    st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"MM\0+\0\x08\0\0"]), st.binary()
)
@example(b"II*\0", b"\0\0\0\0")
def test_any_bytes_are_read_without_an_error(head: bytes, rest: bytes) -> None:
    assert_any_block_is_fit(head + rest)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Base, *IFD]).filter(lambda tag: tag > 0),
            st.integers(0, 18) | st.just(129),
            st.binary(max_size=64),
        ),
        max_size=12,
    ),
    st.sampled_from("<>"),
)
def test_any_tags_of_any_type_are_read_without_an_error(
    tags: list[tuple[int, int, bytes]], order: str
) -> None:
    fields = {tag: Stored(type_, content) for tag, type_, content in tags}
    assert_fit_for_json(exif_of(fields, fields, fields, order))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_photograph_is_read_without_an_error(damage: list[tuple[int, int]]) -> None:
    block = bytearray(photograph().tobytes()[6:])
    for place, byte in damage:
        block[place % len(block)] = byte
    assert_any_block_is_fit(bytes(block))


@given(st.integers(0, 1000))
def test_photograph_that_ends_early_is_read_without_an_error(length: int) -> None:
    assert_any_block_is_fit(photograph().tobytes()[6:][:length])


@given(st.text(st.characters(codec=None)), st.binary())
def test_any_text_and_comment_come_out_clean(text: str, comment: bytes) -> None:
    camera = {Base.UserComment: b"UNICODE\0" + comment, Base.XPTitle: comment}
    assert_fit_for_json(exif_of({}, {Base.UserComment: comment}, {GPS.GPSAreaInformation: comment}))
    assert_fit_for_json(exif_of({Base.Artist: text}, camera, {1: text}))
