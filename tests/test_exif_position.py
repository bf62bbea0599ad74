"""The position in EXIF data, as careful and careless writers store it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from exif_blocks import LISBON, NOWHERE, Stored, by_pillow, exif_of, photograph, through_jpeg
from imageapi.imaging.exif import read_exif_values
from imageapi.imaging.exif_position import read_exif_position


def test_position_is_in_degrees() -> None:
    position = read_exif_position(through_jpeg(photograph()))
    assert position == pytest.approx([38.713750, -9.139333], abs=1e-6)


@pytest.mark.parametrize(("north_south", "latitude"), [("N", 1.5), ("S", -1.5), ("south", -1.5)])
@pytest.mark.parametrize(("east_west", "longitude"), [("E", 2.5), ("W", -2.5), ("w\0", -2.5)])
def test_position_has_its_hemispheres(
    north_south: str, latitude: float, east_west: str, longitude: float
) -> None:
    gps = {1: north_south, 2: (1, 30), 3: east_west, 4: (2, 30)}
    assert read_exif_position(through_jpeg(by_pillow(gps=gps))) == [latitude, longitude]
    assert read_exif_position(exif_of(gps=gps)) == [latitude, longitude]


@pytest.mark.parametrize("type_", [1, 2, 7, 129])
@pytest.mark.parametrize("ref", [b"S", b"S\0", b" s \0", b"\0S", b"South\0"])
def test_hemisphere_is_its_letter(type_: int, ref: bytes) -> None:
    exif = exif_of(gps={**LISBON, 1: Stored(type_, ref), 2: 10, 4: 20})
    assert read_exif_position(exif) == [-10, -20]
    if not ref.startswith(b"\0"):
        assert str(read_exif_values(exif)["GPSLatitudeRef"]).strip() == ref.decode().strip(" \0")


@pytest.mark.parametrize(
    ("angle", "degrees"),
    [
        ((48, 51, IFDRational(6000, 100)), 48 + 52 / 60),
        ((48, 60, 0), 49),
        ((48, 59, 60), 49),
        ((89, 59, 60), 90),
        ((48, IFDRational(60)), 49),
        ((48, 30, NOWHERE), 48.5),
        ((48, NOWHERE, NOWHERE), 48),
        ((48, NOWHERE), 48),
        ((IFDRational(485, 10), NOWHERE, 0), 48.5),
    ],
)
def test_rounded_and_missing_minutes_are_read(angle: Any, degrees: float) -> None:
    position = read_exif_position(exif_of(gps=LISBON | {2: angle, 4: 20}))
    assert position == [pytest.approx(degrees, abs=1e-12), -20]


@pytest.mark.parametrize(
    "angle",
    [(-48, 51, 30), (-48, -51, -30), (48, 51, 30), IFDRational(-48858333, 10**6), -48.858333],
)
def test_sign_that_agrees_with_the_hemisphere_changes_nothing(angle: Any) -> None:
    position = read_exif_position(exif_of(gps=LISBON | {1: "S", 2: angle, 3: "W", 4: angle}))
    assert position == pytest.approx([-48.858333, -48.858333], abs=1e-6)


def test_sign_of_less_than_a_degree_agrees() -> None:
    position = read_exif_position(exif_of(gps=LISBON | {1: "S", 2: (0, -30, 0), 4: 20}))
    assert position == [-0.5, -20]


@pytest.mark.parametrize("angle", [(10,), (9.0, 60 - 1e-9), 10, IFDRational(20, 2), [10, 0, 0]])
def test_angle_is_one_to_three_numbers(angle: Any) -> None:
    assert read_exif_position(exif_of(gps=LISBON | {2: angle, 4: angle})) == pytest.approx(
        [10, -10]
    )


@pytest.mark.parametrize("angle", [(90, 0, 0), 90])
def test_poles_are_places(angle: Any) -> None:
    assert read_exif_position(exif_of(gps=LISBON | {1: "S", 2: angle, 4: 180})) == [-90, -180]


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_half_a_position_is_none(missing: int) -> None:
    exif = exif_of(gps={tag: value for tag, value in LISBON.items() if tag != missing})
    assert read_exif_position(exif) is None


@pytest.mark.parametrize(
    "nonsense",
    [
        {1: ""},
        {1: "E"},
        {3: "N"},
        {3: "\0"},
        {1: 78},
        {1: Stored(2, b"")},
        {2: NOWHERE},
        {2: (38, IFDRational(5, 0), 0)},
        {2: (NOWHERE, 30, 0)},
        {2: (38, math.nan, 0)},
        {2: (38, 0, math.nan)},
        {2: math.inf},
        {2: (-1, 0, 0)},
        {2: (1, -1, 0)},
        {1: "S", 2: (1, -1, 0)},
        {2: (-38, 42, 0)},
        {2: (0, -42, 0)},
        {4: 9.5, 3: "E", 2: -1},
        {2: (1, 61, 0)},
        {2: (1, 0, 61)},
        {2: (1, 0, IFDRational(6001, 100))},
        {2: (90, 0, 60)},
        {2: (90, 0, 0.1)},
        {2: 91},
        {4: (180, 1)},
        {2: ()},
        {2: (1, 2, 3, 4)},
        {2: "38"},
        {2: Stored(2, b"38\042\00\0")},
        {2: b"\x26"},
        {2: Stored(1, b"\x26")},
        {2: Stored(99, b"\x26")},
        {2: Stored(5, b"\x26\0\0\0\1\0\0\0", 2**32 - 1)},
        {2: 1e300},
    ],
)
def test_nonsense_is_no_position(nonsense: dict[int, Any]) -> None:
    assert read_exif_position(exif_of(gps=LISBON | nonsense)) is None


def test_zero_and_zero_is_a_camera_without_a_fix() -> None:
    nowhere = (IFDRational(0), IFDRational(0), IFDRational(0))
    assert read_exif_position(exif_of(gps=LISBON | {2: nowhere, 4: nowhere})) is None


@pytest.mark.parametrize("gps", [{1: "S", 2: 0}, {4: 0}])
def test_equator_and_meridian_are_places_without_a_sign(gps: dict[int, Any]) -> None:
    position = read_exif_position(exif_of(gps=LISBON | gps))
    assert position is not None
    assert "-0.0" not in map(str, position)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_any_place_is_found_again(latitude: float, longitude: float) -> None:
    gps = {1: "S" if latitude < 0 else "N", 2: abs(latitude), 4: abs(longitude)}
    position = read_exif_position(exif_of(gps={**gps, 3: "W" if longitude < 0 else "E"}))
    assert position == ([latitude, longitude] if latitude or longitude else None)
    signed = {1: gps[1], 2: latitude, 3: "W" if longitude < 0 else "E", 4: longitude}
    assert read_exif_position(exif_of(gps=signed)) == position
