"""The walk through one image's life in docs/walk.md does what it says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pictures
from conftest import IMAGEAPI, Command
from factories import PROJECT

WALK = (PROJECT / "docs/walk.md").read_text()
_STEP = re.compile(r"```sh\n(.*?)```\n(?:```text\n(.*?)```)?", re.DOTALL)
_BETWEEN = "--- between two steps ---"


@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="there is no curl here"
)
def test_every_step_answers_what_the_page_says(imageapi: Command, tmp_path: Path) -> None:
    steps = _STEP.findall(WALK)
    assert len(steps) > 8
    script = f"echo '{_BETWEEN}'\n".join(commands for commands, _ in steps)
    (tmp_path / "photo.jpg").write_bytes(pictures.jpeg(width=640, height=480, gps=(38.7, -9.1)))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/imageapi").symlink_to(IMAGEAPI)
    with imageapi.serving() as service:
        done = subprocess.run(
            ["bash", "-eu", "-c", script.replace("http://127.0.0.1:8000", service.address)],
            cwd=tmp_path,
            env=imageapi.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    answers = done.stdout.decode().replace("\r", "").split(f"{_BETWEEN}\n")
    for (commands, expected), answer in zip(steps, answers, strict=True):
        pattern = ".*".join(map(re.escape, expected.strip().split("…")))
        assert re.fullmatch(pattern, answer.strip()), f"{commands}\n{answer}"
