"""Reading a JSON array an element at a time, wherever the chunks happen to end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageapi.transfer.json_array import LONGEST_ELEMENT, UnreadableArray, read_array

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
objects = st.dictionaries(
    texts, st.none() | st.integers() | st.floats(allow_nan=False) | texts | st.lists(texts)
)


def chunked(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(st.lists(objects, max_size=5), st.integers(1, 50), st.booleans())
def test_array_is_read_whatever_the_chunks(
    array: list[Any],
    size: int,
    spaced: bool,
) -> None:
    text = json.dumps(array, indent=2 if spaced else None, ensure_ascii=not spaced)
    assert list(read_array(chunked(text, size))) == array


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
        list(read_array([text] if text else []))
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
    assert read * 100_000 < LONGEST_ELEMENT + 200_000
