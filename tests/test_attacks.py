"""Attacks, each with what it meets. docs/security.md names the test for every threat."""

import asyncio
import hmac
import itertools
import uuid
from typing import Any

import httpx
import pytest

import pictures
from conftest import Service
from factories import HEADER, claims, record, signed
from fixture_types import AddRecords, TokenFor
from imageapi.auth.claims import ABILITIES
from imageapi.deadlines import Deadlines
from test_routes import BODIES, GUARDED, NOBODY, path_of

#: What means something to SQL, shells, paths, templates, terminals, logs or JSON.
HOSTILE = {
    "SQL": "'; DROP TABLE images; --",
    "SQL in a comment": '") OR 1=1 /*',
    "a placeholder": "$1 %s :album_id {album_id}",
    "a path": "../../../etc/passwd",
    "a template": "{{7*7}}${7*7}<%= 7*7 %>",
    "HTML": "<script>alert(1)</script>",
    "lines": "a\r\nSet-Cookie: a=b",
    "JSON": '","infos":{"tags":[]},"x":"',
    "an escape": "\x1b[31m",
    "array of PostgreSQL": "{NULL,{}}",
    "from right to left": "\u202egpj.a",
    "half a pair": "\\ud800",
    "percent": "%2e%2e%2f%00",
    "long": "a" * 4000,
    "a number without end": "9" * 400,
    "before the first date": "0001-01-01T00:00:00+14:00",
    "behind the last date": "9999-12-31T23:59:59-14:00",
}


POSITION = ("latitude", "longitude", "accuracy")


def bearing(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("route", "asked"), GUARDED.items())
async def test_no_route_is_opened_by_anything_but_its_ability_on_its_album(
    client: httpx.AsyncClient, album: str, route: tuple[str, str], asked: str
) -> None:
    """Every set of abilities, on this album and on others; only those with the right one pass."""
    method, path = route
    passed, refused = 0, 0
    for count in range(len(ABILITIES) + 1):
        for abilities in itertools.combinations(ABILITIES, count):
            here = claims(album, *abilities)
            for other in (album.upper(), album[:-1], f"{album}x", "*", ""):
                here["abilities"][other] = {"Access": dict.fromkeys(ABILITIES, True)}
            answer = await client.request(
                method,
                path_of(path, album),
                headers=bearing(signed(HEADER, here)),
                json=BODIES.get(route),
            )
            # Beyond the guard: done, no such image, or no form.
            expected = {200, 404, 415} if asked in abilities else {403}
            assert answer.status_code in expected, (route, abilities)
            passed += answer.status_code != 403
            refused += answer.status_code == 403
    assert (passed, refused) == (16, 16)


@pytest.mark.parametrize(("route", "asked"), GUARDED.items())
async def test_who_may_not_learns_nothing_of_what_is_there(
    client: httpx.AsyncClient, add: AddRecords, album: str, route: tuple[str, str], asked: str
) -> None:
    """An album that is full of images and one that was never seen answer alike, but for its id."""
    method, path = route
    await add([record(album, each) for each in range(3)])
    never = f"album-{uuid.uuid4()}"
    stranger = bearing(signed(HEADER, claims("of-a-stranger", *ABILITIES)))
    seen = []
    for asked_for in (album, never):
        for public_id in (record(album)["public_id"], NOBODY):
            url = path_of(path, asked_for).replace(NOBODY, public_id)
            answer = await client.request(method, url, headers=stranger, json=BODIES.get(route))
            body = {**answer.json(), "instance": ""}
            body["detail"] = body["detail"].replace(asked_for, "ALBUM")
            seen.append((answer.status_code, body, len(answer.headers)))
    assert seen[0][0] == 403
    assert all(each == seen[0] for each in seen)


