"""Records read in parts, by several processes: what comes out is what stands in the file."""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factories import changed, record
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.copy_format import CopyLines, NewImage, format_lines
from imageapi.transfer import parts as cutting
from imageapi.transfer.parts import joined, parts
from imageapi.transfer.readers import ReaderDied, Readers
from imageapi.transfer.record_reader import InvalidPart, Reader

READER = Reader(
    RecordSerializer(ZoneInfo("Europe/Paris"), {"full": 9, "large": 6, "mini": 3}), None
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
#: Lists of objects within an element look like elements, and begin with the same key.
objects = st.fixed_dictionaries(
    {"id": texts}, optional={"faces": st.lists(st.just({"id": "}, {"}), max_size=3), "x": values}
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "PART_BYTES", 40)


def chunks(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def arrays(cut: Iterator[bytes]) -> Iterator[Any]:
    """The array of each part, or of several that make one only together."""
    part = b""
    for following in cut:
        part = joined(part, following) if part else following
        try:
            yield json.loads(part)
        except json.JSONDecodeError:
            continue
        part = b""
    assert not part


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(objects, max_size=12), st.integers(1, 100), st.sampled_from([None, 0, 2]))
def test_parts_make_the_whole_array(array: list[Any], size: int, indent: int | None) -> None:
    text = json.dumps(array, indent=indent).encode()
    assert [each for one in arrays(parts(chunks(text, size))) for each in one] == array


def test_many_elements_are_many_parts() -> None:
    text = json.dumps([{"id": number} for number in range(100)]).encode()
    assert len(list(parts(chunks(text, 64)))) > 10


def test_text_without_end_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LARGEST_PART_BYTES", 10_000)
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield b" " * 1000

    (part,) = parts(endless())
    assert read <= 11_000
    with pytest.raises(InvalidPart):
        READER.read(part)


RECORDS = [
    record(
        "a",
        number,
        tags=('quo"ted', "back\\slash", "com,ma", "{brace}", "NULL", "Ünï 日本")[:number],
    )
    for number in range(7)
]


def read_slowly(part: bytes) -> CopyLines:
    return format_lines(READER._one_by_one(part))


def test_records_are_read_at_once_and_alike() -> None:
    part = json.dumps(RECORDS).encode()
    quickly = READER._at_once(part)
    assert quickly is not None
    assert format_lines(quickly) == read_slowly(part)


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
def test_what_no_record_may_hold_is_refused_as_one_by_one(text: str) -> None:
    part = json.dumps([RECORDS[0], RECORDS[1] | {"exifs": "<exifs>"}]).replace('"<exifs>"', text)
    assert READER._at_once(part.encode()) is None
    with pytest.raises(InvalidPart) as refused:
        READER.read(part.encode())
    assert refused.value.index == 1


@pytest.mark.parametrize("text", ["{}", "1", "null", '""', "[[]]", "[1]", ""])
def test_what_is_no_array_of_objects_is_refused(text: str) -> None:
    with pytest.raises(InvalidPart):
        READER.read(text.encode())


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


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), values, mutations)
def test_any_text_is_read_alike_at_once_or_not_at_all(
    data: st.DataObject, value: Any, mutation: str
) -> None:
    text = json.dumps([RECORDS[3] | {"exifs": {"a": value}, "crop_x": data.draw(values)}])
    at = data.draw(st.integers(0, len(text)))
    part = (text[:at] + mutation + text[at:] if data.draw(st.booleans()) else text).encode()
    quickly = READER._at_once(part)
    if quickly is not None:
        assert format_lines(quickly) == read_slowly(part)


def test_line_with_a_control_character_is_never_written() -> None:
    (image,) = READER._one_by_one(json.dumps(RECORDS[:1]).encode())
    for broken in (image._replace(format="a\tb"), image._replace(tags=["a\nb"])):
        assert isinstance(broken, NewImage)
        with pytest.raises(ValueError, match="control character"):
            format_lines([broken])


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    readers = Readers(READER)
    yield readers
    await readers.close()
    assert all(child._process.returncode is not None for child in readers._children)


async def read_all(readers: Readers, parts: Iterator[bytes], into: list[CopyLines]) -> None:
    async for lines in readers.read(parts):
        into.append(lines)  # noqa: PERF401 - what came before an error counts


async def test_parts_are_answered_in_order_by_several_processes(readers: Readers) -> None:
    given = [record("a", number) for number in range(300)]
    for each in given[::7]:
        each["infos"]["faces"] = [{"public_id": "x"}] * 40
    text = json.dumps(given).encode()
    read: list[CopyLines] = []
    await read_all(readers, parts(chunks(text, 5000)), read)
    assert len(read) > 10
    assert b"".join(lines.text for lines in read) == read_slowly(text).text
    assert sum(lines.count for lines in read) == 300


@pytest.mark.parametrize("number", [0, 57, 299])
@pytest.mark.parametrize("change", ["null", '{"a":1} {', '"', "\\"])
async def test_refusal_is_that_of_one_by_one(readers: Readers, number: int, change: str) -> None:
    given = [record("a", number) for number in range(300)]
    given[number] = changed(given[number], "exifs", "<exifs>")
    text = json.dumps(given).replace('"<exifs>"', change).encode()
    with pytest.raises(InvalidPart) as one_by_one:
        READER.read(text)
    read: list[CopyLines] = []
    with pytest.raises(InvalidPart) as refused:
        await read_all(readers, parts(chunks(text, 5000)), read)
    assert (sum(lines.count for lines in read) + refused.value.index, str(refused.value)) == (
        one_by_one.value.index,
        str(one_by_one.value),
    )


async def test_reader_that_is_killed_is_told(readers: Readers) -> None:
    one = json.dumps([record("a")]).encode()
    await read_all(readers, iter([one] * 20), [])
    for child in readers._children:
        os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(ReaderDied):
        await read_all(readers, iter([one] * 20), [])
