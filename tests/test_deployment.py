"""The Dockerfile and the composition, as far as that goes without a Docker engine.

Both are compared with the code; the composition's own start command runs as an ordinary user,
its secrets in files, against a PostgreSQL server over TCP that asks for a password.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from conftest import IMAGEAPI
from embedded_processes import IS_ROOT, PROGRAMS, ordinary
from factories import DOCUMENTED_ALBUM, DOCUMENTED_BODY, PROJECT, SAMPLE
from imageapi.server import GRACE_SECONDS
from imageapi.settings import PREFIX, Settings

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICE = COMPOSE["services"]["imageapi"]
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_composition_sets_only_what_is_a_setting() -> None:
    assert set(SERVICE["environment"]) <= SETTINGS
    secrets = {name.upper() for name in SERVICE["secrets"]}
    assert secrets <= SETTINGS
    assert {f"{PREFIX}DATABASE_URL", f"{PREFIX}TOKEN_SECRET"} <= secrets


def test_composition_declares_what_it_uses() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
    assert "healthcheck" in COMPOSE["services"]["postgres"]


def test_composition_gives_requests_their_time_to_finish() -> None:
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS


def test_made_secrets_are_those_that_the_composition_reads(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(PROJECT / "scripts/make-secrets", tmp_path / "scripts")
    made: list[dict[str, str]] = []
    for _ in range(2):
        subprocess.run(["/bin/sh", script], check=True)
        made.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})
    assert made[0] == made[1]
    files = {PROJECT / secret["file"] for secret in COMPOSE["secrets"].values()}
    assert files == {PROJECT / "secrets" / name for name in made[0]}
    password = made[0]["postgres_password"]
    postgres = COMPOSE["services"]["postgres"]["environment"]
    url = f"postgresql://{postgres['POSTGRES_USER']}:{password}@postgres:5432/"
    assert made[0]["imageapi_database_url"] == url + postgres["POSTGRES_DB"]
    assert len(made[0]["imageapi_token_secret"]) >= 32
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_image_runs_as_an_ordinary_user_without_build_tools() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\S+)$", final, re.MULTILINE)
    assert user is not None
    assert user[1] not in {"root", "0"}
    assert final.index("USER") < final.index("ENTRYPOINT")
    assert "pip uninstall" in final
    assert "--from=build /opt/imageapi /opt/imageapi" in final
    assert not re.search(r"apt-get|pip install|\buv\b|gcc", final)


def test_image_is_made_of_what_is_there_and_let_in() -> None:
    let_in = (PROJECT / ".dockerignore").read_text()
    for copied in instructions("COPY"):
        if copied.startswith("--from"):
            continue
        for source in copied.split()[:-1]:
            assert (PROJECT / source).exists()
            assert f"!{source.removeprefix('./')}\n" in let_in


def test_image_ports_paths_and_settings_are_those_of_the_code(app: FastAPI) -> None:
    (port,) = instructions("EXPOSE")
    (command,) = instructions("CMD")[-1:]
    assert f'"--port", "{port}"' in command
    (health,) = instructions("HEALTHCHECK")
    asked = re.search(rf"127\.0\.0\.1:{port}(/\w+)", health)
    assert asked is not None
    assert asked[1] in {route.path for route in iter_route_contexts(app.routes)}
    for assignment in re.findall(rf"{PREFIX}\w+", DOCKERFILE):
        assert assignment in SETTINGS
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_image_python_is_one_that_the_project_supports() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"PYTHON=(\d\.\d+)", DOCKERFILE)
    assert project["requires-python"] == ">=3.11"
    assert version in {"3.11", "3.12", "3.13"}


@pytest.fixture
def account() -> Any:
    """An ordinary user to become; None where we are one."""
    return ordinary(1) if IS_ROOT else None


@pytest.fixture
def folder(account: Any) -> Iterator[Path]:
    """A folder of the ordinary user's, which it can reach."""
    path = Path(tempfile.mkdtemp(prefix="imageapi-deployment-"))
    if account:
        os.chown(path, account.uid, account.gid)
    yield path
    shutil.rmtree(path)


def launched(command: list[Any], account: Any, **more: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=account.become if account else None,  # noqa: PLW1509
        **more,
    )


@pytest.fixture
def server_over_tcp(folder: Path, account: Any) -> Iterator[str]:
    """The URL of a PostgreSQL server that listens on TCP only and asks for a password.

    It names two hosts, of which the first does not answer.
    """
    password = folder / "password"
    password.write_text("hunter2:/@")
    if account:
        os.chown(password, account.uid, account.gid)
    data = folder / "postgres"
    form = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", f"--pwfile={password}"]
    made = launched([PROGRAMS.initdb, "-D", data, "-U", "imageapi", *form], account)
    said, _ = made.communicate(timeout=120)
    assert made.returncode == 0, said
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": port}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    server = launched([PROGRAMS.postgres, "-D", data, *settings], account)
    deadline = time.monotonic() + 60
    while "ready" not in _status(data):
        assert server.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"postgresql://imageapi:hunter2%3A%2F%40@127.0.0.1:1,127.0.0.1:{port}/postgres"
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=60)


def _status(data: Path) -> str:
    try:
        return (data / "postmaster.pid").read_text()
    except FileNotFoundError:
        return ""


def test_composition_start_command_serves_over_tcp(
    server_over_tcp: str, folder: Path, account: Any
) -> None:
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "imageapi_database_url").write_text(server_over_tcp)
    (secrets / "imageapi_token_secret").write_text("s" * 64)
    environment = {
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(secrets),
        **SERVICE["environment"],
        "IMAGEAPI_DATA_DIR": str(folder / "data"),
    }
    command = [*SERVICE["command"]]
    command[command.index("--host") + 1] = "127.0.0.1"  # servers under test listen nowhere else
    command[command.index("--port") + 1] = "0"
    at_work = {"env": environment, "cwd": folder}

    def run(*arguments: str, stdin: Any = None) -> bytes:
        process = launched([IMAGEAPI, *arguments], account, stdin=stdin, **at_work)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    service = launched([IMAGEAPI, *command], account, **at_work)
    try:
        assert service.stdout is not None
        address = service.stdout.readline().decode().split()[4].rstrip(",")
        with SAMPLE.open("rb") as sample:
            run("import", "-", stdin=sample)
        token = run("token", DOCUMENTED_ALBUM).decode().strip()
        assert httpx.get(f"{address}/readyz", timeout=60).status_code == 200
        answer = httpx.get(
            f"{address}/api/v1/albums/{DOCUMENTED_ALBUM}/images/untag",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        assert answer.content == DOCUMENTED_BODY
    finally:
        service.send_signal(signal.SIGTERM)
        said, _ = service.communicate(timeout=60)
    assert service.returncode == 0
    assert b"hunter2" not in said
    assert b"s" * 64 not in said
