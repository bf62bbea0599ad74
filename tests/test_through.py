"""The tests of HTTP and of the commands, once more by other ways to the database and the service.

By hand: `make test ARGS="--through=pgbouncer tests/test_changes.py"`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from factories import PROJECT
from pooler import PGBOUNCER

HTTP = [
    *("documented_exchange", "untagged", "images", "changes", "uploads", "routes", "headers"),
    *("mutations", "attacks", "model"),
]
#: A pooler is between the commands and the database too.
COMMANDS = ["photographs", "import_export"]


@pytest.mark.parametrize("way", ["pgbouncer", "hosts", "workers", "services"])
def test_everything_holds_by_another_way(way: str, tmp_path: Path) -> None:
    if way == "pgbouncer" and PGBOUNCER is None:
        assert "CI" not in os.environ, "CI installs pgbouncer"
        pytest.skip("pgbouncer is not installed; CI runs this")
    chosen_files = HTTP + (COMMANDS if way == "pgbouncer" else [])
    tests = [f"tests/test_{each}.py" for each in chosen_files]
    chosen = ["-m", "not inside"] if way in ("workers", "services") else []
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--through={way}", f"--basetemp={tmp_path / 'inner'}", *chosen, *tests),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 250
