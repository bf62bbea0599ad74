"""What a record may hold, and that it comes back as it was."""

import json
import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import DOCUMENTED_BODY, DOCUMENTED_RECORD, changed
from imageapi.records.parse import InvalidRecord, parse_record

PARIS = ZoneInfo("Europe/Paris")
NAN = float("nan")

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
KNOWN = set(DOCUMENTED_RECORD["infos"])


def rendered(record: Any) -> str:
    return parse_record(record).record(PARIS)


def same(left: Any, right: Any) -> bool:
    """Equal, the kinds of numbers and the order of keys included; -0.0 is not 0.0."""
    return type(left) is type(right) and json.dumps(left) == json.dumps(right)


def test_documented_record_is_rendered_to_the_byte() -> None:
    assert f"[{rendered(DOCUMENTED_RECORD)}]".encode() == DOCUMENTED_BODY


@given(st.dictionaries(texts, values, max_size=5))
def test_any_exifs_survive_in_their_order(exifs: dict[str, Any]) -> None:
    back = json.loads(rendered(changed(DOCUMENTED_RECORD, "exifs", exifs)))
    assert same(back["exifs"], exifs)


@given(st.dictionaries(texts.filter(lambda key: key not in KNOWN), values, max_size=5))
def test_unknown_infos_survive_in_their_order(more: dict[str, Any]) -> None:
    infos = {**DOCUMENTED_RECORD["infos"], **more}
    back = json.loads(rendered(changed(DOCUMENTED_RECORD, "infos", infos)))
    assert same(back["infos"], infos)


@given(
    st.integers(-90, 90) | st.floats(-90, 90),
    st.integers(-180, 180) | st.floats(-180, 180),
    st.integers(0, 10**9) | st.floats(0, 1e9),
)
def test_numbers_keep_value_and_kind(latitude: float, longitude: float, accuracy: float) -> None:
    location = {"accuracy": accuracy, "latitude": latitude, "longitude": longitude}
    record = changed(DOCUMENTED_RECORD, "infos.location", location)
    for name in ("gps", "gps_ip", "gps_exifs", "gps_html"):
        record[name] = [latitude, longitude]
    assert same(json.loads(rendered(record)), record)


