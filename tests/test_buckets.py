"""The service over a bucket of an S3 server, and over one that does not answer."""

import io
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import pictures
from conftest import Command
from factories import SECRET
from faults import SlowRelay
from fixture_types import TokenFor
from imageapi.app import create_app
from imageapi.settings import Settings
from s3 import Bucket, s3_server
from test_uploader import Sender


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as endpoint:
        yield Bucket(endpoint, "pictures")


async def client_over(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        database_url=server, token_secret=SECRET, data_dir=folder, store_url="s3://pictures/here"
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def over_s3(
    server: str, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> AsyncIterator[httpx.AsyncClient]:
    async for client in client_over(server, tmp_path, monkeypatch, bucket.environment):
        yield client


@pytest.fixture
async def over_nothing(
    server: str, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose bucket is at a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        environment = {**bucket.environment, "AWS_ENDPOINT_URL": endpoint}
        async for client in client_over(server, tmp_path, monkeypatch, environment):
            yield client


async def test_photograph_goes_into_the_bucket_and_comes_back(
    over_s3: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    sender = Sender(over_s3, album, may)
    content = pictures.jpeg(width=700, height=500)
    answer = await sender.send(content)
    again = await sender.send(content)
    assert (answer.status_code, again.status_code) == (201, 200)
    for size, edge in (("mini", 120), ("large", 480), ("full", 700)):
        shown = await sender.get(answer.json()["thumbnails"][size])
        assert Image.open(io.BytesIO(shown.content)).width == edge
    original = answer.headers["Link"][1:].partition(">")[0]
    assert (await sender.get(original)).content == content
    assert (await sender.get(original, Range="bytes=100-199")).content == content[100:200]


async def test_folder_and_trash_over_a_bucket(
    imageapi: Command, bucket: Bucket, album: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.jpeg())
    (tmp_path / "b.png").write_bytes(pictures.png())
    more = {**bucket.environment, "IMAGEAPI_STORE_URL": "s3://pictures/there"}
    done = imageapi("import", str(tmp_path), "--album", album, **more)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads(imageapi("export", album).stdout)) == 2
    done = imageapi("purge", **more)
    assert done.stdout.endswith(b"pictures without a record: 0\n")


async def test_store_that_is_away_is_503_and_nothing_is_changed(
    over_nothing: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    sender = Sender(over_nothing, album, may)
    started = time.monotonic()
    answer = await sender.send(pictures.jpeg())
    assert time.monotonic() - started < 20
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:imageapi:problem:store-away"
    assert answer.headers["Retry-After"] == "2"
    assert "127.0.0.1" not in answer.text
    assert await sender.listed() == []


async def test_store_that_hangs_is_waited_for_as_long_as_the_service_says(
    server: str,
    database: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bucket: Bucket,
    album: str,
    may: Any,
) -> None:
    """With the deadlines of production: elsewhere tests have a tenth of them."""
    host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
    async with SlowRelay(host, int(port)) as relay:
        through = {**bucket.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}
        async for client in client_over(server, tmp_path, monkeypatch, through):
            sender = Sender(client, album, may)
            image = (await sender.send(pictures.jpeg())).json()
            relay.hold()
            started = time.monotonic()
            answer = await sender.get(image["thumbnails"]["mini"])
            took = time.monotonic() - started
            relay.let_go()
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:imageapi:problem:store-away"
    assert 10 <= took < 15


async def test_tagging_works_while_the_store_is_unavailable(
    over_s3: httpx.AsyncClient, over_nothing: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    image = (await Sender(over_s3, album, may).send(pictures.jpeg())).json()
    sender = Sender(over_nothing, album, may)
    shown = await sender.get(image["thumbnails"]["mini"])
    assert shown.status_code == 503
    tagged = await sender.client.put(
        f"{sender.images}/{image['public_id']}/tags/a", headers=sender.headers
    )
    assert tagged.status_code == 200
