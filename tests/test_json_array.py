"""Reading a JSON array an element at a time, wherever the chunks happen to end."""

import json
import math
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import record
from imageapi.records.parse import InvalidRecord, parse_record
from imageapi.transfer.json_array import (
    MAX_ELEMENT_CHARACTERS,
    StrictValue,
    UnreadableArray,
    decode_strictly,
    read_array,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
objects = st.dictionaries(
    texts, st.none() | st.integers() | st.floats(allow_nan=False) | texts | st.lists(texts)
)


def read_strictly(chunks: Iterable[str]) -> list[StrictValue]:
    return [decode_strictly(element) for element in read_array(chunks)]


def chunked(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(st.lists(objects, max_size=5), st.integers(1, 50), st.booleans())
def test_array_is_read_whatever_the_chunks(
    array: list[Any],
    size: int,
    spaced: bool,
) -> None:
    text = json.dumps(array, indent=2 if spaced else None, ensure_ascii=not spaced)
    read = list(read_array(chunked(text, size)))
    assert [element.value for element in read] == array
    assert [json.loads(element.text) for element in read] == array
    assert [element.number for element in read] == list(range(len(array)))
    assert [value for value, _ in read_strictly(chunked(text, size))] == array


@given(st.lists(objects, min_size=1, max_size=3), st.integers(1, 20), st.data())
def test_cut_array_is_refused(array: list[Any], size: int, data: st.DataObject) -> None:
    text = json.dumps(array)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(UnreadableArray):
        list(read_array(chunked(cut, size)))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", 0),
        ("   ", 0),
        ("{}", 0),
        ("null", 0),
        ("[1]", 0),
        ("[{},]", 1),
        ("[,{}]", 0),
        ("[{} {}]", 0),
        ("[{},{]", 1),
        ("[{}]x", 1),
        ("[{}][]", 1),
        ('[{"a":1},{"a":1,"a":2}]', 1),
        ('[{"a":{"b":1,"b":1}}]', 0),
        ("[" + '{"a":' * 100_000 + "1", 0),
        ('[{"a":' + "9" * 5000 + "}]", 0),
        ("[{'a':1}]", 0),
    ],
)
def test_what_is_no_array_of_objects_is_refused_at_its_place(text: str, index: int) -> None:
    with pytest.raises(UnreadableArray) as error:
        read_strictly([text] if text else [])
    assert error.value.index == index


def test_element_without_end_is_not_read_forever() -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        yield '[{"a":"'
        while True:
            read += 1
            yield "x" * 100_000

    with pytest.raises(UnreadableArray, match="far too long"):
        list(read_array(endless()))
    assert read * 100_000 < MAX_ELEMENT_CHARACTERS + 200_000


def test_longest_element_is_read_and_a_longer_one_refused() -> None:
    text = '{"a":"' + "x" * (MAX_ELEMENT_CHARACTERS - 8) + '"}'
    (element,) = read_array(chunked(f"[{text}]", 100_000))
    assert element.text == text
    longer = text[:-2] + "x" * 30_000_000 + '"}'
    with pytest.raises(UnreadableArray, match="far too long") as refused:
        list(read_array(chunked(f"[{{}},{longer}]", 100_000)))
    assert refused.value.index == 1


def test_white_space_is_skipped_and_not_kept() -> None:
    """A file of nothing else ends the reading, in the memory of a chunk."""
    tracemalloc.start()
    with pytest.raises(UnreadableArray):
        list(read_array(" " * 100_000 for _ in range(500)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


unfit = st.sampled_from(
    ["\0", "a\0b", "\ud800", "\udfff", math.inf, -math.inf, math.nan, 10**400, [[[[1]]]] * 20]
)
inner = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | unfit,
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.just("\0"), values),
)


def refused(value: object, *, is_plain: bool) -> str | None:
    try:
        parse_record(value, is_plain=is_plain)
    except InvalidRecord as error:
        return str(error)
    return None


@given(st.dictionaries(st.text(max_size=5), inner, max_size=3), st.booleans())
def test_what_is_called_plain_is(exifs: dict[str, Any], escaped: bool) -> None:
    """What is not looked through would not have been refused."""
    text = json.dumps([record("a") | {"exifs": exifs}], ensure_ascii=escaped)
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # no text that was read from UTF-8
    for value, is_plain in read_strictly([text]):
        assert refused(value, is_plain=is_plain) == refused(value, is_plain=False)


@pytest.mark.parametrize(
    "text",
    [
        *("1e999", "-1E+400", "1" + "0" * 400 + ".0", "NaN", "-Infinity"),
        *(r'"\uD800"', r'"\u0000"', "[" * 40 + "]" * 40),
    ],
)
def test_what_is_written_oddly_is_not_plain(text: str) -> None:
    whole = json.dumps([record("a") | {"exifs": {"x": "here"}}]).replace('"here"', text)
    ((value, is_plain),) = read_strictly([whole])
    assert not is_plain
    assert refused(value, is_plain=is_plain) is not None
