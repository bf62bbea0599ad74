"""The documented headers on every answer of the service, whatever it answers."""

import errno
import re
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from fixture_types import TokenFor
from imageapi.app import create_app
from imageapi.database.engine import Database
from imageapi.http.response_headers import get_request_id
from imageapi.settings import Settings

ALWAYS = {
    "Pragma": "no-cache",
    "Expires": "Fri, 01 Jan 1990 00:00:00 GMT",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "X-Download-Options": "noopen",
    "X-Permitted-Cross-Domain-Policies": "none",
    "P3P": 'CP="NOI ADM DEV PSAi COM NAV OUR OTRo STP IND DEM"',
}
NOT_CACHED = "no-cache, no-store, must-revalidate, private, max-age=0"


class Unexpected(Exception):
    """What nobody expects; its words must reach nobody."""


@pytest.fixture(scope="module")
async def failing(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application with routes that fail in ways that nobody handles."""
    app: FastAPI = create_app(settings)

    @app.get("/fails")
    async def fails() -> None:
        raise Unexpected("SELECT secret FROM /etc/passwd")

    @app.get("/fails-by-system")
    async def fails_by_system(number: int) -> None:
        raise OSError(number, "SELECT secret", "/etc/passwd")

    @app.get("/fails-in-group")
    async def fails_in_group() -> None:
        raise ExceptionGroup("a group", [Unexpected("SELECT secret")])

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/", 307),
        ("GET", "/docs", 200),
        ("GET", "/docs/parts/swagger-ui.css", 200),
        ("GET", "/docs/parts/nothing", 404),
        ("POST", "/docs/parts/swagger-ui.css", 405),
        ("GET", "/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/healthz", 405),
        ("OPTIONS", "/healthz", 405),
        ("BREW", "/healthz", 405),
        ("GET", "/api/v1/albums/a/images/untag", 401),
        ("GET", "/api/v1/albums/a/images/untag/", 404),
        ("GET", "/api/v1/albums//images/untag", 404),
        ("GET", "/fails", 500),
        ("HEAD", "/fails", 500),
        ("GET", "/fails-in-group", 500),
        ("GET", f"/fails-by-system?number={errno.EACCES}", 500),
        ("GET", f"/fails-by-system?number={errno.EMFILE}", 503),
        ("GET", f"/fails-by-system?number={errno.ENOSPC}", 503),
    ],
)
async def test_every_response_has_them(
    failing: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await failing.request(method, path)
    assert answer.status_code == status
    assert "/etc/passwd" not in answer.text
    assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS
    assert answer.headers["Cache-Control"] == NOT_CACHED
    assert "X-token" not in answer.headers
    uuid.UUID(answer.headers["X-Request-Id"])
    assert re.fullmatch(r"\d+\.\d{6}", answer.headers["X-Runtime"])


async def test_unhandled_error_says_nothing_to_the_client_or_the_log(
    failing: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answer = await failing.get("/fails", headers={"X-Request-Id": "the-id"})
    assert answer.json() == {
        "type": "urn:imageapi:problem:unexpected",
        "title": "Something went wrong here",
        "status": 500,
        "detail": "The error was written down under this request's id.",
        "instance": "the-id",
    }
    written = "".join(capsys.readouterr()) + caplog.text
    assert "Unexpected" in written
    assert "the-id" in written
    assert "test_headers:" in written
    assert "SELECT" not in written
    assert "Traceback" not in written


@pytest.mark.parametrize(
    ("album", "query", "status"), [("a", "", 200), ("b", "", 403), ("a", "?limit=0", 422)]
)
async def test_response_to_a_verified_token_repeats_it(
    client: httpx.AsyncClient, may: TokenFor, album: str, query: str, status: int
) -> None:
    headers = may("a")
    answer = await client.get(f"/api/v1/albums/{album}/images/untag{query}", headers=headers)
    assert answer.status_code == status
    assert f'Token token="{answer.headers["X-token"]}"' == headers["Authorization"]


async def test_picture_may_be_cached(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/blank.jpg")
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    kept_out = {"Pragma", "Expires"}  # a browser would obey them, and ask for every picture again
    assert kept_out.isdisjoint(answer.headers)
    assert {name: answer.headers.get(name) for name in ALWAYS.keys() - kept_out} == {
        name: value for name, value in ALWAYS.items() if name not in kept_out
    }
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Timing-Allow-Origin"] == "*"
    again = await client.get("/assets/blank.jpg", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert kept_out.isdisjoint(again.headers)


async def test_what_is_no_picture_is_not_cached(client: httpx.AsyncClient) -> None:
    path = f"/assets/a/{uuid.uuid4()}/x/mini-120.jpg"
    for missing in (path, "/assets/blank.png"):
        answer = await client.get(missing)
        assert answer.status_code == 404
        assert answer.headers["Cache-Control"] == NOT_CACHED
        assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"abc-DEF_1.2@3", "abc-DEF_1.2@3"),
        (b"a b/c\td\xe9f", "abcdf"),
        (b"x" * 300, "x" * 255),
        (b"<script>", "script"),
    ],
)
def test_request_id_keeps_what_may_be_in_one(given: bytes, kept: str) -> None:
    assert get_request_id(given) == kept


@pytest.mark.parametrize("given", [None, b"", b" ", b"<>", "é".encode()])
def test_request_without_a_usable_id_gets_a_new_one(given: bytes | None) -> None:
    first, second = uuid.UUID(get_request_id(given)), uuid.UUID(get_request_id(given))
    assert first != second
    assert first.version == 4
