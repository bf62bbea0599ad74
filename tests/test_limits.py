"""Too often, too many at once, for the wrong host, from a page elsewhere: who is let in."""

import asyncio
import string
from pathlib import Path
from typing import Any, Never

import httpx
import pytest
import structlog

import pictures
from conftest import Command
from exchanges import Stalling, service
from factories import HEADER, claims, record, signed
from fixture_types import AddRecords, TokenFor
from imageapi import background, resources
from imageapi.api import operations
from imageapi.auth.claims import ABILITIES
from imageapi.database.engine import Database
from imageapi.database.errors import SchemaOutdated
from imageapi.database.rate_limits import Rate, RateExceeded, RateLimiter
from imageapi.database.untagged_cache import UntaggedCache
from test_routes import BODIES, path_of

PATH = "/api/v1/albums/an-album/images/untag"


@pytest.fixture(autouse=True)
async def nobody_counted(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.exec_driver_sql("DELETE FROM rates")


def of_user(user_id: str | None, **changes: Any) -> dict[str, str]:
    payload = claims("an-album", "image_list", "image_create", user_id=user_id, **changes)
    return {"Authorization": f"Bearer {signed(HEADER, payload)}"}


async def test_user_may_ask_so_often_and_no_more(
    server: str, database: Database, tmp_path: Path
) -> None:
    async with service(server, tmp_path, rate_limit="5/hour") as client:
        answers = [await client.get(PATH, headers=of_user("one", x=each)) for each in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        refused = answers[-1]
        assert refused.json()["type"] == "urn:imageapi:problem:rate-limited"
        assert 600 < int(refused.headers["Retry-After"]) <= 720  # a fifth of an hour
        for other in ("another", None, "Ünï\ud83d\ude00"):
            assert (await client.get(PATH, headers=of_user(other))).status_code == 200
        assert (await client.get(PATH)).status_code == 401
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("route", BODIES)
async def test_request_with_a_body_is_counted_once(
    server: str, database: Database, tmp_path: Path, route: tuple[str, str]
) -> None:
    """Its guard is asked before the body is read, and by the route once more."""
    method, path = route
    headers = of_user("one", abilities={"an-album": {"Access": dict.fromkeys(ABILITIES, True)}})
    async with service(server, tmp_path, rate_limit="2/hour") as client:
        for status in (404, 404, 429):
            url = path_of(path, "an-album")
            answer = await client.request(method, url, headers=headers, json=BODIES[route])
            assert answer.status_code == status


async def test_those_without_a_name_are_counted_by_token(
    server: str, database: Database, tmp_path: Path
) -> None:
    async with service(server, tmp_path, rate_limit="1/hour") as client:
        first, second = of_user(None, x=1), of_user(None, x=2)
        for headers, status in ((first, 200), (first, 429), (second, 200)):
            assert (await client.get(PATH, headers=headers)).status_code == status


async def test_rate_is_one_however_the_token_is_spelled(
    server: str, database: Database, tmp_path: Path
) -> None:
    """The last character of a signature of 43 has two bits without meaning: four spellings."""
    token = of_user(None)["Authorization"].removeprefix("Bearer ")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    first = alphabet.index(token[-1])
    headers = [
        *(f'{scheme} token="{token}"' for scheme in ("Token", "token", "Bearer", "BEARER")),
        *(f"Token token={token}", f"Bearer {token}", f'Bearer "{token}"', f"  Bearer   {token}"),
        *(f"Token x=1; token={token}", f"Token token={token}, realm=y"),
        *(f"Bearer {token[:-1]}{alphabet[first + each]}" for each in (1, 2, 3)),
    ]
    async with service(server, tmp_path, rate_limit="2/hour") as client:
        statuses = [
            (await client.get(PATH, headers={"Authorization": header})).status_code
            for header in headers
        ]
        assert statuses == [200] * 2 + [429] * 8 + [401] * 3


async def test_addresses_are_counted_whatever_the_token(
    server: str, database: Database, tmp_path: Path
) -> None:
    settings = {"address_rate_limit": "3/hour", "trusted_proxies": "127.0.0.1"}
    async with service(server, tmp_path, **settings) as client:

        async def ask(address: str, path: str = PATH) -> int:
            return (await client.get(path, headers={"X-Forwarded-For": address})).status_code

        assert [await ask("192.0.2.1") for _ in range(4)] == [401, 401, 401, 429]
        assert await ask("192.0.2.1", "/assets/blank.jpg") == 429
        assert await ask("192.0.2.2") == 401
        same = [f"2001:db8::{each}" for each in range(3)]
        assert [await ask(each) for each in (*same, "2001:db8:0:0:ffff::1")] == [401] * 3 + [429]
        assert await ask("2001:db8:0:1::1") == 401


def test_ipv4_addresses_of_a_dual_stack_socket_are_distinguished(
    imageapi: Command, database: Database
) -> None:
    """And proxies are known by the addresses that the operator gave."""
    settings = {
        "IMAGEAPI_ADDRESS_RATE_LIMIT": "2/hour",
        "IMAGEAPI_TRUSTED_PROXIES": "127.0.0.9/32",
    }
    with imageapi.serving("--host", "::", **settings) as service:

        def ask(local: str, **headers: str) -> int:
            transport = httpx.HTTPTransport(local_address=local)
            with httpx.Client(transport=transport, timeout=60) as client:
                return client.get(
                    f"http://127.0.0.1:{service.port}{PATH}", headers=headers
                ).status_code

        assert [ask("127.0.0.1") for _ in range(3)] == [401, 401, 429]
        assert ask("127.0.0.2") == 401
        forwarded = [
            ask("127.0.0.9", **{"X-Forwarded-For": f"192.0.2.{each}"}) for each in range(4)
        ]
        assert forwarded == [401] * 4


def test_single_request_is_let_in_over_a_socket(imageapi: Command, database: Database) -> None:
    """The service itself is no request."""
    with imageapi.serving(IMAGEAPI_MAX_REQUESTS="1") as service:
        for _ in range(3):
            answer = httpx.get(f"{service.address}/readyz", trust_env=False, timeout=60)
            assert answer.status_code == 200


async def test_rate_is_shared_and_exact_however_many_ask(database: Database) -> None:
    rates = [RateLimiter(database, "user", Rate(50, 3600)) for _ in range(3)]

    async def granted(number: int) -> bool:
        try:
            await rates[number % 3].count_request("one")
        except RateExceeded as error:
            waits.append(error.seconds)
            return False
        return True

    waits: list[float] = []
    assert sum(await asyncio.gather(*(granted(each) for each in range(120)))) == 50
    assert 0 < min(waits) <= max(waits) <= 72


async def test_room_comes_back_bit_by_bit(database: Database) -> None:
    rates = RateLimiter(database, "user", Rate(2, 1.0))
    for _ in range(2):
        await rates.count_request("one")
    with pytest.raises(RateExceeded) as error:
        await rates.count_request("one")
    await asyncio.sleep(error.value.seconds + 0.05)
    await rates.count_request("one")
    with pytest.raises(RateExceeded):
        await rates.count_request("one")


@pytest.mark.parametrize("ahead", ["1 day", "61 seconds"])
async def test_time_that_this_rate_never_granted_delays_no_request(
    database: Database, ahead: str
) -> None:
    """After a clock was set back, or under another rate, counting starts again."""
    rates = RateLimiter(database, "user", Rate(2, 60))
    await rates.count_request("one")
    async with database.transaction() as connection:
        await connection.exec_driver_sql(f"UPDATE rates SET until = now() + interval '{ahead}'")
    for _ in range(2):
        await rates.count_request("one")
    with pytest.raises(RateExceeded):
        await rates.count_request("one")


async def test_clock_that_is_set_forward_lets_the_rate_be_used_once_more(
    database: Database,
) -> None:
    rates = RateLimiter(database, "user", Rate(2, 60))
    for _ in range(2):
        await rates.count_request("one")
    async with database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE rates SET until = until - interval '1 day'")
    for _ in range(2):
        await rates.count_request("one")
    with pytest.raises(RateExceeded):
        await rates.count_request("one")


async def test_sweeping_goes_on_whatever_breaks_it(
    server: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = 0

    async def sweep(_: Database) -> Never:
        nonlocal swept
        swept += 1
        raise SchemaOutdated

    monkeypatch.setattr(resources, "sweep_forever", sweep)
    monkeypatch.setattr(background, "RESTART_DELAY_SECONDS", 0.01)
    with structlog.testing.capture_logs() as lines:
        async with service(server, tmp_path), asyncio.timeout(20):
            while swept < 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
    assert {line["error"] for line in lines if "background work" in line["event"]} == {
        "SchemaOutdated"
    }


def test_workers_count_together(imageapi: Command, database: Database) -> None:
    with imageapi.serving("--workers", "2", IMAGEAPI_RATE_LIMIT="10/hour") as running:
        answers = [
            httpx.get(
                running.address + PATH, headers=of_user("w", x=each), trust_env=False, timeout=60
            )
            for each in range(14)
        ]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 4


async def test_uploads_under_way_are_bounded(
    server: str, database: Database, tmp_path: Path, album: str, may: TokenFor
) -> None:
    bodies = [Stalling(), Stalling()]
    headers = may(album, "image_list", "image_create")
    form = {"Content-Type": "multipart/form-data; boundary=b", **headers}
    path = f"/api/v1/albums/{album}/images"
    async with service(server, tmp_path, max_uploads=2) as client:
        waiting = [
            asyncio.create_task(client.post(path, content=body, headers=form)) for body in bodies
        ]
        for body in bodies:
            await asyncio.wait_for(body.begun.wait(), 20)
        file = {"file": ("a.jpg", pictures.jpeg(seed=5))}
        refused = await client.post(path, files=file, headers=headers)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert refused.json()["type"] == "urn:imageapi:problem:overloaded"
        assert (await client.get(f"{path}/untag", headers=headers)).status_code == 200
        for body in bodies:
            body.over.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {400}
        taken = await client.post(path, files=file, headers=headers)
        assert taken.status_code == 201


async def test_requests_under_way_are_bounded(
    server: str, database: Database, tmp_path: Path
) -> None:
    """The fast path is included; health checks are always answered."""
    body = Stalling()
    form = {"Content-Type": "multipart/form-data; boundary=b", **of_user("one")}
    async with service(server, tmp_path, max_requests=1) as client:
        assert (await client.get(PATH, headers=of_user("one"))).status_code == 200
        path = "/api/v1/albums/an-album/images"
        waiting = asyncio.create_task(client.post(path, content=body, headers=form))
        await asyncio.wait_for(body.begun.wait(), 20)
        for each in (PATH, "/openapi.json", "/nowhere"):
            answer = await client.get(each, headers=of_user("one"))
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), each
            assert answer.headers["X-Request-Id"]
        for each in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(each)).status_code == 200, each
        body.over.set()
        await waiting
        assert (await client.get(PATH, headers=of_user("one"))).status_code == 200


async def test_readiness_is_checked_once_for_all_who_ask_at_the_same_time(
    server: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is refused, so many at once must not each take a connection."""
    checks = 0
    goes_on = asyncio.Event()

    async def check_schema(_: Database) -> None:
        nonlocal checks
        checks += 1
        await goes_on.wait()

    monkeypatch.setattr(operations, "check_schema", check_schema)
    async with asyncio.timeout(20), service(server, tmp_path, max_requests=1) as client:
        requests = [asyncio.create_task(client.get("/readyz")) for _ in range(50)]
        await asyncio.sleep(0.5)  # most of them have come then
        goes_on.set()
        assert {(await request).status_code for request in requests} == {200}
        assert 1 <= checks < 25
        before = checks
        assert (await client.get("/readyz")).status_code == 200
        assert checks == before + 1  # a result is not kept


async def test_request_is_judged_by_what_was_under_way_when_it_came(
    server: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was let in, and waits before it reaches the route, stays let in."""
    is_waiting, goes_on = asyncio.Event(), asyncio.Event()

    async def find_list(_: UntaggedCache, album_id: str) -> None:
        is_waiting.set()
        await goes_on.wait()

    token = of_user("one")
    async with asyncio.timeout(20), service(server, tmp_path, max_requests=1) as client:
        assert (await client.get(PATH, headers=token)).status_code == 200
        # Only now: the route reads the cache too, and the first request of a token goes there.
        monkeypatch.setattr(UntaggedCache, "find_list", find_list)
        first = asyncio.create_task(client.get(PATH, headers=token))
        await is_waiting.wait()
        assert (await client.get(PATH, headers=token)).status_code == 503
        goes_on.set()
        assert (await first).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("photos.example.org", 200),
        ("photos.example.org:8443", 200),
        ("PHOTOS.example.org", 200),
        ("a.img.example.net", 200),
        ("img.example.net", 421),
        ("evil.example", 421),
        ("photos.example.org.evil.example", 421),
        ("evilphotos.example.org", 421),
        ("photos.example.org@evil.example", 421),
        ("[::1]:8000", 200),
        ("", 421),
    ],
)
async def test_only_trusted_hosts_are_answered_for(
    server: str, database: Database, tmp_path: Path, host: str, status: int
) -> None:
    hosts = "photos.example.org, *.img.example.net, [::1]"
    async with service(server, tmp_path, trusted_hosts=hosts) as client:
        trusted = {"Host": "photos.example.org", **of_user("one")}
        assert (await client.get(PATH, headers=trusted)).status_code == 200
        for _ in range(2):
            answer = await client.get(PATH, headers=trusted | {"Host": host})
            assert answer.status_code == status
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


