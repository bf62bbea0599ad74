"""Which tags people may give to an image, and the list that its record then has."""

import pytest

from factories import record
from imageapi.records.fields import MAX_TAGS
from imageapi.records.image import Image
from imageapi.records.tags import InvalidTag, TooManyTags, add_tags, parse_tag


def test_tag_is_trimmed_and_composed() -> None:
    assert parse_tag("  Cafe\u0301 ", "holiday") == "Caf\u00e9"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("holiday", "must not be the album's id"),
        (" holiday ", "must not be the album's id"),
        ("a\nb", "must not hold a line end"),
        ("a\x07b", "must not hold control characters"),
        ("", "must have at least 1 character"),
        ("x" * 101, "must have at most 100 characters"),
    ],
)
def test_text_that_cannot_be_a_tag_of_the_album(text: str, reason: str) -> None:
    with pytest.raises(InvalidTag) as caught:
        parse_tag(text, "holiday")
    assert str(caught.value) == reason


def test_added_tags_stand_behind_the_others_and_once() -> None:
    assert add_tags(["b", "a"], ["c", "a", "c"]) == ["b", "a", "c"]


def test_repeated_tags_do_not_count_and_one_too_many_is_refused() -> None:
    tags = [f"tag {number}" for number in range(MAX_TAGS)]
    assert add_tags(tags, tags) == tags
    with pytest.raises(TooManyTags, match=r"^must not be more than 100$"):
        add_tags(tags, ["one more"])


def test_album_id_stays_before_the_tags() -> None:
    image = Image.model_validate(record("holiday"))
    image.set_tags(["beach", "sea"])
    assert image.infos.tags == ["holiday", "beach", "sea"]
    assert image.tags == ["beach", "sea"]
