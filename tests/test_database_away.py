"""While the database is unavailable clients get 503 at once; no restart is needed afterwards."""

import time
from pathlib import Path

import httpx
import pytest

from conftest import Command
from factories import SECRET
from fixture_types import TokenFor
from imageapi.app import create_app
from imageapi.database.engine import Database
from imageapi.database.migration import migrate
from imageapi.embedded_postgres.client import run_embedded_server
from imageapi.settings import Settings

NOBODY = "postgresql://user:hunter2@127.0.0.1:1/imageapi"


@pytest.mark.parametrize("path", ["/readyz", "/api/v1/albums/a/images/untag?limit=1"])
async def test_clients_get_retry_after(path: str, may: TokenFor) -> None:
    app = create_app(Settings(database_url=NOBODY, token_secret=SECRET))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get(path, headers=may("a"))
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.json()["type"] == "urn:imageapi:problem:database-away"
            assert "127.0.0.1" not in answer.text
            assert (await client.get("/healthz")).status_code == 200


async def test_service_recovers_with_its_database(tmp_path: Path, may: TokenFor) -> None:
    with run_embedded_server(tmp_path) as dsn:
        database = Database(dsn)
        await migrate(database)
        await database.close()
    app = create_app(Settings(database_url=dsn, token_secret=SECRET))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            token = may("a")  # one token: a new one would not take the fast path

            async def status() -> int:
                answer = await client.get("/api/v1/albums/a/images/untag", headers=token)
                return answer.status_code

            assert await status() == 503
            for _ in range(2):
                with run_embedded_server(tmp_path):
                    assert await status() == 200
                assert await status() == 503


def test_command_without_a_database_is_one_line(imageapi: Command) -> None:
    started = time.monotonic()
    result = imageapi("export", "a", IMAGEAPI_DATABASE_URL=NOBODY)
    assert result.returncode == 1
    assert result.stderr == b"imageapi: The database does not answer.\n"
    assert time.monotonic() - started < 20
