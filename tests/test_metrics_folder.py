"""Folders of counts that killed services left behind are removed, and no others."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from imageapi.metrics import SHARED
from imageapi.metrics_folder import remove_dead_folders, share_between_workers

SERVICE = """
import sys, time
from imageapi.metrics_folder import share_between_workers
with share_between_workers():
    print("counts", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(SHARED, "nowhere")  # restored after the test
    return tmp_path


def make_older(folder: Path, seconds: float) -> None:
    os.utime(folder, (time.time() - seconds,) * 2)


def kill_a_service(temporary: Path) -> Path:
    """The folder of a service that was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"counts\n"
        process.kill()
    (folder,) = temporary.glob("imageapi-metrics-*")
    return folder


def test_folder_of_a_killed_service_is_removed_by_the_next(temporary: Path) -> None:
    left = kill_a_service(temporary)
    (left / "counter_1.db").write_bytes(b"x")
    make_older(left, 61)
    with share_between_workers():
        assert not left.exists()
        assert list(temporary.iterdir()) == [Path(os.environ[SHARED])]
    assert list(temporary.iterdir()) == []


def test_folders_in_use_and_young_ones_stay(temporary: Path) -> None:
    young = kill_a_service(temporary)
    with share_between_workers():
        used = Path(os.environ[SHARED])
        make_older(used, 3600)
        remove_dead_folders(temporary)
        assert used.is_dir()
        assert young.is_dir()


def test_folder_without_a_lock_is_removed_after_a_day(temporary: Path) -> None:
    folders = {age: temporary / f"imageapi-metrics-{age}" for age in (3600, 90_000)}
    for age, folder in folders.items():
        folder.mkdir()
        make_older(folder, age)
    remove_dead_folders(temporary)
    assert folders[3600].is_dir()
    assert not folders[90_000].exists()


def test_links_and_files_of_that_name_are_left_alone(temporary: Path) -> None:
    kept = temporary / "kept"
    kept.mkdir()
    (kept / "service.lock").touch()
    (temporary / "imageapi-metrics-link").symlink_to(kept)
    (temporary / "imageapi-metrics-file").touch()
    for path in temporary.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    remove_dead_folders(temporary)
    assert (kept / "service.lock").exists()
    assert {path.name for path in temporary.iterdir()} == {
        *("kept", "imageapi-metrics-link", "imageapi-metrics-file")
    }
