"""The command line: what it prints, what it refuses, and with which status."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from array import array
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import IO, Any

import pytest
from jose import jwt
from typer.testing import CliRunner

from conftest import IMAGEAPI, Command
from factories import SECRET, record
from imageapi import __version__
from imageapi.auth.claims import ABILITIES
from imageapi.auth.tokens import Tokens
from imageapi.cli import app
from in_process import InProcess

COMMANDS = ("serve", "import", "token", "purge", "export", "migrate", "openapi")


def read(printed: bytes) -> dict[str, Any]:
    return jwt.decode(printed.decode().strip(), SECRET, algorithms=["HS256"])


def test_token_lists_for_four_hours_by_default(imageapi: Command) -> None:
    claims = read(imageapi("token", "an-album").stdout)
    assert claims["abilities"] == {"an-album": {"Access": {"image_list": True}}}
    assert abs(claims["exp"] - time.time() - 4 * 3600) < 30
    assert Tokens(SECRET)


def test_token_is_for_several_albums_and_all_abilities(imageapi: Command) -> None:
    claims = read(imageapi("token", "an-album", "another", "--all").stdout)
    assert claims["abilities"] == {
        album: {"Access": dict.fromkeys(ABILITIES, True)} for album in ("an-album", "another")
    }


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
        ("token", "an-album", "an album"),
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
def test_wrong_use_is_status_2(in_process: InProcess, arguments: tuple[str, ...]) -> None:
    result = in_process(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    wrong, hint = result.stderr.decode().splitlines()
    assert re.match(r"imageapi: [a-z\d'].+[^.]$", wrong)
    is_known = arguments[0] in COMMANDS
    assert hint == (f"Try: imageapi {arguments[0]} --help" if is_known else "Try: imageapi --help")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("fly",), {}),
        (("token", "an album"), {}),
        (("import", "missing.json"), {}),
        (("import", "-"), {"stdin": b"["}),
        (("export", "nothing"), {}),
        (("purge", "--older-than", "1d"), {"IMAGEAPI_STORE_URL": "ftp://host/there"}),
        (("migrate",), {"IMAGEAPI_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}),
        (("token", "a"), {"IMAGEAPI_TOKEN_SECRET": "short"}),
        (("serve", "--help"), {"COLUMNS": "70"}),
        ((), {}),
    ],
)
def test_in_process_commands_do_the_same(
    imageapi: Command, in_process: InProcess, arguments: tuple[str, ...], more: dict[str, Any]
) -> None:
    """What the tests of refusals rest on."""
    by_itself, here = imageapi(*arguments, **more), in_process(*arguments, **more)
    assert here.returncode == by_itself.returncode
    assert here.stdout == by_itself.stdout
    assert here.stderr == by_itself.stderr


def test_a_command_that_is_nearly_right_is_suggested(in_process: InProcess) -> None:
    assert b"Did you mean 'token'?" in in_process("tokne").stderr


def test_no_command_shows_what_there_is(imageapi: Command) -> None:
    result = imageapi()
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == imageapi("--help").stdout


def test_version_is_that_of_the_package(imageapi: Command) -> None:
    assert imageapi("--version").stdout.decode() == f"imageapi {__version__}\n"


def libraries() -> set[str]:
    """The packages that the service depends on, by the names that they are imported by."""

    def normalized(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    needed = {normalized(re.split(r"[^\w.-]", each)[0]) for each in requires("imageapi") or []}
    return {
        package
        for package, names in packages_distributions().items()
        if needed & set(map(normalized, names))
    }


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("--version",), {}),
        (("--help",), {}),
        ((), {}),
        (("fly",), {}),
        (("serve", "--help"), {}),
        (("token", "an album"), {}),
        (("export",), {}),
        (
            (),
            {
                "_IMAGEAPI_COMPLETE": "complete_bash",
                "COMP_WORDS": "imageapi token a --can image_",
                "COMP_CWORD": "4",
            },
        ),
    ],
)
def test_what_needs_no_library_imports_none(
    imageapi: Command, arguments: tuple[str, ...], more: dict[str, str]
) -> None:
    """So these answer at once. Typer imports Pydantic to read a command's arguments."""
    program = (sys.executable, "-X", "importtime", IMAGEAPI)
    shown = Command(imageapi.environment, imageapi.folder, program)(*arguments, **more)
    assert "COMP_WORDS" not in more or set(shown.stdout.decode().split()) == set(ABILITIES)
    lines = shown.stderr.decode().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert "imageapi.cli" in imported
    heavy = libraries() - {"typer", "pydantic"}
    assert {"fastapi", "sqlalchemy", "asyncpg", "jose", "pyvips", "obstore", "httpx"} <= heavy
    assert {name.partition(".")[0] for name in imported} & heavy == set()
    assert {name for name in imported if name.startswith("imageapi.commands.")} == set()


