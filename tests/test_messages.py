"""What is wrong with an input is said in plain words, never in a validator's."""

import re
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import httpx
import pytest
from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import core_schema

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.auth.claims import ABILITIES
from imageapi.records.fields import PATTERN_MESSAGES
from imageapi.records.image import Image
from imageapi.records.messages import describe_error
from pictures import jpeg

#: How Pydantic's own sentences begin.
OF_PYDANTIC = re.compile(
    r"(Input|String|List|Value|Field|Extra|Object|Datetime|Assertion|Unable|Dictionary|Tuple|UUID"
    r"|Date|Bytes|URL|Decimal|Boolean|Instance|JSON|Invalid|Data|Set|Unexpected|Missing)\b",
)
#: Values of every JSON type, and some that are nearly what a field takes.
VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        45,
        10**20,
        "",
        "x",
        "x" * 5000,
        "\ud800",
        "1_0",
        [],
        [1],
        ["a"] * 200,
    ),
    *({}, {"a": 1}, [None, None], [91, 0], "2016", "2016-02-15T13:02:58", float("inf")),
]


def list_paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a record."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from list_paths(inner, (*path, key))


def with_value(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(copy[path[0]], path[1:], new)
    return copy


def test_every_mistake_in_a_record_is_told_in_plain_words() -> None:
    right = record("album-1", tags=("tree",))
    messages = set()
    for path in list_paths(right):
        for value in VALUES:
            try:
                Image.model_validate(with_value(right, path, value))
            except ValidationError as error:
                for each in error.errors(include_url=False, include_input=False):
                    messages.add(describe_error(each))
    assert len(messages) > 25
    assert [each for each in messages if OF_PYDANTIC.match(each)] == []
    assert "is not what is expected here" not in messages


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_every_type_of_error_has_a_message(kind: str) -> None:
    context: dict[str, Any] = {
        "ge": 1,
        "gt": 1,
        "le": 1,
        "lt": 1,
        "multiple_of": 2,
        "expected": "'a' or 'b'",
        "min_length": 1,
        "max_length": 2,
        "pattern": "^a$",
        "error": ValueError("is odd"),
    }
    message = describe_error(
        {"type": kind, "loc": (), "msg": "Input should", "input": 1, "ctx": context}
    )
    assert re.match(r"(must|is) ", message)
    assert "Input" not in message


@pytest.mark.parametrize("pattern", PATTERN_MESSAGES)
def test_pattern_of_a_field_has_its_own_message(pattern: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(core_type(pattern)).validate_python("§")
    assert describe_error(raised.value.errors()[0]) == PATTERN_MESSAGES[pattern]


def core_type(pattern: str) -> Any:
    return Annotated[str, StringConstraints(pattern=pattern)]


@pytest.fixture
async def filled(add: AddRecords, may: TokenFor) -> tuple[str, dict[str, str]]:
    album = f"messages-{uuid.uuid4()}"
    await add([record(album)])
    return album, may(album, *ABILITIES)


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("GET", "/images?limit=0", None, "limit must be 1 or more."),
        ("GET", "/images?limit=many", None, "limit must be a whole number."),
        ("GET", "/images?untagged=perhaps", None, "untagged must be true or false."),
        ("PATCH", "/images/{image}", {"rotation": 45}, "rotation must be 0, 90, 180 or 270."),
        ("PATCH", "/images/{image}", {"rotation": "90"}, "rotation must be 0, 90, 180 or 270."),
        ("PATCH", "/images/{image}", {"angle": 1}, "angle is not a field that is known here."),
        ("PATCH", "/images/{image}", [], "the body must be an object."),
        ("POST", "/images/tags", {}, "public_ids is required."),
        (
            *("POST", "/images/tags", {"public_ids": ["a"], "add": ["a"]}),
            "public_ids.0 must be a UUID.",
        ),
    ],
)
async def test_answer_says_what_the_field_must_be(
    client: httpx.AsyncClient,
    filled: tuple[str, dict[str, str]],
    method: str,
    path: str,
    body: object,
    detail: str,
) -> None:
    album, headers = filled
    path = path.format(image=record(album)["public_id"])
    content: Any = {} if body is None else {"json": body}
    answer = await client.request(
        method, f"/api/v1/albums/{album}{path}", headers=headers, **content
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == detail


@pytest.mark.parametrize(
    ("files", "detail"),
    [
        (
            [("photo", ("a.jpg", jpeg()))],
            "photo has a file; the picture must be in the form's field file.",
        ),
        (
            [("file", ("a.jpg", jpeg())), ("second", ("b.jpg", jpeg()))],
            "second has a file; the picture must be in the form's field file.",
        ),
        ([("file", ("a.jpg", b""))], "file is empty."),
        ([("tags", (None, b"tree"))], "file is required: the picture is sent in it."),
    ],
)
async def test_form_is_told_where_the_file_goes(
    client: httpx.AsyncClient,
    filled: tuple[str, dict[str, str]],
    files: Any,
    detail: str,
) -> None:
    album, headers = filled
    answer = await client.post(f"/api/v1/albums/{album}/images", headers=headers, files=files)
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)
