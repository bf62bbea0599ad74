"""The lean way to the queue answers as the route does, and leaves to it what is unusual."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from conftest import Service
from factories import DOCUMENTED_ALBUM, HEADER, claims, record, signed
from fixture_types import AddRecords, TokenFor
from imageapi.api.untagged_fast_path import UntaggedFastPath
from imageapi.app import ImageAPI
from imageapi.database import untagged_cache
from imageapi.database.errors import DatabaseUnavailable
from imageapi.database.untagged_cache import CachedList, UntaggedCache

ENCODINGS = (
    *(None, b"", b"identity", b"gzip", b"br", b"zstd", b"gzip, deflate, br, zstd", b"*"),
    *(b"gzip;q=0", b"br;q=0.5, gzip;q=1", b"nonsense", b"GZIP"),
)


class Answered(Exception):
    """The request was left to the route."""


async def left(scope: Scope, receive: Receive, send: Send) -> None:
    raise Answered


def lean(app: FastAPI) -> UntaggedFastPath:
    """The lean way alone."""
    return UntaggedFastPath(left, app.state)


def ordinary(app: FastAPI) -> Any:
    """The service without the lean way."""
    assert isinstance(app, ImageAPI)
    return app.full_stack


#: RFC 1952 §2.3: the seconds at which a body was compressed, four bytes behind the magic ones.
GZIP_TIME = re.compile(rb"(?<=\x1f\x8b\x08\x00)....", re.DOTALL)


async def ask(
    app: Any,
    path: str,
    headers: Iterable[tuple[bytes, bytes]],
    method: str = "GET",
    query: str = "",
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers without X-Runtime, and body without gzip's time."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
        "state": {"is_overloaded": False},
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    shown = [header for header in sent[0]["headers"] if header[0] != b"x-runtime"]
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], shown, GZIP_TIME.sub(b"", body)


def bearing(album: str, *abilities: str) -> tuple[bytes, bytes]:
    token = signed(HEADER, claims(album, *(abilities or ("image_list",))))
    return b"authorization", f'Token token="{token}"'.encode()


@pytest.fixture
async def filled(app: FastAPI, album: str, add: AddRecords) -> tuple[str, tuple[bytes, bytes]]:
    """The queue's path of an album of three, and a token that the service has seen."""
    await add([record(album, number) for number in range(3)])
    path, token = f"/api/v1/albums/{album}/images/untag", bearing(album)
    assert (await ask(ordinary(app), path, [token]))[0] == 200
    return path, token


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_lean_answer_is_the_routes(
    app: FastAPI, filled: tuple[str, tuple[bytes, bytes]], encoding: bytes | None
) -> None:
    path, token = filled
    more = [] if encoding is None else [(b"accept-encoding", encoding)]
    for extra in ([], [(b"x-request-id", b"mine <b>")], [(b"range", b"bytes=0-1")]):
        headers = [token, *more, *extra, *([] if extra else [(b"x-request-id", b"same")])]
        if extra and extra[0][0] == b"range":
            headers.append((b"x-request-id", b"same"))
        expected = await ask(ordinary(app), path, headers)
        for _ in range(2):
            assert await ask(lean(app), path, headers) == expected


async def test_empty_and_unknown_albums_are_empty_lists(app: FastAPI, album: str) -> None:
    path, token = f"/api/v1/albums/{album}/images/untag", bearing(album)
    await ask(ordinary(app), path, [token])
    assert (await ask(lean(app), path, [token]))[2] == b"[]"


async def test_what_is_unusual_is_left_to_the_route(
    app: FastAPI, filled: tuple[str, tuple[bytes, bytes]]
) -> None:
    path, token = filled
    album = path.split("/")[4]
    for headers, more in (
        ([], {}),
        ([token, token], {}),
        ([(b"authorization", b"Token x")], {}),
        ([bearing(album, "image_tag")], {}),
        ([token, (b"accept-encoding", b"gzip"), (b"accept-encoding", b"br")], {}),
        ([token], {"query": "limit=1"}),
        ([token], {"method": "HEAD"}),
        ([token], {"method": "POST"}),
    ):
        with pytest.raises(Answered):
            await ask(lean(app), path, headers, **more)
    odd = f"{album}!"
    odd_token = bearing(odd)
    await ask(ordinary(app), path, [odd_token])
    with pytest.raises(Answered):
        await ask(lean(app), path.replace(album, odd), [odd_token])
    for other in (path + "/", path.replace(album, "another"), path.replace("/api", "/apx")):
        with pytest.raises(Answered):
            await ask(lean(app), other, [token])


async def test_another_host_is_left_to_the_route(
    app: FastAPI, filled: tuple[str, tuple[bytes, bytes]]
) -> None:
    path, token = filled
    only = UntaggedFastPath(left, app.state, ["photos.example.org"])
    assert (await ask(only, path, [token, (b"host", b"photos.example.org:8443")]))[0] == 200
    for headers in ([token], [token, (b"host", b"evil.example")]):
        with pytest.raises(Answered):
            await ask(only, path, headers)


