"""No log line holds a secret or an address of the settings, whoever writes it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Command
from factories import claims
from imageapi import log_redaction
from imageapi.database.engine import Database
from imageapi.log_redaction import (
    REMOVED,
    hide_environment_in_logs,
    hide_in_logs,
    remove_hidden_texts,
)
from issuer import IssuerServer, SigningKey, issuer_server

#: What no line may hold; each is a part of a URL below.
SPIES = ("spy-user", "hunter2-spy", "spy-path", "spy-key", "spy-host", "spy%2Dcode")


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_redaction, "_hidden", set())
    monkeypatch.setattr(log_redaction, "_pattern", None)


def removed(text: str) -> str:
    return str(remove_hidden_texts(None, "", {"event": text})["event"])


def test_nothing_is_removed_that_is_not_hidden() -> None:
    assert removed("any text") == "any text"
    hide_in_logs(["", "short"], [""])
    assert removed("any short text") == "any short text"


@pytest.mark.parametrize(
    "text",
    [
        "https://spy-user:hunter2%2Fspy@spy-host.example/spy-path?key=spy-key&a=b",
        "https://spy-host.example/spy-path?key=spy-key&a=b",
        "cannot reach spy-host.example:443",
        "cannot reach spy-host.example",
        "password hunter2%2Fspy",
        "password hunter2/spy",
        "query key=spy-key&a=b",
        "spy-key",
    ],
)
def test_every_part_of_a_url_is_removed(text: str) -> None:
    url = "https://spy-user:hunter2%2Fspy@spy-host.example/spy-path?key=spy-key&a=b"
    hide_in_logs([], [url])
    assert REMOVED in removed(text)
    assert not any(spy in removed(text) for spy in ("spy-host", "spy-key", "hunter2"))


def test_every_host_of_a_database_is_removed() -> None:
    hide_in_logs(
        [],
        ["postgresql://a:hunter2@one.example:5432,[2001:db8::2]:5433/c?host=/run/x,four.example"],
    )
    hide_in_logs([], ["postgresql:///c?hostaddr=192.0.2.5,192.0.2.6&port=1"])
    for host in ("one.example", "[2001:db8::2]", "four.example", "192.0.2.5", "192.0.2.6"):
        assert removed(f"cannot reach {host} now") == f"cannot reach {REMOVED} now"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_of_a_setting_breaks_the_log(url: str, line: str) -> None:
    hide_in_logs([url], [url, f"https://{url}", f"https://a@b?{url}"])
    removed(line)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8000", "localhost", "postgresql", "imageapi", "require", "read-write"]
)
def test_words_of_any_line_stay(text: str) -> None:
    hide_in_logs([], ["postgresql://imageapi:hunter2-long@127.0.0.1:8000/imageapi?sslmode=require"])
    hide_in_logs([], ["postgresql://localhost/postgres?target_session_attrs=read-write"])
    hide_in_logs([], ["http://[::1"])  # is no URL
    assert removed(text) == text


def test_secrets_of_the_environment_are_removed() -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "hunter2-of-s3",
        "AZURE_STORAGE_ACCOUNT_KEY": "hunter2-of-azure",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "hunter2-of-google",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hunter2-of-otel",
        "PGPASSWORD": "hunter2-of-postgresql",
    }
    urls = {
        "AWS_ENDPOINT_URL": "https://spy.endpoint.example",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://spy.otel.example",
        "HTTPS_PROXY": "http://user:hunter2-of-proxy@proxy.example:3128",
    }
    hide_environment_in_logs(
        {"PATH": "/usr/local/bin", "AWS_REGION": "eu-west-3", **secrets, **urls}
    )
    for text in (*secrets.values(), *urls.values(), "hunter2-of-proxy", "proxy.example"):
        assert removed(f"a {text} b") == f"a {REMOVED} b"
    assert removed("/usr/local/bin eu-west-3") == "/usr/local/bin eu-west-3"


def test_values_that_are_no_text_are_looked_into() -> None:
    hide_in_logs(["hunter2-spy"])
    error = ValueError("hunter2-spy")
    event = {"event": "x", "error": error, "count": 3, "flag": True, "none": None, "list": [1]}
    seen = remove_hidden_texts(None, "", event)
    assert seen == {**event, "error": REMOVED}
    assert seen["count"] == 3


_WRITE_LINES = """
import asyncio, logging, sys
import structlog
from imageapi.auth.issuer import Issuer, fetch
from imageapi.auth.errors import IssuerUnavailable
from imageapi.log_redaction import hide_in_logs
from imageapi.logging import configure_logs

configure_logs()
url = sys.argv[1]
hide_in_logs([], [url])

async def fail(text):
    raise OSError(text)

