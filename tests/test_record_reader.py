"""Records read at two speeds: both give the same lines, or the same refusal."""

import json
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import changed, record
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.transfer import record_reader
from imageapi.transfer.json_array import Element, read_array
from imageapi.transfer.record_reader import RecordReader, RecordRefused

READER = RecordReader(
    RecordSerializer(ZoneInfo("Europe/Paris"), {"full": 9, "large": 6, "mini": 3}), None
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def chunks(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


RECORDS = [
    record(
        "a",
        number,
        tags=('quo"ted', "back\\slash", "com,ma", "{brace}", "NULL", "Ünï 日本")[:number],
    )
    for number in range(7)
]


def elements(records: bytes) -> Iterator[Element]:
    return read_array(iter([records.decode()]))


def read(records: bytes) -> CopyLines:
    """All of the lines at once."""
    batches = list(READER.read([records]))
    return CopyLines(sum(each.count for each in batches), b"".join(each.text for each in batches))


def read_strictly(records: bytes) -> CopyLines:
    return format_lines([READER._read_strictly(element) for element in elements(records)])


def test_records_are_read_fast_and_alike() -> None:
    text = json.dumps(RECORDS).encode()
    fast = [READER._read_fast(element) for element in elements(text)]
    assert None not in fast
    assert format_lines(filter(None, fast)) == read_strictly(text) == read(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":{"b":"","b":""}}',
        r'{"a":1,"a":"\u0022\u0022"}',
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":-1e999}',
        r'{"a":"\u0000"}',
        r'{"\ud800":1}',
        '{"a":' + "[" * 40 + "]" * 40 + "}",
        '{"a":' + "9" * 5000 + "}",
        '{"a":01}',
    ],
)
def test_what_no_record_may_hold_is_refused_strictly(text: str) -> None:
    array = json.dumps([RECORDS[0], RECORDS[1] | {"exifs": "<exifs>"}])
    array = array.replace('"<exifs>"', text)
    with pytest.raises(RecordRefused) as refused:
        read(array.encode())
    assert refused.value.index == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":{"b":"","b":""}}',
        r'{"a":1,"a":"\u0022\u0022"}',
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":-1e999}',
        r'{"a":"\u0000"}',
        r'{"\ud800":1}',
        r'{"\udfff":1}',
        r'{"a":"\ud800"}',
        r'{"a":[{"\ud800":"\udc00"}]}',
        '{"a":' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_what_the_fast_way_would_take_is_not_read_by_it(text: str) -> None:
    array = json.dumps([RECORDS[1] | {"exifs": "<exifs>"}]).replace('"<exifs>"', text)
    (element,) = elements(array.encode())
    assert READER._read_fast(element) is None


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00", r"\udfff\ud800"])
@pytest.mark.parametrize("field", ["infos.x", "infos.location.x", "infos.etag", "exifs.x"])
def test_half_a_surrogate_pair_is_refused_wherever_it_is(field: str, half: str) -> None:
    in_a_value = json.dumps([changed(RECORDS[1], field, "<half>")]).replace("<half>", half)
    in_a_key = json.dumps([changed(RECORDS[1], f"{field}<half>", 1)]).replace("<half>", half)
    for array in (in_a_value, in_a_key):
        with pytest.raises(RecordRefused):
            read(array.encode())


def test_surrogate_pair_is_read_fast() -> None:
    array = json.dumps([changed(RECORDS[1], "exifs", {"a😀": "\N{GRINNING FACE}"})])
    assert r"\ud83d\ude00" in array
    (element,) = elements(array.encode())
    assert READER._read_fast(element) is not None


@pytest.mark.parametrize("text", ["{}", "1", "null", '""', "[[]]", "[1]", ""])
def test_what_is_no_array_of_objects_is_refused(text: str) -> None:
    with pytest.raises(RecordRefused):
        read(text.encode())


mutations = st.sampled_from(
    [
        '"',
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "0",
        "e9",
        "-",
        ".5",
        "null",
        "\\u0041",
        "\\u0022",
        " ",
    ]
)


@settings(max_examples=400)
@given(st.data(), values, mutations)
def test_any_text_is_read_alike_fast_or_not_at_all(
    data: st.DataObject, value: Any, mutation: str
) -> None:
    text = json.dumps([RECORDS[3] | {"exifs": {"a": value}, "crop_x": data.draw(values)}])
    at = data.draw(st.integers(0, len(text)))
    array = (text[:at] + mutation + text[at:] if data.draw(st.booleans()) else text).encode()
    try:
        (element,) = elements(array)
    except ValueError:
        return  # no array of one object
    fast = READER._read_fast(element)
    if fast is not None:
        assert format_lines([fast]) == read_strictly(array)


def test_line_with_a_control_character_is_never_written() -> None:
    (element,) = elements(json.dumps(RECORDS[:1]).encode())
    image = READER._read_strictly(element)
    for broken in (image._replace(format="a\tb"), image._replace(tags=["a\nb"])):
        assert isinstance(broken, NewImage)
        with pytest.raises(ValueError, match="control character"):
            format_lines([broken])


@pytest.mark.parametrize("size", [1, 5000])
def test_lines_come_in_batches_and_in_order(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(record_reader, "BATCH_CHARACTERS", 10_000)
    records = [record("a", number) for number in range(100)]
    for each in records[::7]:
        each["infos"]["faces"] = [{"public_id": "x"}] * 40
    text = json.dumps(records).encode()
    batches = list(READER.read(chunks(text, size)))
    assert len(batches) > 5
    assert all(len(each.text) < 20_000 for each in batches)
    assert b"".join(each.text for each in batches) == read_strictly(text).text
    assert sum(each.count for each in batches) == len(records)


@pytest.mark.parametrize("number", [0, 57, 299])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("null", "exifs: must be an object"),
        ('{"a":1} {', "is not JSON: "),
        ('"', "is not JSON: "),
        ("\\", "is not JSON: "),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_refusal_names_the_record_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch, number: int, change: str, reason: str
) -> None:
    monkeypatch.setattr(record_reader, "BATCH_CHARACTERS", 10_000)
    records = [record("a", number) for number in range(300)]
    records[number] = changed(records[number], "exifs", "<exifs>")
    text = json.dumps(records).replace('"<exifs>"', change).encode(errors="surrogateescape")
    lines: list[CopyLines] = []
    with pytest.raises(RecordRefused) as refused:
        lines.extend(READER.read(chunks(text, 5000)))
    assert refused.value.index == number
    assert str(refused.value).startswith(reason)
