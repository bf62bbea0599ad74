"""The queue: which images are in it, in which order, whole or in pages."""

import gzip
import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import brotli
import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.api.pagination import decode_cursor, encode_cursor
from imageapi.database.engine import Database
from imageapi.database.images import Cursor
from imageapi.database.tables import images


def untag(album: str) -> str:
    return f"/api/v1/albums/{album}/images/untag"


async def test_album_never_seen_is_empty(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    answer = await client.get(untag(album), headers=may(album))
    assert (answer.status_code, answer.content) == (200, b"[]")
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_oldest_comes_first_then_the_smaller_id(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    same_time = [record(album, number, created_at="2021-01-01T00:00:00Z") for number in range(5)]
    older = record(album, 99, created_at="2020-12-31T23:59:59.999Z")
    younger = record(album, 98, created_at="2021-01-01T00:00:00.001Z")
    await add([younger, *same_time, older])
    answer = await client.get(untag(album), headers=may(album))
    ids = [image["public_id"] for image in answer.json()]
    assert ids == [
        older["public_id"],
        *sorted(image["public_id"] for image in same_time),
        younger["public_id"],
    ]


async def test_tagged_images_and_other_albums_are_left_out(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album, 1), record(album, 2, tags=("kitchen",)), record(album + "2", 3)])
    answer = await client.get(untag(album), headers=may(album))
    assert [image["infos"]["tags"] for image in answer.json()] == [[album]]


@pytest.mark.every_way
async def test_the_bytes_are_the_stored_ones(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    texts = await add([record(album, number) for number in range(3)])
    answer = await client.get(untag(album), headers=may(album))
    assert answer.text == f"[{','.join(texts)}]"


@pytest.mark.parametrize(
    ("accepted", "encoding", "decoded"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("gzip, deflate, br", "br", brotli.decompress),
        ("gzip, br, zstd", "zstd", zstandard.decompress),
        ("gzip;q=0", None, bytes),
        ("deflate", None, bytes),
    ],
)
async def test_answer_is_compressed_as_the_client_asks(
    client: httpx.AsyncClient,
    album: str,
    may: TokenFor,
    add: AddRecords,
    accepted: str,
    encoding: str | None,
    decoded: Callable[[bytes], bytes],
) -> None:
    texts = await add([record(album, number) for number in range(3)])
    headers = {**may(album), "Accept-Encoding": accepted}
    async with client.stream("GET", untag(album), headers=headers) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert answer.headers.get("Content-Encoding") == encoding
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert int(answer.headers["Content-Length"]) == len(raw)
    assert decoded(raw).decode() == f"[{','.join(texts)}]"


@pytest.mark.every_way
async def test_pages_lead_through_the_whole_queue(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album, number) for number in range(7)])
    whole = (await client.get(untag(album), headers=may(album))).json()
    url: str | None = f"{untag(album)}?limit=3"
    pages = []
    while url is not None:
        answer = await client.get(url, headers=may(album))
        assert answer.headers["X-Total-Count"] == "7"
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(itertools.chain(*pages)) == whole


async def test_page_that_ends_with_the_queue_leads_nowhere(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album, number) for number in range(3)])
    answer = await client.get(f"{untag(album)}?limit=3", headers=may(album))
    assert len(answer.json()) == 3
    assert "Link" not in answer.headers


async def test_whole_list_has_no_page_headers(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    answer = await client.get(untag(album), headers=may(album))
    assert "X-Total-Count" not in answer.headers
    assert "Link" not in answer.headers


async def test_after_without_limit_is_all_the_rest(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album, number) for number in range(5)])
    first = await client.get(f"{untag(album)}?limit=2", headers=may(album))
    after = httpx.URL(first.links["next"]["url"]).params["after"]
    rest = await client.get(untag(album), params={"after": after}, headers=may(album))
    assert len(rest.json()) == 3
    assert rest.headers["X-Total-Count"] == "5"


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)), st.uuids())
def test_places_survive_their_text(created_at: datetime, public_id: UUID) -> None:
    place = Cursor(created_at, public_id)
    assert decode_cursor(encode_cursor(place)) == place


@pytest.mark.every_way
@pytest.mark.parametrize("seed", range(10))
async def test_pages_repeat_and_skip_nothing_while_images_come_and_go(
    client: httpx.AsyncClient,
    album: str,
    may: TokenFor,
    add: AddRecords,
    database: Database,
    seed: int,
) -> None:
    """Between any two pages images are added, deleted, tagged and untagged at random."""
    chance = random.Random(seed)
    await add([record(album, number) for number in range(0, 60, 2)])
    present = (await client.get(untag(album), headers=may(album))).json()
    throughout = {image["public_id"] for image in present}
    come = list(range(1, 60, 2))
    chance.shuffle(come)
    seen: list[str] = []
    url: str | None = f"{untag(album)}?limit={chance.randint(1, 7)}"
    while url is not None:
        answer = await client.get(url, headers=may(album))
        seen += [image["public_id"] for image in answer.json()]
        url = answer.links.get("next", {}).get("url")
        if come:
            await add([record(album, come.pop())])
        gone = chance.choice(present)["public_id"]
        throughout.discard(gone)
        of_gone = (images.c.album_id == album) & (images.c.public_id == gone)
        async with database.transaction() as connection:
            await connection.execute(
                delete(images).where(of_gone)
                if chance.random() < 0.5
                else update(images).where(of_gone).values(tags=["tagged"])
            )
    assert len(seen) == len(set(seen))
    assert throughout <= set(seen)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5", ""])
async def test_limit_out_of_range_is_unfit(
    client: httpx.AsyncClient, album: str, may: TokenFor, limit: str
) -> None:
    answer = await client.get(untag(album), params={"limit": limit}, headers=may(album))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/query/limit"


@pytest.mark.parametrize("after", ["", "x", "é", "=" * 40, "A" * 32, "A" * 5000, "_" * 32])
async def test_after_that_is_not_ours_is_unfit_or_a_place(
    client: httpx.AsyncClient, album: str, may: TokenFor, after: str
) -> None:
    answer = await client.get(untag(album), params={"after": after}, headers=may(album))
    if after == "A" * 32:  # a place, the very first
        assert answer.status_code == 200
    else:
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/query/after"


@pytest.mark.every_way
async def test_largest_page_is_a_thousand(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album, number) for number in range(1001)])
    answer = await client.get(f"{untag(album)}?limit=1000", headers=may(album))
    assert len(answer.json()) == 1000
    assert len(json.loads((await client.get(untag(album), headers=may(album))).content)) == 1001
