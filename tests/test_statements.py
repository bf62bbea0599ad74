"""A prepared statement gets every argument that it needs, and none that it does not have."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import bindparam, column, select, table, text

from imageapi.database import images
from imageapi.database.engine import Database
from imageapi.database.images import Box, Filter
from imageapi.database.statement import Statement

IMAGES = table("images", column("album_id"), column("format"))
STATEMENT = Statement(
    select(IMAGES.c.album_id)
    .where(IMAGES.c.album_id == bindparam("album_id"), IMAGES.c.format == "png")
    .limit(bindparam("rows"))
)
AS_TEXT = Statement(text("SELECT :album_id\\:\\:text, :rows\\:\\:integer"))


def test_arguments_come_in_the_order_of_the_placeholders() -> None:
    assert STATEMENT.order_arguments({"rows": 3, "album_id": "a"}) == ["a", "png", 3]
    assert AS_TEXT.order_arguments({"rows": 3, "album_id": "a"}) == ["a", 3]
    assert Statement(select(IMAGES.c.album_id)).order_arguments({}) == []


def test_null_is_an_argument_like_any_other() -> None:
    assert STATEMENT.order_arguments({"rows": None, "album_id": "a"}) == ["a", "png", None]


@pytest.mark.parametrize("statement", [STATEMENT, AS_TEXT], ids=["built", "text"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 3}, "missing: album_id"),
        ({"album_id": "a"}, "missing: rows"),
        ({}, "missing: album_id, rows"),
        ({"album_id": "a", "rows": 3, "row": 4}, "unknown: row"),
        ({"album_id": "a", "row": 4}, "missing: rows; unknown: row"),
        ({"album_id": "a", "rows": 3, "format_1": "jpg"}, "unknown: format_1"),
    ],
)
def test_missing_and_unknown_arguments_are_named(
    statement: Statement, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=rf"^arguments of the statement: {message}$"):
        statement.order_arguments(arguments)


async def test_reader_with_a_wrong_argument_raises_and_goes_on(database: Database) -> None:
    """The mistake is found before a connection is used, and costs none."""
    held = database.dedicated_connection()
    try:
        for reader in (database, held):
            with pytest.raises(TypeError, match="missing: album_id"):
                await reader.read(AS_TEXT, rows=3)
            rows = await reader.read(AS_TEXT, album_id="a", rows=3)
            assert [tuple(row) for row in rows] == [("a", 3)]
            with pytest.raises(TypeError, match="unknown: more"):
                await reader.read(AS_TEXT, album_id="a", rows=3, more=1)
        assert held.generation == 1
    finally:
        await held.close()


MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
CHOICES: dict[str, list[Any]] = {
    "tags": [(), ("a",)],
    "untagged": [None, True, False],
    "created_after": [None, MOMENT],
    "created_before": [None, MOMENT],
    "box": [None, Box(-10, -10, 10, 10), Box(170, -10, -170, 10)],
    "format": [None, "png"],
}


def test_every_filter_gives_what_its_statements_need() -> None:
    for values in itertools.product(*CHOICES.values()):
        wanted = Filter(**dict(zip(CHOICES, values, strict=True)))
        given = {"album_id": "a", **wanted.build_arguments()}
        images._select_count(wanted.list_conditions()).order_arguments(given)
        images._select_page(wanted.list_conditions(), False).order_arguments({**given, "rows": 1})
