"""The texts of records: the same for one version of what serializes them, and made of nothing else.

Records are stored as texts, and written again only where the version differs. If the texts of new
records changed while the version stayed, an album would hold texts of both kinds.
"""

import copy
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from factories import ODD_TAGS, changed, record
from imageapi.albums.record_serializer import SERIALIZER_VERSION, RecordSerializer
from imageapi.records.parse import parse_record

#: SHA-256 of the texts below, by the version that made them. Add to it, and change nothing.
DIGESTS = {
    # pragma: allowlist nextline secret
    2: "f007f3233315a7d3ac89ccf6835b90687ace168527bc5c6b7a07042597b3ce68",
}

SIZES = {"full": 1600, "large": 480, "mini": 120}
RENDERINGS = [
    RecordSerializer(ZoneInfo("Europe/Paris"), SIZES),
    RecordSerializer(ZoneInfo("UTC"), {"full": 2000, "large": 500, "mini": 100}),
    RecordSerializer(ZoneInfo("Asia/Kathmandu"), SIZES),
    RecordSerializer(ZoneInfo("America/St_Johns"), SIZES),
]
ASSET_KEYS = [None, bytes(range(16))]

NUMBERS = [0, -0.0, 1, 1.0, -1.5, 0.1, 1e-7, 1e16, 1.7976931348623157e308, 2**53, 2**70, 48.8619344]
TEXTS = ["", "é", "e\u0301", "日本", "📷", '"\\/', "\b\t\n\r\x01\x7f", "<&>", "\u2028", "\ufeff"]
EXIFS = {
    "Make": "Canon",
    "Numbers": NUMBERS,
    "Texts": TEXTS,
    "Nested": {"b": [{}, [], None, True, False], "a": {"": {"é": 1}}},
}
CROPPED = {"crop_x": 1, "crop_y": 2.5, "crop_w": 10.0, "crop_h": 1e-3, "rotation": 270}


def without_location(value: Any) -> Any:
    result = copy.deepcopy(value)
    del result["infos"]["location"]
    return result


def records() -> Iterator[Any]:
    """Records of every kind that there is."""
    plain = record("an-album", 1)
    yield plain
    yield record("an-album", 2, ODD_TAGS)
    yield record("an-album", 3, tuple(f"tag {each}" for each in range(100)))
    yield record("an-album", 4, exifs=EXIFS)
    yield changed(plain, "infos", {**plain["infos"], "folder": "é", "version": NUMBERS, "x": EXIFS})
    yield without_location(plain)
    location = {"accuracy": 36.5, "latitude": -90, "longitude": 180.0, "speed": None, "a": EXIFS}
    yield changed(plain, "infos.location", location)
    yield record("an-album", 5, gps=[1, 2.0], gps_ip=[-90, 180], gps_exifs=[0.0, -0.0])
    yield record("an-album", 6, gps=None, gps_ip=None, gps_exifs=None, gps_html=None)
    yield record("an-album", 7, **CROPPED)
    yield record("an-album", 8, width=2**31 - 1, height=1, rotation=90)
    yield record("an-album", 9, public_id="078FAFDC-F05A-44C4-94DF-C04244C7CDA4")
    yield changed(plain, "infos.created_at", "2015-09-25T15:32:55+02:00")
    for moment in (
        "1970-01-01T00:00:00Z",
        "2016-02-15T13:02:58.531+01:00",
        "2016-07-01T00:00:00.5-03:30",
        "2016-10-30T00:30:00Z",  # half past two in Paris, twice
        "2016-10-30T01:30:00Z",
        "2016-12-31t23:59:59.999z",
    ):
        yield changed(plain, "created_at", moment)
    paths = dict.fromkeys(SIZES, "https://example.org/a?b=c&d=%20")
    yield changed(plain, "thumbnails", paths)


CASES = [
    (serializer, each, asset_key)
    for serializer in RENDERINGS
    for asset_key in ASSET_KEYS
    for each in records()
]


def test_texts_change_only_together_with_their_version() -> None:
    texts = [
        serializer.serialize(parse_record(each), asset_key) for serializer, each, asset_key in CASES
    ]
    digest = sha256("\n".join(texts).encode()).hexdigest()
    assert SERIALIZER_VERSION in DIGESTS, (
        f"Version {SERIALIZER_VERSION} is new. Add its digest here: {digest}"
    )
    assert DIGESTS[SERIALIZER_VERSION] == digest, (
        f"The texts of records differ from those of version {SERIALIZER_VERSION}: raise the version"
        f" (RENDERING in albums/record_serializer.py), and add the new one's digest here: {digest}"
    )


def test_each_version_is_the_last_one_and_has_texts_of_its_own() -> None:
    assert max(DIGESTS) == SERIALIZER_VERSION
    assert len(set(DIGESTS.values())) == len(DIGESTS)


@pytest.mark.parametrize("asset_key", ASSET_KEYS, ids=["imported", "uploaded"])
@pytest.mark.parametrize("serializer", RENDERINGS, ids=lambda each: each.time_zone.key)
def test_what_is_serialized_stays_as_it_was(
    serializer: RecordSerializer, asset_key: bytes | None
) -> None:
    """Compared by ``repr``: dates of two time zones are equal where they are the same moment."""
    for value in records():
        before = repr(copy.deepcopy(value))
        image = parse_record(value)
        assert repr(value) == before
        expected = repr(copy.deepcopy(image))
        first = serializer.serialize(image, asset_key)
        assert repr(image) == expected
        assert serializer.serialize(image, asset_key) == first
        image.record(ZoneInfo("Pacific/Apia"))
        assert repr(image) == expected
