"""What the docs say is what the code does."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from conftest import IMAGEAPI
from factories import DOCUMENTED_BODY, PROJECT
from imageapi.api import problems

README = (PROJECT / "README.md").read_text()
CONTRACT = (PROJECT / "docs/contract.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def test_readme_shows_the_documented_body() -> None:
    assert DOCUMENTED_BODY.decode() in README
    assert DOCUMENTED_BODY.decode() in CONTRACT


def test_readme_commands_work(tmp_path: Path) -> None:
    """Those of the section `At work`, but for installing and serving, which other tests do."""
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    ran = 0
    for command in commands:
        if command[0] != ".venv/bin/imageapi" or command[1] == "serve":
            continue
        arguments = [
            str(PROJECT / each) if each.startswith("examples/") else each for each in command[1:]
        ]
        result = subprocess.run(
            [IMAGEAPI, *arguments], cwd=tmp_path, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout
        ran += 1
    assert ran == 4


async def test_contract_names_every_route(app: FastAPI) -> None:
    routes = {
        (method, str(route.path).replace(":path", "").replace(":uuid", ""))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert ("GET", "/api/v1/albums/{album_id}/images/untag") in routes
    for method, path in routes:
        assert f"`{method} {path}`" in CONTRACT, path


@pytest.mark.parametrize(
    "command", ["serve", "import", "export", "token", "purge", "migrate", "openapi"]
)
def test_every_command_is_there_and_explains_itself(command: str) -> None:
    assert f"imageapi {command}" in CONTRACT
    result = subprocess.run(
        [IMAGEAPI, command, "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    for option in re.findall(rf"imageapi {command}\b(.*)", CONTRACT):
        for name in re.findall(r"--[a-z-]+", option.split("   ")[0]):
            assert name in result.stdout


def test_problems_page_is_the_table_of_the_code() -> None:
    kinds = [
        *problems.KINDS.values(),
        problems.UNREADABLE,
        problems.METHOD,
        problems.TOO_LARGE,
        problems.UNFIT,
        problems.UNEXPECTED,
    ]
    rows = sorted({f"| `{kind.name}` | {kind.status.value} | {kind.title} |" for kind in kinds})
    page = (PROJECT / "docs/problems.md").read_text()
    assert sorted(line for line in page.splitlines() if line.startswith("| `")) == rows
    assert problems.TYPES in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_makefile_has_what_the_docs_name() -> None:
    known = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    pages = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^    |^)make ([a-z]+)", pages, re.MULTILINE))
    assert {"run", "test", "install", "check", "bench", "secrets"} <= named <= known