ORIGIN = "https://app.example.org"


async def test_page_of_a_known_origin_may_call(
    server: str, tmp_path: Path, album: str, add: AddRecords, may: TokenFor
) -> None:
    await add([record(album)])  # so that there is something to compress
    path = f"/api/v1/albums/{album}/images/untag"
    async with service(server, tmp_path, cors_origins=f"{ORIGIN},http://localhost:5173") as client:
        for _ in range(2):  # the second would be the lean way's
            answer = await client.get(path, headers={"Origin": ORIGIN, **may(album)})
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
            assert {"Origin", "Accept-Encoding"} <= set(answer.headers["Vary"].split(", "))
        refused = await client.get(PATH, headers={"Origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
        for origin in ("https://evil.example", f"{ORIGIN}.evil.example", "null"):
            answer = await client.get(PATH, headers={"Origin": origin, **of_user("one")})
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_preflight_request_is_answered(
    server: str, database: Database, tmp_path: Path, method: str
) -> None:
    asking = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
    }
    async with service(server, tmp_path, cors_origins=ORIGIN) as client:
        answer = await client.options(PATH, headers=asking)
        assert answer.status_code == 200
        assert method in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        other = await client.options(PATH, headers={**asking, "Origin": "https://evil.example"})
        assert other.status_code == 400
        assert other.json()["type"] == "urn:imageapi:problem:cors-refused"
        assert other.headers["Content-Type"] == "application/problem+json"
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_without_origins_no_page_may_call(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH, headers={"Origin": ORIGIN, **of_user("one")})
    assert not [name for name in answer.headers if name.startswith("access-control")]
