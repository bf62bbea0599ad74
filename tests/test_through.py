"""The tests of HTTP and of the commands, once more by other ways to the database and the service.

By hand: `make test ARGS="--through=pgbouncer tests/test_editor.py"`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from factories import PROJECT
from pooler import PGBOUNCER

PARTS = {
    "HTTP": [
        *("documented_exchange", "untagged", "images", "changes", "uploads", "routes", "headers"),
        *("mutations", "attacks", "model"),
    ],
    "commands": ["photographs", "import_export"],
}
MOST_SECONDS = 900


@pytest.mark.parametrize(
    ("way", "part", "least"),
    [
        ("pgbouncer", "HTTP", 400),
        ("pgbouncer", "commands", 45),  # which it is before too
        ("hosts", "HTTP", 400),
        ("workers", "HTTP", 380),
        ("services", "HTTP", 380),
    ],
)
def test_everything_holds_by_another_way(way: str, part: str, least: int, tmp_path: Path) -> None:
    if way == "pgbouncer" and PGBOUNCER is None:
        assert "CI" not in os.environ, "CI installs pgbouncer"
        pytest.skip("pgbouncer is not installed; CI runs this")
    tests = [f"tests/test_{each}.py" for each in PARTS[part]]
    chosen = ["-m", "not inside"] if way in ("workers", "services") else []
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--through={way}", f"--basetemp={tmp_path / 'inner'}", *chosen, *tests),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= least
