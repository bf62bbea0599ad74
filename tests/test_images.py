"""Every image of an album: filters, pages, one image and its version, the tags."""

import httpx
import pytest

from factories import record
from fixture_types import AddRecords, TokenFor

NUMBERS = range(6)


@pytest.fixture
async def filled(album: str, add: AddRecords) -> str:
    """Six images: kitchen on 1 and 2, red on 2, each further east, the last without a position."""
    records = [record(album, number) for number in NUMBERS]
    for number, each in enumerate(records):
        each["gps"] = [number * 10, number * 30] if number < 5 else None
        each["infos"]["format"] = "png" if number % 2 else "jpg"
    records[1]["infos"]["tags"] = [album, "kitchen"]
    records[2]["infos"]["tags"] = [album, "kitchen", "red"]
    records[4]["gps"] = [-10, -170]
    await add(records)
    return album


def images(album: str) -> str:
    return f"/api/v1/albums/{album}/images"


@pytest.mark.every_way
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("tag=kitchen", [1, 2]),
        ("tag=kitchen&tag=red", [2]),
        ("tag=Kitchen", []),
        ("untagged=true", [0, 3, 4, 5]),
        ("untagged=false", [1, 2]),
        ("untagged=true&tag=kitchen", []),
        ("created_after=2020-01-01T00:02:00Z", [3, 4, 5]),
        ("created_before=2020-01-01T01:02:00%2B01:00", [0, 1]),
        ("bbox=0,0,60,20", [0, 1, 2]),
        ("bbox=30,10,30,10", [1]),
        ("bbox=80,-20,-160,40", [3, 4]),
        ("format=png", [1, 3, 5]),
        ("format=png&untagged=true&bbox=-180,-90,180,90", [3]),
    ],
)
async def test_filters_leave_what_all_of_them_hold_for(
    client: httpx.AsyncClient, filled: str, may: TokenFor, query: str, expected: list[int]
) -> None:
    ids = [record(filled, number)["public_id"] for number in expected]
    answer = await client.get(f"{images(filled)}?{query}", headers=may(filled))
    assert [image["public_id"] for image in answer.json()] == ids
    page = await client.get(f"{images(filled)}?{query}&limit=1", headers=may(filled))
    assert page.headers["X-Total-Count"] == str(len(expected))
    assert ("Link" in page.headers) == (len(expected) > 1)


async def test_pages_keep_their_filter(
    client: httpx.AsyncClient, filled: str, may: TokenFor
) -> None:
    seen = []
    path = f"{images(filled)}?format=png&limit=2"
    while path:
        answer = await client.get(path, headers=may(filled))
        seen += [image["public_id"] for image in answer.json()]
        path = answer.headers.get("Link", "<>")[1:].partition(">")[0]
    assert seen == [record(filled, number)["public_id"] for number in (1, 3, 5)]


@pytest.mark.parametrize(
    "query",
    [
        "bbox=1,2,3",
        "bbox=1,2,3,x",
        "bbox=nan,0,1,1",
        "bbox=0,10,1,5",
        "bbox=-181,0,1,1",
        "bbox=0,0,1,91",
        "created_after=yesterday",
        "created_after=2020-01-01T00:00:00",
        "untagged=perhaps",
        "format=P%C3%89G",
        "tag=",
        "tag=%00",
        "tag=kit%01chen",
        "limit=0",
        "&".join(["tag=a"] * 21),
    ],
)
async def test_unfit_filter_is_422_that_names_it(
    client: httpx.AsyncClient, album: str, may: TokenFor, query: str
) -> None:
    answer = await client.get(f"{images(album)}?{query}", headers=may(album))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(f"/query/{query.partition('=')[0]}")


@pytest.mark.every_way
async def test_one_image_is_its_record_and_its_version(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    (text,) = await add([record(album)])
    path = f"{images(album)}/{record(album)['public_id']}"
    answer = await client.get(
        path.upper().replace(path.upper()[:-36], path[:-36]), headers=may(album)
    )
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["ETag"] == '"1"'


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"1"', 304), ('W/"1"', 304), ('"0", "1"', 304), ("*", 304), ('"2"', 200), ("1", 200)],
)
async def test_image_that_is_known_is_not_sent_again(
    client: httpx.AsyncClient,
    album: str,
    may: TokenFor,
    add: AddRecords,
    condition: str,
    status: int,
) -> None:
    await add([record(album)])
    answer = await client.get(
        f"{images(album)}/{record(album)['public_id']}",
        headers={**may(album), "If-None-Match": condition},
    )
    assert (answer.status_code, answer.headers["ETag"]) == (status, '"1"')
    assert bool(answer.content) == (status == 200)


@pytest.mark.parametrize("public_id", ["1", "0" * 32, "x" * 36, "%00", "untag2"])
async def test_what_is_no_uuid_is_404(
    client: httpx.AsyncClient, album: str, may: TokenFor, public_id: str
) -> None:
    answer = await client.get(f"{images(album)}/{public_id}", headers=may(album))
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:imageapi:problem:not-found"


async def test_image_of_another_album_is_not_there(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords
) -> None:
    await add([record(album + "2")])
    answer = await client.get(
        f"{images(album)}/{record(album + '2')['public_id']}", headers=may(album)
    )
    assert answer.status_code == 404


@pytest.mark.every_way
async def test_tags_are_counted_most_used_first(
    client: httpx.AsyncClient, filled: str, may: TokenFor
) -> None:
    answer = await client.get(f"/api/v1/albums/{filled}/tags", headers=may(filled))
    assert answer.text == '[{"tag":"kitchen","images":2},{"tag":"red","images":1}]'


async def test_tags_of_an_album_never_seen_are_none(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    answer = await client.get(f"/api/v1/albums/{album}/tags", headers=may(album))
    assert answer.text == "[]"