@given(st.datetimes(timezones=st.timezones()).filter(lambda date: 1971 < date.year < 9998))
def test_date_comes_back_as_the_same_moment(date: Any) -> None:
    date = date.replace(microsecond=date.microsecond // 1000 * 1000, fold=0)
    offset = date.utcoffset()
    if offset.total_seconds() % 60:
        return  # RFC 3339 cannot write it
    text = date.isoformat(timespec="milliseconds")
    image = parse_record(changed(DOCUMENTED_RECORD, "created_at", text))
    # In UTC: where an hour comes twice, Python calls no two dates of different zones equal.
    assert image.created_at.astimezone(UTC) == date.astimezone(UTC)
    written = json.loads(image.record(PARIS))["created_at"]
    assert datetime.fromisoformat(written).astimezone(UTC) == date.astimezone(UTC)


def test_location_that_was_not_given_stays_away() -> None:
    record = changed(DOCUMENTED_RECORD, "gps_html", None)
    del record["infos"]["location"]
    assert same(json.loads(rendered(record)), record)


def test_date_is_written_with_the_offset_of_that_moment() -> None:
    summer = changed(DOCUMENTED_RECORD, "created_at", "2016-07-01T00:00:00Z")
    assert json.loads(rendered(summer))["created_at"] == "2016-07-01T02:00:00.000+02:00"
    image = parse_record(summer)
    assert '"created_at":"2016-07-01T00:00:00.000+00:00"' in image.record(ZoneInfo("UTC"))


def test_upper_case_id_is_the_same_id() -> None:
    record = changed(DOCUMENTED_RECORD, "public_id", DOCUMENTED_RECORD["public_id"].upper())
    assert json.loads(rendered(record))["public_id"] == DOCUMENTED_RECORD["public_id"]


ALBUM = DOCUMENTED_RECORD["album_id"]
UNFIT = {
    "public_id": ["", "x", 7, None, "078fafdcf05a44c494dfc04244c7cda4", "{" + "0" * 34 + "}"],
    "infos": [None, [], "x"],
    "infos.bytes": [-1, 1.5, "3604", True, None, 2**60],
    "infos.created_at": ["2015-09-25", "2015-09-25T13:32:55", "2015-09-25T13:32:55.5Z", 0, None],
    "infos.etag": ["", "5A98D4D3E5D39024ABF237BE55E99B15", "5a98", None],
    "infos.format": ["", "../png", "PNG", None, "x" * 17],
    "infos.height": [0, -48, 48.0, "48", None, 2**31],
    "infos.resource_type": ["video", None],
    "infos.tags": [[], None, "x", ["other"], [ALBUM, ALBUM], [ALBUM, "a", "a"]],
    "infos.tags.1": ["", " a", "a ", "x" * 101, "a\u0301", "a\tb", "a\x7f", 7, None],
    "infos.type": ["public", None],
    "infos.width": [0, None],
    "infos.location": [None, [], {}, {"accuracy": 1, "latitude": 0}],
    "infos.location.accuracy": [-1, "36", True, None, NAN],
    "infos.location.latitude": [90.1, -91, "48", None, NAN, math.inf],
    "infos.location.longitude": [180.1, -181, None, -math.inf],
    "infos.extra": [NAN, "a\0b", {"a": ["\ud800"]}, {"a\0": 1}],
    "exifs": [None, [], {"a": {"b": NAN}}, {"a": "\0"}, {"\udfff": 1}],
    "gps": [
        [],
        [1],
        [1, 2, 3],
        ["1", "2"],
        [None, None],
        [91, 0],
        [0, 181],
        [True, False],
        "x",
        {},
    ],
    "gps_html": [[NAN, 0], 7],
    "created_at": [
        "2016-02-15T13:02:58.531",
        "2016-02-15 13:02:58.531+01:00",
        "2016-02-30T13:02:58.531+01:00",
        "2016-02-15T25:02:58.531+01:00",
        "2016-02-15T13:02:58.5311+01:00",
        "1969-12-31T23:59:59Z",
        "2016-02-15T13:02:58+0100",
        "2016-02-15T13:02:58+01:60",
        1455537778,
        None,
    ],
    "width": [0, 1.5, None, "48", True],
    "height": [-1],
    "rotation": [1, 360, -90, "90", None, True],
    "crop_x": [-0.1, "0", None, NAN],
    "crop_h": [math.inf],
    "album_id": ["", "a b", "x" * 65, None, 7],
    "thumbnails": [None, {}, {"full": "/a", "large": "/b"}],
    "thumbnails.mini": ["", "javascript:alert(1)", "a.jpg", None, "/a b", "/" + "x" * 2048],
    "thumbnails.huge": ["/a"],
    "unknown": [1],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in UNFIT.items() for value in values]
)
def test_unfit_value_is_refused_by_name(field: str, value: Any) -> None:
    record = changed(DOCUMENTED_RECORD, "infos.tags", [ALBUM, "a tag"])
    if field == "infos.tags.1":
        record["infos"]["tags"][1] = value
    else:
        record = changed(record, field, value)
    with pytest.raises(InvalidRecord) as error:
        parse_record(record)
    assert str(error.value).startswith(field)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", list(DOCUMENTED_RECORD))
def test_missing_field_is_refused_by_name(field: str) -> None:
    record = {name: value for name, value in DOCUMENTED_RECORD.items() if name != field}
    with pytest.raises(InvalidRecord, match=f"^{field}: is required"):
        parse_record(record)


@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord, match="must be an object"):
        parse_record(value)


def test_nesting_has_an_end() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InvalidRecord, match=r"^exifs\.deep.*nested too deep"):
        parse_record(changed(DOCUMENTED_RECORD, "exifs", {"deep": deep}))
