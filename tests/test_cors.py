"""Pages of other origins: what a browser lets them send and read, and what caches are told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from exchanges import service
from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.api.header_docs import build_headers
from imageapi.database.engine import Database
from imageapi.database.errors import DatabaseUnavailable
from imageapi.database.untagged_cache import UntaggedCache

ORIGIN = "https://app.example.org"
STRANGER = "https://evil.example"
PATH = "/api/v1/albums/an-album/images/untag"


@pytest.fixture
async def client(
    server: str, database: Database, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that pages of ORIGIN may call."""
    async with service(server, tmp_path, cors_origins=ORIGIN) as client:
        yield client


def list_of(header: str | None) -> set[str]:
    return {name.strip().lower() for name in (header or "").split(",") if name.strip()}


def preflight(origin: str = ORIGIN, method: str = "GET", headers: str = "") -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return asked | ({"Access-Control-Request-Headers": headers} if headers else {})


@pytest.mark.parametrize(
    "header",
    [
        *("authorization", "content-type", "if-match", "if-none-match", "x-request-id"),
        *("traceparent", "tracestate", "cache-control", "pragma", "x-requested-with", "range"),
    ],
)
async def test_header_that_pages_send_is_allowed(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.options(PATH, headers=preflight(headers=header))
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert header in list_of(answer.headers["Access-Control-Allow-Headers"])


@pytest.mark.parametrize(
    "asked",
    [
        preflight(method="TRACE"),
        preflight(method="put"),  # methods are compared with their case
        preflight(headers="x-secret"),
        preflight(headers="authorization, x-secret"),
        preflight() | {"Access-Control-Request-Private-Network": "true"},
    ],
)
async def test_browser_can_name_what_it_refuses(
    client: httpx.AsyncClient, asked: dict[str, str]
) -> None:
    """The Fetch standard looks at method and headers only after origin and status are right."""
    answer = await client.options(PATH, headers=asked)
    assert answer.is_success
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert asked["Access-Control-Request-Method"] == "GET" or (
        asked["Access-Control-Request-Method"]
        not in answer.headers["Access-Control-Allow-Methods"].split(", ")
    )
    assert "x-secret" not in list_of(answer.headers["Access-Control-Allow-Headers"])
    assert "Access-Control-Allow-Private-Network" not in answer.headers


async def test_page_of_another_origin_is_told_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.options(PATH, headers=preflight(STRANGER))
    assert answer.status_code == 400
    assert STRANGER in answer.json()["detail"]
    assert list_of(answer.headers["Vary"]) == {"accept-encoding", "origin"}
    assert not [name for name in answer.headers if name.startswith("access-control")]
    long = await client.options(PATH, headers=preflight("https://" + "x" * 9000))
    assert len(long.content) < 1000


async def test_pages_may_read_what_the_document_names(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH, headers={"Origin": ORIGIN})
    exposed = list_of(answer.headers["Access-Control-Expose-Headers"])
    assert {"content-range", "www-authenticate", "x-request-id", "x-runtime"} <= exposed
    # To a page: what is of no use, and what pictures have for the browser itself.
    of_no_use = {"vary", "connection", "cross-origin-resource-policy", "timing-allow-origin"}
    named = {name.lower() for name in (*build_headers(), "X-token")}
    assert named - of_no_use <= exposed


async def test_pages_may_send_what_the_document_names(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    named = {
        parameter["name"].lower()
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
        if parameter.get("in") == "header"
    }
    answer = await client.options(PATH, headers=preflight())
    assert named
    assert named <= list_of(answer.headers["Access-Control-Allow-Headers"])


@pytest.mark.parametrize("origin", [None, ORIGIN, STRANGER])
@pytest.mark.parametrize("accepted", ["identity", "gzip", "br, zstd"])
@pytest.mark.parametrize("images", [0, 1, 50])
async def test_every_answer_of_an_address_names_what_it_varies_by(
    client: httpx.AsyncClient,
    add: AddRecords,
    may: TokenFor,
    album: str,
    origin: str | None,
    accepted: str,
    images: int,
) -> None:
    """By the route and by the fast path, errors included: a cache may keep any of them."""
    await add([record(album, number) for number in range(images)])
    path = f"/api/v1/albums/{album}/images/untag"
    headers: dict[str, Any] = {"Accept-Encoding": accepted, **may(album)}
    headers |= {} if origin is None else {"Origin": origin}
    strange = {**headers, **may("another")}
    answers = [
        *[await client.get(path, headers=headers) for _ in range(3)],
        await client.get(path, headers=strange),
        await client.get(path, headers={"Accept-Encoding": accepted}),
        await client.head(path, headers=headers),
        await client.get(f"{path}?limit=0", headers=headers),
        await client.post(path, headers=headers),
        await client.get("/nowhere", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3 + [403, 401, 200, 422, 405, 404]
    for answer in answers:
        assert list_of(answer.headers["Vary"]) == {"accept-encoding", "origin"}


@pytest.mark.parametrize("has_origins", [True, False])
async def test_unchanged_answer_varies_as_the_whole_one(
    server: str,
    tmp_path: Path,
    add: AddRecords,
    may: TokenFor,
    album: str,
    has_origins: bool,
) -> None:
    await add([record(album)])
    path = f"/api/v1/albums/{album}/images/{record(album)['public_id']}"
    settings = {"cors_origins": ORIGIN} if has_origins else {}
    async with service(server, tmp_path, **settings) as client:
        whole = await client.get(path, headers=may(album))
        etag = {"If-None-Match": whole.headers["ETag"]}
        unchanged = await client.get(path, headers=may(album) | etag)
        assert (whole.status_code, unchanged.status_code) == (200, 304)
        assert list_of(unchanged.headers["Vary"]) == list_of(whole.headers["Vary"])
        for picture in ({}, {"If-None-Match": "*"}):
            blank = await client.get("/assets/blank.jpg", headers=picture)
            assert list_of(blank.headers.get("Vary")) == ({"origin"} if has_origins else set())


async def test_database_that_is_away_is_told_to_pages_too(
    client: httpx.AsyncClient, may: TokenFor, album: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/albums/{album}/images/untag"
    assert (await client.get(path, headers=may(album))).status_code == 200

    async def find_list(_: UntaggedCache, album_id: str) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(UntaggedCache, "find_list", find_list)
    for more in ({}, {"Origin": ORIGIN}):
        answer = await client.get(path, headers=may(album) | more)
        assert answer.status_code == 503
        assert list_of(answer.headers["Vary"]) == {"accept-encoding", "origin"}
        assert answer.headers.get("Access-Control-Allow-Origin") == more.get("Origin")
