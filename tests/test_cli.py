"""The command line: what it prints, what it refuses, and with which status."""

import json
import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from jose import jwt

from conftest import IMAGEAPI, Command
from factories import SECRET, record
from imageapi.auth.tokens import Tokens


def read(printed: bytes) -> dict[str, Any]:
    return jwt.decode(printed.decode().strip(), SECRET, algorithms=["HS256"])


def test_token_lists_for_four_hours_by_default(imageapi: Command) -> None:
    claims = read(imageapi("token", "an-album").stdout)
    assert claims["abilities"] == {"an-album": {"Access": {"image_list": True}}}
    assert abs(claims["exp"] - time.time() - 4 * 3600) < 30
    assert Tokens(SECRET)


def test_token_grants_what_is_asked(imageapi: Command) -> None:
    user = "20ab42f4-9308-4297-a5f0-c0c07d1d189b"
    arguments = ["--can", "image_tag", "--can", "image_list", "--expires-in", "30d"]
    claims = read(imageapi("token", "an-album", *arguments, "--user", user).stdout)
    assert claims["abilities"] == {"an-album": {"Access": {"image_tag": True, "image_list": True}}}
    assert claims["user_id"] == user
    assert abs(claims["exp"] - time.time() - 30 * 24 * 3600) < 30


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "an album"),
        ("token",),
        ("token", "a", "--can", "everything"),
        ("token", "a", "--expires-in", "4"),
        ("token", "a", "--expires-in", "0h"),
        ("token", "a", "--expires-in", "-4h"),
        ("token", "a", "--user", "me"),
        ("export", "x" * 65),
        ("import",),
        ("import", "a.json", "--album", "a b"),
        ("serve", "--port", "65536"),
        ("serve", "--workers", "0"),
        ("fly",),
        ("serve", "--fly"),
    ],
)
def test_wrong_use_is_status_2(imageapi: Command, arguments: tuple[str, ...]) -> None:
    result = imageapi(*arguments)
    assert result.returncode == 2
    assert result.stdout == b""
    assert b"Traceback" not in result.stderr


def test_migrate_says_what_it_did(imageapi: Command) -> None:
    assert imageapi("migrate").returncode == 0
    assert imageapi("migrate").stdout == b"The schema is current\n"


def test_openapi_needs_no_database_and_no_settings(imageapi: Command) -> None:
    result = imageapi("openapi", IMAGEAPI_DATABASE_URL="", IMAGEAPI_TOKEN_SECRET="")
    document = json.loads(result.stdout)
    assert document["openapi"].startswith("3.1")
    assert not (imageapi.folder / "data").exists()


async def test_openapi_is_what_the_service_says(imageapi: Command, client: Any) -> None:
    assert json.loads(imageapi("openapi").stdout) == (await client.get("/openapi.json")).json()


def test_python_m_is_the_same_command(imageapi: Command) -> None:
    result = subprocess.run(
        [IMAGEAPI.with_name("python"), "-m", "imageapi", "token", "a"],
        env=imageapi.environment,
        capture_output=True,
        check=True,
    )
    assert read(result.stdout)["abilities"] == {"a": {"Access": {"image_list": True}}}


def test_import_shows_its_progress_on_a_terminal(
    imageapi: Command, tmp_path: Path, album: str
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record(album, number) for number in range(3000)]))
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [IMAGEAPI, "import", tmp_path / "a.json"],
        env={**imageapi.environment, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
        assert process.stdout is not None
        assert process.stdout.read() == b"images added: 3000, there already: 0\n"
    os.close(controller)
    assert b"importing" in shown
    assert "━".encode() in shown
    plain = imageapi("import", str(tmp_path / "a.json"))
    assert plain.stderr == b""


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side has been closed
        return b""