async def test_image_of_another_album_is_as_one_that_is_not_there(
    client: httpx.AsyncClient, add: AddRecords, album: str, may: TokenFor
) -> None:
    """By every route that names an image, also where the asker may do all in an album of his."""
    theirs = f"album-{uuid.uuid4()}"
    await add([record(theirs)])
    public_id = record(theirs)["public_id"]
    for route in GUARDED:
        method, path = route
        if "{public_id" not in path:
            continue
        bodies = []
        for each in (public_id, NOBODY):
            url = path_of(path, album).replace(NOBODY, each)
            answer = await client.request(
                method, url, headers=may(album, *ABILITIES), json=BODIES.get(route)
            )
            assert answer.status_code == 404
            bodies.append({**answer.json(), "instance": ""})
        assert bodies[0] == bodies[1]
    body = {"public_ids": [public_id], "add": ["a"]}
    many = f"/api/v1/albums/{album}/images/tags"
    assert (await client.post(many, headers=may(album, *ABILITIES), json=body)).status_code == 404
    there = await client.get(f"/api/v1/albums/{theirs}/images", headers=may(theirs))
    assert there.json()[0]["infos"]["tags"] == [theirs]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_text_is_text_or_refused_wherever_it_stands(
    client: httpx.AsyncClient, add: AddRecords, album: str, may: TokenFor, text: str
) -> None:
    await add([record(album, each) for each in range(2)])
    everybody = may(album, *ABILITIES)
    images = f"/api/v1/albums/{album}/images"
    one = f"{images}/{record(album)['public_id']}"
    jpeg = pictures.jpeg(seed=10)
    quoted = str(httpx.URL("http://a", params={"a": text}).query, "ascii").removeprefix("a=")
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"{one}/tags/{quoted.replace('+', '%20')}", {}),
        ("POST", f"{images}/tags", {"json": {"public_ids": [NOBODY, text], "add": [text]}}),
        ("POST", f"{images}/tags", {"json": {"public_ids": [], "add": [text]}}),
        ("PATCH", one, {"json": {"rotation": text}}),
        ("PATCH", one, {"json": {text: 1}}),
        ("PATCH", one, {"content": f'{{"gps_html":[{text},0]}}'.encode()}),
        ("POST", images, {"files": {"file": ("a", jpeg)}, "data": dict.fromkeys(POSITION, text)}),
        ("POST", images, {"files": {"file": (text, pictures.jpeg(seed=9))}}),
        ("POST", images, {"files": {"file": ("a", b"no picture")}, "data": {"tags": text}}),
        ("POST", images, {"files": {"file": ("a", b"no picture")}, "data": {"public_id": text}}),
        ("GET", f"/assets/{quoted}/{NOBODY}/{quoted}/mini-120.jpg", {}),
        ("GET", f"/api/v1/albums/{quoted}/images/untag", {}),
        *(
            ("GET", images, {"params": {name: text}})
            for name in (
                *("tag", "after", "limit", "bbox", "format", "untagged"),
                *("created_after", "created_before"),
            )
        ),
        ("GET", f"/api/v1/albums/{album}/events", {"params": {"after": text}}),
        ("GET", images, {"headers": {**everybody, "If-None-Match": quoted}}),
        ("GET", f"{images}/untag", {"headers": {**everybody, "X-Request-Id": quoted}}),
    ]
    for method, path, more in asked:
        answer = await client.request(method, path, **{"headers": everybody, **more})
        assert answer.status_code < 500, (method, path, answer.text)
        assert "set-cookie" not in answer.headers
        for leak in ("SELECT", "asyncpg", "Traceback", "sqlalchemy", "/site-packages/"):
            assert leak not in answer.text
    listed = (await client.get(images, headers=everybody)).json()
    assert {each["album_id"] for each in listed} == {album}
    assert len(listed) in (2, 3, 4)
    tags = {tag for each in listed for tag in each["infos"]["tags"]} - {album}
    assert tags <= {text}


