"""Builds of generated clients are made once, and never again for other inputs."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sdk_builds
from sdk_builds import LANGUAGES, build


class Generator:
    """Stands for the generators: writes a file, slowly, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.is_broken = False
        self.at_work = threading.Lock()

    def run(self, _: list[str | Path], cwd: Path) -> str:
        assert self.at_work.acquire(blocking=False), "two builds at the same time"
        with (cwd / "client").open("xb") as client:
            time.sleep(0.05)
            client.write((cwd / "openapi.json").read_bytes())
        self.count += 1
        self.at_work.release()
        assert not self.is_broken
        return ""


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    monkeypatch.setattr(sdk_builds, "run", generator.run)
    return generator


def test_same_inputs_are_built_once(generator: Generator, tmp_path: Path) -> None:
    first, second = (build("python", b"document", tmp_path) for _ in range(2))
    assert first == second
    assert (first / "client").read_bytes() == b"document"
    assert generator.count == 1


def test_builds_asked_for_at_the_same_time_are_made_once(
    generator: Generator, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: build("python", b"document", tmp_path), range(8)))
    assert len(set(folders)) == generator.count == 1
    assert (folders[0] / "client").read_bytes() == b"document"


@pytest.mark.parametrize("changed", ["document", "language", "make_sdk", "scenario", "generator"])
def test_any_other_input_is_another_build(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    scenarios, environment = tmp_path / "scenarios", tmp_path / "environment"
    packages = environment / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    scenarios.mkdir()
    for language in LANGUAGES.values():
        (scenarios / language.scenario).write_text("scenario")
    (tmp_path / "make_sdk.py").write_text("make")
    monkeypatch.setattr(sdk_builds, "SCENARIOS", scenarios)
    monkeypatch.setattr(sdk_builds, "SDK", environment / "bin")
    monkeypatch.setattr(sdk_builds, "MAKE_SDK", tmp_path / "make_sdk.py")
    first = build("python", b"document", tmp_path)
    language, document = "python", b"document"
    if changed == "document":
        document = b"another document"
    elif changed == "language":
        language = "python-httpx"
    elif changed == "make_sdk":
        (tmp_path / "make_sdk.py").write_text("make otherwise")
    elif changed == "scenario":
        (scenarios / "scenario.py").write_text("another scenario")
    else:
        (packages / "openapi_generator_cli-8.0.0.dist-info").mkdir()
    assert build(language, document, tmp_path) != first
    assert generator.count == 2


def test_a_build_that_fails_fails_again(generator: Generator, tmp_path: Path) -> None:
    generator.is_broken = True
    for _ in range(2):
        with pytest.raises(AssertionError):
            build("python", b"document", tmp_path)
    assert generator.count == 2
    generator.is_broken = False
    assert (build("python", b"document", tmp_path) / "client").exists()


def test_builds_that_are_no_longer_used_are_deleted(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build("python", b"document", tmp_path)
    monkeypatch.setattr(sdk_builds, "UNUSED_SECONDS", -60)
    new = build("python", b"another document", tmp_path)
    assert new.exists()
    assert not old.exists()
