"""What the docs say is what the code does."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from conftest import IMAGEAPI, Service
from factories import DOCUMENTED_BODY, PROJECT, SECRET
from imageapi.auth.tokens import Tokens
from imageapi.http import problem_types
from imageapi.settings import PREFIX, Settings
from test_cli import COMMANDS
from test_routes import plain

README = (PROJECT / "README.md").read_text()
CONTRACT = (PROJECT / "docs/contract.md").read_text()
#: In the contract, and not built yet: the pages say so.
PLANNED: set[str] = set()
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


def test_readme_is_under_two_screens() -> None:
    lines = [line for line in README.splitlines() if not line.startswith("[{")]
    assert sum(1 + len(line) // 130 for line in lines) <= 70


def test_picture_in_the_readme_is_the_service_s_answer(
    service: Service, documented_token: str, tmp_path: Path
) -> None:
    script = PROJECT / "scripts/picture_answer.py"
    done = subprocess.run(
        [IMAGEAPI.with_name("python"), script, service.address, documented_token],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (shown,) = re.findall(r"!\[.+\]\((.+\.svg)\)", README)
    assert done.stdout == (PROJECT / shown).read_text()
    assert "@font-face" not in done.stdout


def test_token_that_a_back_end_makes_is_taken(tmp_path: Path) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (PROJECT / "docs/backend.md").read_text(), re.DOTALL
    )
    done = subprocess.run(
        [IMAGEAPI.with_name("python"), "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env={"IMAGEAPI_TOKEN_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=True,
    )
    token = Tokens(SECRET).verify(done.stdout.strip())
    assert token.albums_with("image_tag") == ["holiday"]


def test_docs_name_nothing_that_is_not_there(app: FastAPI) -> None:
    """Paths, problems, settings and commands on every page but the contract, which looks ahead."""
    templates = [
        re.sub(r"{.*?}", "[^/]+", plain(str(route.path)))
        for route in iter_route_contexts(app.routes)
    ]
    kinds = {kind.name for kind in problem_types.PROBLEM_TYPES.values()}
    settings = {PREFIX + name.upper() for name in Settings.model_fields} | PLANNED
    for page in PAGES:
        text = page.read_text()
        for path in re.findall(r"(?:GET|PUT|POST|PATCH|DELETE) (/(?:api|assets)[^\s`?]*)", text):
            assert any(re.fullmatch(each, path) for each in templates), (page.name, path)
        for kind in re.findall(r"urn:imageapi:problem:([a-z-]+)", text):
            assert kind in kinds, (page.name, kind)
        assert set(re.findall(r"\bIMAGEAPI_[A-Z_]+[A-Z]", text)) <= settings, page.name
        for command in re.findall(r"(?:`|^    |bin/)imageapi ([a-z]+)", text, re.MULTILINE):
            assert command in COMMANDS, (page.name, command)


async def test_contract_names_every_route(app: FastAPI) -> None:
    routes = {
        (method, plain(str(route.path)))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert ("GET", "/api/v1/albums/{album_id}/images/untag") in routes
    for method, path in routes:
        assert f"`{method} {path}`" in CONTRACT, path


@pytest.mark.parametrize("command", COMMANDS)
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
    named = [
        each for each in vars(problem_types).values() if isinstance(each, problem_types.ProblemType)
    ]
    kinds = [*problem_types.PROBLEM_TYPES.values(), *named]
    rows = sorted({f"| `{kind.name}` | {kind.status.value} | {kind.title} |" for kind in kinds})
    page = (PROJECT / "docs/problems.md").read_text()
    assert sorted(line for line in page.splitlines() if line.startswith("| `")) == rows
    assert problem_types.TYPE_PREFIX in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_makefile_has_what_the_docs_name() -> None:
    known = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    pages = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^    |^)make ([a-z]+)", pages, re.MULTILINE))
    assert {"run", "test", "install", "check", "bench", "secrets"} <= named <= known


def test_security_page_names_tests_that_there_are() -> None:
    page = (PROJECT / "docs/security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        name
        for path in (PROJECT / "tests").glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 30
    assert named <= there