@pytest.mark.parametrize("middle", [" " * 60_000, "\t " * 30_000, " ," * 30_000, ";" * 60_000])
async def test_header_of_blanks_delays_no_other_request(service: Service, middle: str) -> None:
    """However a token is separated from what is around it."""
    request = f"GET /api/v1/token HTTP/1.1\r\nHost: a\r\nAuthorization: Token a{middle}b\r\n"
    answer = await asyncio.wait_for(service.exchange(f"{request}\r\n".encode()), 20)
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_of_many_mistakes_the_first_are_listed(
    client: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    """An answer is no larger than what was sent, and takes no longer than to read that."""
    path = f"/api/v1/albums/{album}/images/{NOBODY}"
    body = {f"{number}" + "x" * 300: 1 for number in range(1000)}
    answer = await client.patch(path, headers=may(album, "image_update"), json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 10_000


async def test_of_parts_of_the_docs_all_is_sent(client: httpx.AsyncClient) -> None:
    """A range may be passed over (RFC 9110 §14.2); one that makes no sense is no other error."""
    path = "/docs/parts/swagger-ui.css"
    for wanted in ("bytes=abc", "bytes=5-3", "lines=1", "bytes=99999999-", "bytes=0-1"):
        answer = await client.get(path, headers={"Range": wanted})
        assert (answer.status_code, len(answer.content) > 1000) == (200, True)


def test_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from imageapi.albums import asset_paths  # noqa: PLC0415 - what is looked into

    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(asset_paths.hmac, "compare_digest", noting)
    key, name = b"k" * asset_paths.KEY_BYTES, "mini-120.jpg"
    good = asset_paths.sign(key, name)
    for given in (good, good[:-1] + "x", "", "é"):
        assert asset_paths.is_signed(key, name, given) == (given == good)
    assert [given for _, given in compared] == [
        each.encode() for each in (good, good[:-1] + "x", "", "é")
    ]


WITH_BODY = [*BODIES, ("POST", "/api/v1/albums/{album_id}/images")]


@pytest.mark.parametrize("route", WITH_BODY)
@pytest.mark.parametrize("ability", [None, "wrong"])
async def test_unauthorized_request_is_refused_before_its_body_is_read(
    service: Service, album: str, may: TokenFor, route: tuple[str, str], ability: str | None
) -> None:
    """Nothing is kept of what strangers send, and nothing said of it."""
    head = f"{route[0]} {path_of(route[1], album)} HTTP/1.1\r\nHost: test\r\n"
    if ability is not None:
        others = set(ABILITIES) - {GUARDED[route]}
        head += f"Authorization: {may(album, *others)['Authorization']}\r\n"
    kind = "multipart/form-data; boundary=b" if "tags" not in route[1] else "application/json"
    head += f"Content-Type: {kind}\r\nContent-Length: 1000000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head.encode() + b"{,")
    answer = await asyncio.wait_for(reader.readline(), Deadlines().body_seconds * 0.8)
    assert answer.split()[1] == (b"401" if ability is None else b"403")
    writer.close()
    await writer.wait_closed()


BODY = b"x" * 5000


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_to_a_route_that_takes_none_is_passed_over(
    service: Service, album: str, may: TokenFor, method: str, framing: str
) -> None:
    """And what follows it on the connection is answered as if it stood alone."""
    authorization = may(album, *ABILITIES)["Authorization"]
    path = f"/api/v1/albums/{album}/images/untag"
    if method in ("DELETE", "PUT"):
        path = f"/api/v1/albums/{album}/images/{NOBODY}/tags/a"
    head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: {authorization}\r\n"
    if framing == "length":
        request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    else:
        chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
        request = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk + b"0\r\n\r\n"
    answer = await service.exchange(request)
    status = int(answer.split()[1])
    assert status == {"GET": 200, "HEAD": 200, "OPTIONS": 405}.get(method, 404)


SMUGGLED = b"GET /api/v1/token HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding : chunked\r\nContent-Length: %d" % len(SMUGGLED),
        b"Transfer-Encoding: identity\r\nContent-Length: 0",
        b"Transfer-Encoding: chunked, identity\r\nContent-Length: 0",
        b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 0",
        b"Content-Length: 0\r\nContent-Length: %d" % len(SMUGGLED),
        b"Content-Length: 0, %d" % len(SMUGGLED),
        b"Content-Length: 0x%x" % len(SMUGGLED),
        b"Content-Length:\r\n %d" % len(SMUGGLED),
    ],
)
async def test_no_request_is_smuggled_in_a_body(service: Service, framing: bytes) -> None:
    """What two parsers could end at different places is refused, and the connection with it."""
    request = b"POST /healthz HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n" + SMUGGLED
    answer = await asyncio.wait_for(service.raw(request), 30)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
        name.encode(),
        more,
        value,
    )


FORMS = {
    "thousands of parts": part("tags", b"a") * 5000 + b"--b--\r\n",
    "thousands of empty parts": b"--b\r\n\r\n\r\n" * 20_000 + b"--b--\r\n",
    "thousands of files": part("file", b"x", b'; filename="a"') * 2000 + b"--b--\r\n",
    "an endless field": part("tags", b"a" * 3_000_000) + b"--b--\r\n",
    "an endless name": part("a" * 500_000, b"a") + b"--b--\r\n",
    "a form in a form": part(
        "file",
        b'--c\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nx\r\n--c--\r\n',
        b'; filename="a"\r\nContent-Type: multipart/mixed; boundary=c',
    )
    + b"--b--\r\n",
    "nothing but boundaries": b"--b\r\n" * 50_000,
    "a boundary that never ends": b"--b" * 100_000,
    "a length of its own": part("file", b"x", b'; filename="a"\r\nContent-Length: 99999999')
    + b"--b--\r\n",
    "an encoding": part("file", b"eA==", b'; filename="a"\r\nContent-Transfer-Encoding: base64')
    + b"--b--\r\n",
    "a file without a name": part("file", pictures.jpeg(seed=3)[:400]) + b"--b--\r\n",
    "names twice": part("file", b"x", b'; name="tags"; filename="a"') + b"--b--\r\n",
    "what follows the end": part("file", b"x", b'; filename="a"') + b"--b--\r\n" + b"y" * 2_000_000,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_abused_forms_are_refused_and_leave_nothing(
    client: httpx.AsyncClient, album: str, may: TokenFor, form: bytes
) -> None:
    images = f"/api/v1/albums/{album}/images"
    headers = may(album, "image_create", "image_list")
    for length in ({}, {"Content-Length": str(len(form) + 1000)}):
        if length and client.base_url.port:
            continue  # a socket would be waited for
        kind = {"Content-Type": "multipart/form-data; boundary=b", **length}
        answer = await client.post(images, headers={**headers, **kind}, content=form)
        assert answer.status_code in (400, 413, 415, 422), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await client.get(images, headers=headers)).json() == []