async def test_expired_token_is_left_to_the_route(app: FastAPI, album: str) -> None:
    path, token = f"/api/v1/albums/{album}/images/untag", bearing(album)
    await ask(ordinary(app), path, [token])
    remembered = app.state.resources.tokens
    real, remembered._now = remembered._now, lambda: 10**12
    try:
        with pytest.raises(Answered):
            await ask(lean(app), path, [token])
    finally:
        remembered._now = real


async def test_every_change_is_seen_by_the_next_who_asks(
    app: FastAPI, client: httpx.AsyncClient, filled: tuple[str, tuple[bytes, bytes]], may: TokenFor
) -> None:
    path, token = filled
    album = path.split("/")[4]
    headers = may(album, "image_tag", "image_list", "image_delete", "image_update")
    image = f"/api/v1/albums/{album}/images/{record(album, 1)['public_id']}"
    for method, further, body, there in (
        ("PUT", "/tags/a", None, False),
        ("DELETE", "/tags/a", None, True),
        ("PATCH", "", {"rotation": 90}, True),
        ("DELETE", "", None, False),
        ("POST", "/restore", None, True),
    ):
        answer = await client.request(method, image + further, headers=headers, json=body)
        assert answer.status_code < 300
        _, _, text = await ask(lean(app), path, [token])
        assert (record(album, 1)["public_id"].encode() in text) == there
        assert text == (await ask(ordinary(app), path, [token]))[2]
        page = await ask(ordinary(app), path, [token], query="limit=1000")  # not from the cache
        assert text == page[2]


async def test_who_asks_while_images_are_tagged_never_sees_the_past(
    app: FastAPI, client: httpx.AsyncClient, album: str, add: AddRecords, may: TokenFor
) -> None:
    """A client that tags an image and then lists never sees it, whatever else runs then."""
    count = 40
    await add([record(album, number) for number in range(count)])
    path, token = f"/api/v1/albums/{album}/images/untag", bearing(album)
    await ask(ordinary(app), path, [token])
    headers = may(album, "image_tag")

    async def work(numbers: Iterable[int]) -> None:
        for number in numbers:
            public_id = record(album, number)["public_id"]
            address = f"/api/v1/albums/{album}/images/{public_id}/tags/a"
            assert (await client.put(address, headers=headers)).status_code == 200
            assert public_id.encode() not in (await ask(lean(app), path, [token]))[2]

    await asyncio.gather(*(work(range(start, count, 8)) for start in range(8)))
    assert (await ask(lean(app), path, [token]))[2] == b"[]"


async def test_client_that_leaves_cancels_no_other(
    app: FastAPI, album: str, add: AddRecords
) -> None:
    await add([record(album)])
    lists: UntaggedCache = app.state.resources.untagged_cache
    tasks = [asyncio.create_task(lists.find_list(album)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])
    assert len({id(each) for each in results[1::2]}) == 1


async def test_lists_that_are_kept_are_bounded(
    app: FastAPI, album: str, add: AddRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untagged_cache, "MAX_CACHE_BYTES", 4000)
    lists = UntaggedCache(app.state.resources.database)
    names = [f"{album}-{number}" for number in range(8)]
    for name in names:
        await add([record(name, number) for number in range(2)])
        await lists.find_list(name)
    assert lists._lists.currsize == sum(len(each.text) for each in lists._lists.values()) <= 4000
    assert list(lists._lists) == names[-2:]
    await lists.close()


async def test_so_many_lists_are_kept_and_no_more(
    app: FastAPI, album: str, add: AddRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untagged_cache, "MAX_LISTS", 3)
    lists = UntaggedCache(app.state.resources.database)
    for number in range(5):
        await add([record(f"{album}-{number}")])
        await lists.find_list(f"{album}-{number}")
    assert list(lists._lists) == [f"{album}-{number}" for number in (2, 3, 4)]
    await lists.close()