def examples(help_text: str) -> list[list[str]]:
    """The invocations that a help shows, without what is said beside them."""
    lines = help_text.partition("Examples:\n")[2].splitlines()
    return [shlex.split(re.split(r"   +|[|>]", line.strip())[0])[1:] for line in lines if line]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_and_shows_what_works(in_process: InProcess, command: str) -> None:
    result = in_process(*command.split(), "--help", COLUMNS="80")
    shown = result.stdout.decode()
    assert result.returncode == 0
    assert max(map(len, shown.splitlines())) <= 80
    named = examples(shown)
    assert named
    for arguments in named:
        if arguments[0].startswith("--"):
            assert arguments[0] in shown
            continue
        # With --help behind it nothing is done, but for a name or an option that there is not.
        known = CliRunner().invoke(app, [*arguments, "--help"])
        assert known.exit_code == 0
        given = {each for each in arguments if each.startswith("--")}
        assert given <= set(re.findall(r"--[a-z-]+", known.output))
        if command in ("token", "export"):  # there is no such album, which is another matter
            done = in_process(*arguments)
            assert done.returncode == 0 or b"there is no album" in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["imageapi", "pu"], {"purge"}),
        (["imageapi", "token", "--exp"], {"--expires-in"}),
        (["imageapi", "token", "holiday", "--can", "image_"], set(ABILITIES)),
    ],
)
def test_shell_completes(imageapi: Command, words: list[str], completed: set[str]) -> None:
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    result = imageapi(_IMAGEAPI_COMPLETE="complete_bash", **asked)
    assert set(result.stdout.decode().split()) == completed


def wait_until_read(pipe: IO[bytes]) -> None:
    """Return when the process at the other end has read all that is in the pipe."""
    deadline = time.monotonic() + 60
    unread = array("i", [1])
    while unread[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        fcntl.ioctl(pipe, termios.FIONREAD, unread)


def test_interrupted_command_ends_without_a_stack(imageapi: Command) -> None:
    with subprocess.Popen(
        [IMAGEAPI, "import", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=imageapi.environment,
        cwd=imageapi.folder,
        # Tests that run in the background of a shell ignore Ctrl-C, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"[")
        process.stdin.flush()
        wait_until_read(process.stdin)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()


def test_migrate_says_what_it_did(imageapi: Command) -> None:
    assert imageapi("migrate").returncode == 0
    assert imageapi("migrate").stdout == b"The schema is current\n"


def test_openapi_needs_no_database_and_no_settings(imageapi: Command, tmp_path: Path) -> None:
    elsewhere = Command(imageapi.environment, tmp_path)
    result = elsewhere("openapi", IMAGEAPI_DATABASE_URL="", IMAGEAPI_TOKEN_SECRET="")
    document = json.loads(result.stdout)
    assert document["openapi"].startswith("3.1")
    assert not list(tmp_path.iterdir())


async def test_openapi_is_what_the_service_says(in_process: InProcess, client: Any) -> None:
    assert json.loads(in_process("openapi").stdout) == (await client.get("/openapi.json")).json()


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
