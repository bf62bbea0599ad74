"""What `make check` finds: a check that cannot fail is none."""

import subprocess
from pathlib import Path

import pytest

from conftest import IMAGEAPI
from factories import PROJECT

KEY = "AKIA" + "Z7Q3" * 4
CALLS = "import subprocess\nsubprocess.run('ls ' + input(), shell=True)\n"


@pytest.mark.parametrize(
    ("program", "content"),
    [
        (("detect-secrets-hook",), f"aws = '{KEY}'\n"),
        (("detect-secrets-hook",), "-----BEGIN RSA PRIVATE " + "KEY-----\n"),
        (("ruff", "check", "--select", "S"), CALLS),
    ],
)
def test_secrets_and_unsafe_calls_are_found(
    tmp_path: Path, program: tuple[str, ...], content: str
) -> None:
    path = tmp_path / "unsafe.py"
    command = [str(IMAGEAPI.with_name(program[0])), *program[1:], str(path)]
    for written, status in ((content, 1), ("harmless = 1\n", 0)):
        path.write_text(written)
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
        assert done.returncode == status, done.stdout