async def test_list_is_found_too_long_once_for_each_version(
    app: FastAPI, album: str, add: AddRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = UntaggedCache(app.state.resources.database)
    await add([record(album, 0)])
    with monkeypatch.context() as shorter:
        shorter.setattr(untagged_cache, "MAX_LIST_BYTES", 10)
        assert await cache.find_list(album) is None
    assert await cache.find_list(album) is None  # not read again
    texts = await add([record(album, 1)])
    cached = await cache.find_list(album)
    assert cached is not None
    assert texts[0].encode() in cached.text
    await cache.close()


async def test_large_list_is_sent_bit_by_bit(
    app: FastAPI, client: httpx.AsyncClient, album: str, add: AddRecords, may: TokenFor
) -> None:
    """It would hold everybody else up while it is compressed, each time."""
    large = [{**record(album, each), "exifs": {"Note": "x" * 30_000}} for each in range(100)]
    texts = await add(large)
    path = f"/api/v1/albums/{album}/images/untag"
    for query in ("", "?limit=100"):
        answer = await client.get(path + query, headers=may(album))
        assert answer.text == f"[{','.join(texts)}]"
        assert "Content-Length" not in answer.headers
    with pytest.raises(Answered):
        await ask(lean(app), path, [(b"authorization", may(album)["Authorization"].encode())])


async def test_list_of_a_past_that_is_lost_is_forgotten(
    app: FastAPI, filled: tuple[str, tuple[bytes, bytes]], server: str
) -> None:
    """After a failover or a restore the same version may be another list, or a lower one."""
    path, token = filled
    album = path.split("/")[4]
    await ask(ordinary(app), path, [token])
    _, _, before = await ask(lean(app), path, [token])
    administrator = await asyncpg.connect(server)
    await administrator.execute("UPDATE images SET tags = '{a}' WHERE album_id = $1", album)
    assert (await ask(lean(app), path, [token]))[2] == before  # the version is the same
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND application_name = 'imageapi'"
    )
    await administrator.close()
    async with asyncio.timeout(10):  # until the end of the sessions is here
        while (await ask(lean(app), path, [token]))[2] == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await ask(lean(app), path, [token]))[2] == b"[]"


async def test_ended_database_session_costs_no_response(
    app: FastAPI, filled: tuple[str, tuple[bytes, bytes]]
) -> None:
    path, token = filled
    await ask(ordinary(app), path, [token])
    await ask(lean(app), path, [token])
    connection = app.state.resources.untagged_cache._versions._connection._connection
    connection.terminate()
    async with asyncio.timeout(10):
        while not connection.is_closed():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert (await ask(lean(app), path, [token]))[0] == 200


@pytest.mark.parametrize(("error", "status"), [(DatabaseUnavailable, 503), (ValueError, 200)])
async def test_wait_on_the_fast_path_is_part_of_the_runtime_header(
    app: FastAPI,
    client: httpx.AsyncClient,
    filled: tuple[str, tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    status: int,
) -> None:
    """Also of a request that the lean way leaves to the route after a wait."""
    path, token = filled
    cache = app.state.resources.untagged_cache
    real_find_list = cache.find_list

    async def find_list(album_id: str) -> CachedList | None:
        if error is ValueError:  # the route asks the same cache, and then it works
            monkeypatch.setattr(cache, "find_list", real_find_list)
        await asyncio.sleep(0.2)
        raise error

    monkeypatch.setattr(cache, "find_list", find_list)
    answer = await client.get(path, headers=[token])
    assert answer.status_code == status
    assert float(answer.headers["X-Runtime"]) >= 0.19


async def test_long_list_comes_in_chunks_and_is_the_same(
    app: FastAPI, client: httpx.AsyncClient, album: str, add: AddRecords, may: TokenFor
) -> None:
    texts = await add([record(album, number) for number in range(2100)])
    headers = may(album)
    path = f"/api/v1/albums/{album}/images/untag"
    answer = await client.get(path, headers=headers)
    assert "Content-Length" not in answer.headers
    assert answer.text == f"[{','.join(texts)}]"
    page = await client.get(f"{path}?limit=1000", headers=headers)
    after = page.headers["Link"].partition("after=")[2].partition(">")[0]
    rest = await client.get(f"{path}?after={after}", headers=headers)
    assert rest.text == f"[{','.join(texts[1000:])}]"
    assert rest.headers["X-Total-Count"] == "2100"
    assert "Content-Length" not in rest.headers
    with pytest.raises(Answered):
        await ask(lean(app), path, [(b"authorization", headers["Authorization"].encode())])


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
async def test_lists_as_long_as_chunks_are_whole(
    client: httpx.AsyncClient, album: str, add: AddRecords, may: TokenFor, count: int
) -> None:
    texts = await add([record(album, number) for number in range(count)])
    answer = await client.get(f"/api/v1/albums/{album}/images/untag", headers=may(album))
    assert answer.text == f"[{','.join(texts)}]"


@pytest.mark.parametrize("more", [b"", b"Accept-Encoding: gzip\r\n", b"Connection: close\r\n"])
async def test_lean_answer_is_the_routes_on_the_wire(
    service: Service, documented_token: str, more: bytes
) -> None:
    """The first answer to a token is the route's, the next ones are lean: byte for byte alike."""
    # The route answers what has a query, and what has not been seen.
    path = f"/api/v1/albums/{DOCUMENTED_ALBUM}/images/untag".encode()
    answers = []
    for query in (b"?", b"?x", b"", b""):
        request = b"GET %b%b HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %b\r\n" % (
            path,
            query,
            documented_token.encode(),
        )
        ask_it = service.raw if b"close" in more else service.exchange
        answer = await ask_it(request + b"X-Request-Id: a\r\n" + more + b"\r\n")
        answer = re.sub(rb"(?<=X-Runtime: )[0-9.]+", b"", answer)
        answers.append(GZIP_TIME.sub(b"", answer))
    assert len(set(answers)) == 1
    assert answers[0].startswith(b"HTTP/1.1 200 OK\r\nCache-Control: ")
