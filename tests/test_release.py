"""A release: one version, and a wheel and an sdist that hold all that they need."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from conftest import IMAGEAPI, Command
from factories import DOCUMENTED_ALBUM, DOCUMENTED_BODY, PROJECT, SAMPLE
from imageapi import __version__
from test_frameworks import require_bounds

UV = PROJECT / ".tools/bin/uv"
HATCHLING = IMAGEAPI.with_name("hatchling")
needs_uv = pytest.mark.skipif(
    not UV.exists() and "CI" not in os.environ, reason="make has not installed uv"
)


def test_version_is_the_same_wherever_it_stands(app: FastAPI) -> None:
    newest = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$", changelog(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert app.openapi()["info"]["version"] == __version__
    assert f"ARG VERSION={__version__}\n" in (PROJECT / "Dockerfile").read_text()


def changelog() -> str:
    return (PROJECT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build(PROJECT, folder, "sdist")
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    build(source, folder / "made", "wheel")
    (made,) = (folder / "made").iterdir()
    return made


def build(source: Path, folder: Path, target: str) -> None:
    command = [HATCHLING, "build", "--target", target, "--directory", folder]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sdist_is_what_the_repository_has(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        kept = {name for name in listed.stdout.splitlines() if (PROJECT / name).exists()}
        assert held == kept | {"PKG-INFO"}
    assert {"src/imageapi/py.typed", "alembic/env.py", "Makefile", "requirements/run.txt"} <= held


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (metadata,) = (name for name in held if name.endswith("/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    source = PROJECT / "src/imageapi"
    package = {
        f"imageapi/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    migrations = {
        f"imageapi/database/migrations/{path.relative_to(PROJECT / 'alembic').as_posix()}"
        for path in (PROJECT / "alembic").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in held if ".dist-info/" not in name} == package | migrations
    assert {"imageapi/py.typed", "imageapi/assets/blank.jpg"} <= held
    assert (headers["Name"], headers["Version"]) == ("imageapi", __version__)
    assert headers["License-Expression"] == "MIT"
    require_bounds(headers.get_all("Requires-Dist", []))


@needs_uv
def test_installed_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    for_uv = {
        **os.environ,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "hardlink",
        "UV_COMPILE_BYTECODE": "0",  # most of it is never imported here
    }
    python = venv / "bin/python"
    locked = PROJECT / "requirements/run.txt"
    for command in (
        ["venv", "--python", sys.executable, venv],
        ["pip", "sync", "--python", python, "--require-hashes", locked],
        ["pip", "install", "--python", python, "--no-deps", wheel],
    ):
        done = subprocess.run(
            [UV, *command], env=for_uv, cwd=elsewhere, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    installed = Command(environment, elsewhere, [python, "-m", "imageapi"])
    assert installed("--version").stdout.decode() == f"imageapi {__version__}\n"
    sample = elsewhere / "untagged.json"
    shutil.copy(SAMPLE, sample)
    with installed.serving() as service:
        for path in ("/readyz", "/assets/blank.jpg", "/openapi.json", "/docs"):
            assert httpx.get(service.address + path, timeout=60).status_code == 200
        assert installed("import", "untagged.json").returncode == 0
        token = installed("token", DOCUMENTED_ALBUM).stdout.decode().strip()
        listed = httpx.get(
            f"{service.address}/api/v1/albums/{DOCUMENTED_ALBUM}/images/untag",
            headers={"Authorization": f'Token token="{token}"'},
            timeout=60,
        )
        assert listed.content == DOCUMENTED_BODY
    assert service.process.returncode == 0
    assert {path.name for path in elsewhere.iterdir()} == {"data", "untagged.json"}
