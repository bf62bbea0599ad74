"""Which text can be a tag: it shows something, and leads nowhere in a path."""

import re
import uuid

import httpx
import pytest

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.records.fields import GIVEN_TAG_SCHEMA
from imageapi.records.parse import InvalidRecord, parse_record
from imageapi.records.tags import InvalidTag, parse_tag

DOTS = (
    *(
        ".",
        "..",
        "./a",
        "../a",
        "a/.",
        "a/..",
        "a/./b",
        "a/../b",
        "../../b",
        "/..",
        "../",
        "./",
        "/.",
    ),
    *("/../", " ..", ".. ", "a/ä/.."),
)
INVISIBLE = (
    *(
        "\u200b",
        "\u200d\u200c",
        "\ufeff",
        "\u2060",
        "\u00ad",
        "\u061c",
        "\u180e",
        "\u115f",
        "\u1160",
    ),
    *("\u3164", "\uffa0", "\u2800", "\ufe0f", "\U000e0101", "\U000e0020", "\u034f", "\u17b4"),
    *(
        "\u202e",
        "\u2066\u2069",
        "\u200b \u200b",
        "\u2062\u2800",
        "\U0001d173",
        "\ufff0",
        "\u3000\u200b",
    ),
)
LINE_ENDS = (
    "a\n",
    "\na",
    "a\nb",
    "a\r",
    "a\r\n",
    "a\u2028",
    "\u2029a",
    "a\x85",
    "a\v",
    "a\f",
    "a\x1c",
)
GOOD = (
    *(
        "...",
        "a.b",
        ".a",
        "a.",
        "..a",
        "a..b",
        "a/b",
        "a/b.c/d",
        ".../a",
        "a/...",
        "/",
        "//",
        "a\\..\\b",
    ),
    *(
        "é",
        "東京",
        "👍",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "क\u094d\u200d",
        "\u0301",
        "a\u200bb",
        "·",
        "ㅤa",
    ),
)


@pytest.mark.parametrize("text", DOTS)
def test_dots_between_slashes_are_no_part_of_a_tag(text: str) -> None:
    with pytest.raises(
        InvalidTag, match=r"must not have a part between slashes that is \. or \.\."
    ):
        parse_tag(text, "album-1")
    assert re.match(GIVEN_TAG_SCHEMA["pattern"], text) is None


@pytest.mark.parametrize("text", INVISIBLE)
def test_tag_shows_something(text: str) -> None:
    with pytest.raises(InvalidTag, match="must show something"):
        parse_tag(text, "album-1")


@pytest.mark.parametrize("text", LINE_ENDS)
def test_tag_has_no_line_end(text: str) -> None:
    with pytest.raises(InvalidTag, match="must not hold a line end"):
        parse_tag(text, "album-1")


@pytest.mark.parametrize("text", GOOD)
def test_other_text_is_a_tag(text: str) -> None:
    assert parse_tag(text, "album-1") == text
    assert re.match(GIVEN_TAG_SCHEMA["pattern"], text) is not None


@pytest.mark.parametrize("text", ["a/../b", "\u200b", "a\n", "a\u2028b"])
def test_imported_record_has_no_such_tag(text: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^infos\.tags\.1: must "):
        parse_record(record("album-1", tags=(text,)))


@pytest.mark.parametrize("text", ["..", "a/../b", "\u200b", "a\n", "\u2028"])
async def test_no_way_in_takes_such_a_tag(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, text: str
) -> None:
    album = f"tags-{uuid.uuid4()}"
    await add([record(album)])
    headers = may(album, "image_list", "image_tag", "image_create")
    public_id = record(album)["public_id"]
    path = f"/api/v1/albums/{album}/images"
    encoded = "".join(f"%{byte:02X}" for byte in text.encode())
    answers = [
        await client.put(f"{path}/{public_id}/tags/{encoded}", headers=headers),
        await client.delete(f"{path}/{public_id}/tags/{encoded}", headers=headers),
        await client.get(f"{path}?tag={encoded}", headers=headers),
        *[
            await client.post(
                f"{path}/tags", headers=headers, json={"public_ids": [public_id], way: [text]}
            )
            for way in ("add", "remove")
        ],
        await client.post(
            path, headers=headers, data={"tags": text}, files={"file": ("a.jpg", b"\xff\xd8\xff")}
        ),
    ]
    assert [answer.status_code for answer in answers] == [422] * len(answers)
    kept = (await client.get(f"{path}/{public_id}", headers=headers)).json()
    assert kept["infos"]["tags"] == [album]
