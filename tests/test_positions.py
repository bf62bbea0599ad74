"""Which two numbers are a place on Earth."""

import math

import pytest

from imageapi.records.positions import is_position


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(0, 0), (90, 180), (-90, -180), (-0.0, 12.5), (48.85, -180.0)]
)
def test_place_on_earth(latitude: float, longitude: float) -> None:
    assert is_position(latitude, longitude)


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        *[(90.0001, 0), (-91, 0), (0, 180.0001), (0, -181)],
        *[(math.nan, 0), (0, math.nan), (math.inf, 0), (0, -math.inf)],
    ],
)
def test_no_place_on_earth(latitude: float, longitude: float) -> None:
    assert not is_position(latitude, longitude)
