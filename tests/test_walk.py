"""The pages that are walked through by curl do what they say."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pictures
from conftest import IMAGEAPI, Command, Service
from factories import PROJECT

_STEP = re.compile(r"```sh\n(.*?)```\n(?:```text\n(.*?)```)?", re.DOTALL)
_BETWEEN = "--- between two steps ---"


@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="there is no curl here"
)
@pytest.mark.parametrize(("page", "most"), [("walk.md", 8), ("start.md", 6)])
def test_every_step_answers_what_the_page_says(
    imageapi: Command, service: Service, tmp_path: Path, page: str, most: int
) -> None:
    steps = _STEP.findall((PROJECT / "docs" / page).read_text())
    assert len(steps) >= most
    script = f"echo '{_BETWEEN}'\n".join(commands for commands, _ in steps)
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        photo = pictures.jpeg(width=640, height=480, seed=seed, gps=(38.7, -9.1))
        (folder / f"photo{seed}.jpg").write_bytes(photo)
    shutil.copy(folder / "photo0.jpg", tmp_path / "photo.jpg")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/imageapi").symlink_to(IMAGEAPI)
    if page == "start.md":  # which begins where make run has taken photographs in
        assert imageapi("import", str(folder), "--album", "photos").returncode == 0
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
