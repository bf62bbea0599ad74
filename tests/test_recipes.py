"""The recipes of the docs, in each language, against a running service."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pictures
from conftest import IMAGEAPI, Service
from factories import HEADER, PROJECT, claims, signed

RECIPES = (PROJECT / "docs/recipes.md").read_text()
NODE = PROJECT / "tests/node/node_modules"
ABILITIES = ("image_list", "image_create", "image_tag", "image_update")

INTRODUCTION, *SECTIONS = re.split(r"^## ", RECIPES, flags=re.MULTILINE)
LANGUAGES = ("sh", "python", "typescript")


def block(text: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(found)


def programs(language: str) -> list[str]:
    """Each recipe with what all of them begin with."""
    beginning = block(INTRODUCTION, language)
    return [beginning + "\n" + block(section, language) for section in SECTIONS]


def command(language: str, program: Path) -> list[str | Path]:
    runners: dict[str, list[str | Path]] = {
        "sh": ["bash", "-eu"],
        "python": [IMAGEAPI.with_name("python")],
        "typescript": [IMAGEAPI.with_name("node"), "--disable-warning=ExperimentalWarning"],
    }
    return [*runners[language], program]


@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="there is no curl here"
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_recipes_print_what_the_page_says(service: Service, tmp_path: Path, language: str) -> None:
    album = f"recipes-{language}"
    (tmp_path / "photo.jpg").write_bytes(pictures.jpeg(seed=1))
    (tmp_path / "photo2.jpg").write_bytes(pictures.jpeg(seed=2))
    environment = {
        **os.environ,
        "HOST": service.address,
        "ALBUM": album,
        "TOKEN": signed(HEADER, claims(album, *ABILITIES)),
        "READER": signed(HEADER, claims(album, "image_list")),
    }
    assert len(SECTIONS) == 7
    for number, (section, program) in enumerate(zip(SECTIONS, programs(language), strict=True)):
        suffix = {"sh": "sh", "python": "py", "typescript": "mts"}[language]
        path = tmp_path / f"recipe{number}.{suffix}"
        path.write_text(program)
        done = subprocess.run(
            command(language, path),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout == block(section, "text").replace("holiday", album), section


def test_typescript_recipes_are_typed(tmp_path: Path) -> None:
    names = []
    for number, program in enumerate(programs("typescript")):
        names.append(f"recipe{number}.mts")
        (tmp_path / names[-1]).write_text(program)
    (tmp_path / "node_modules").symlink_to(NODE)
    options = ("--noEmit", "--strict", "--target", "es2024", "--module", "nodenext")
    done = subprocess.run(
        [NODE / ".bin/tsc", *options, "--types", "node", *names],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{IMAGEAPI.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