async def main():
    try:
        await Issuer(url, lambda url: fetch(url, seconds=0.3)).refresh()
    except IssuerUnavailable:
        pass
    # What a library or asyncio might write of it:
    logging.getLogger("any.library").warning("cannot fetch %s", url)
    try:
        await fail(url)
    except OSError:
        logging.getLogger("any.library").exception("cannot fetch %s", url)
    structlog.get_logger().error("cannot fetch " + url, url=url)
    task = asyncio.create_task(fail(url))  # its error is retrieved by nobody
    await asyncio.sleep(0.01)
    del task

asyncio.run(main())
"""


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and answers nothing."""
    with create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def spying_url(port: int, host: str = "127.0.0.1") -> str:
    return f"http://spy-user:hunter2-spy@{host}:{port}/spy-path?key=spy-key&code=spy%2Dcode"


def write_lines(url: str) -> str:
    """The log of a process that fails to fetch the URL in every way that it can tell of."""
    command = [sys.executable, "-W", "error", "-c", _WRITE_LINES, url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    "way", ["refused", "silent", "404", "redirect", "no JSON", "unknown", "good"]
)
def test_no_line_holds_a_part_of_the_issuers_url(way: str) -> None:
    with issuer_server() as issuer, silent_server() as silent_port:
        port = int(issuer.url.split(":")[2].partition("/")[0])
        url = spying_url({"silent": silent_port, "refused": 1}.get(way, port))
        if way == "unknown":
            url = spying_url(port, "spy-host.invalid")
        issuer.status = {"404": 404, "redirect": 302}.get(way, 200)
        issuer.location = f"{issuer.url}?spy-key" if way == "redirect" else None
        issuer.content = b"spy-key" if way == "no JSON" else issuer.content
        written = write_lines(url)
        assert issuer.asked == (way not in ("refused", "silent", "unknown"))
    assert written.count("cannot fetch") >= 3
    assert ("the issuer's keys cannot be fetched" in written) == (way != "good")
    assert REMOVED in written
    assert "Task exception was never retrieved" in written
    assert "OSError" in written
    assert not [spy for spy in SPIES if spy in written], written


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with issuer_server() as issuer:
        yield issuer


@pytest.mark.parametrize("status", [200, 404])
def test_service_writes_no_part_of_the_issuers_url(
    imageapi: Command, database: Database, issuer: IssuerServer, status: int
) -> None:
    issuer.status = status
    port = int(issuer.url.split(":")[2].partition("/")[0])
    token = SigningKey("ES256", "unknown").sign(claims("an-album", "image_list"))
    with imageapi.serving(IMAGEAPI_TOKEN_JWKS_URL=spying_url(port)) as service:
        answer = httpx.get(
            f"{service.address}/api/v1/token",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        assert answer.status_code == (401 if status == 200 else 503)
        service.process.terminate()
        _, errors = service.process.communicate(timeout=60)
    assert issuer.asked
    written = errors.decode() + answer.text
    assert "request" in written
    assert not [spy for spy in SPIES if spy in written], written


@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASE_URL": "postgresql://spy-user:hunter2-spy@127.0.0.1:1/spy-path"},
        {"DATABASE_URL": "postgresql://spy-user:hunter2-spy@spy-host.invalid/spy-path"},
        {"DATABASE_URL": "postgresql://spy-user:hunter2-spy@127.0.0.1:spy-key/spy-path"},
        {"DATABASE_URL": "postgresql://127.0.0.1:1/a?password=hunter2-spy&sslmode=spy-key"},
        {"DATABASE_URL": "mysql://spy-user:hunter2-spy@spy-host/spy-path"},
        {"TOKEN_JWKS_URL": "http://spy-user:hunter2-spy@spy-host/spy-path?key=spy-key"},
        {"STORE_URL": "s3://spy-user:hunter2-spy@spy-host/spy-path?key=spy-key"},
        {"STORE_URL": "https://spy-user:hunter2-spy@spy-host/spy-path?key=spy-key"},
    ],
    ids=lambda changes: "=".join(next(iter(changes.items()))).replace("/", ""),
)
def test_command_that_fails_tells_no_part_of_a_url(
    imageapi: Command, changes: dict[str, str]
) -> None:
    variables = {f"IMAGEAPI_{name}": value for name, value in changes.items()}
    result = imageapi("purge", **variables)
    written = (result.stdout + result.stderr).decode()
    assert result.returncode in (1, 2)
    assert written.count("\n") == 1, written
    assert not [spy for spy in SPIES if spy in written], written


_SHOW_LEVELS = """
import logging
from imageapi.logging import configure_logs

configure_logs()
print(*(logging.getLogger(name).isEnabledFor(logging.INFO) for name in ("httpx", "httpcore", "x")))
"""


def test_libraries_write_no_line_for_a_request() -> None:
    """Else httpx writes the URL of each, at the level of our own lines."""
    command = [sys.executable, "-c", _SHOW_LEVELS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "False False True\n"
