"""Each way to the database and to the service is what it is called, and marked tests run by it."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from conftest import WAYS, Service
from factories import PROJECT


@pytest.mark.every_way
async def test_way_is_what_it_is_called(
    client: httpx.AsyncClient,
    way: str,
    server: str,
    through: dict[str, str],
    replicas: list[Service],
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    folders = parse_qs(urlsplit(through["database_url"]).query).get("host", [""])[0].split(",")
    facts = {
        "is direct": through["database_url"] == server,
        "hosts are there": [(Path(folder) / ".s.PGSQL.5432").exists() for folder in folders],
        "is pooled": through.get("database_pooler") == "true",
        "workers": [replica.process.args[-1] for replica in replicas],
    }
    direct = {"is direct": True, "hosts are there": [True], "is pooled": False, "workers": []}
    differences: dict[str, dict[str, object]] = {
        "direct": {},
        "pgbouncer": {"is direct": False, "hosts are there": [False], "is pooled": True},
        "hosts": {"is direct": False, "hosts are there": [False, True]},
        "workers": {"workers": ["3"]},
        "services": {"workers": ["1", "1"]},
    }
    assert facts == direct | differences[way]


def run_pytest(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def collected_ways(mark: str) -> Counter[str]:
    """How many tests pytest finds by each way in a file with both kinds of tests."""
    output = run_pytest("--collect-only", "-m", mark, "tests/test_editor.py").stdout
    ids = [line.partition("::")[2] for line in output.splitlines() if "::" in line]
    found = (re.search(rf"\[({'|'.join(WAYS)})[-\]]", each) for each in ids)
    return Counter("direct" if way is None else way[1] for way in found)


def test_marked_tests_run_by_every_way_and_others_directly() -> None:
    marked, others = collected_ways("every_way"), collected_ways("not every_way")
    assert marked["direct"] >= 16
    assert marked == dict.fromkeys(WAYS, marked["direct"])
    assert others["direct"] >= 30
    assert others.keys() == {"direct"}


@pytest.mark.parametrize(("at_least", "processes", "status"), [(4, 0, 0), (5, 1, 1)])
def test_run_of_too_few_tests_fails(at_least: int, processes: int, status: int) -> None:
    test = "tests/test_records.py::test_what_is_no_object_is_refused"
    done = run_pytest(f"-n{processes}", f"--at-least={at_least}", test)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("Fewer than 5 tests passed." in done.stdout) == (status == 1)
    assert "4 passed" in done.stdout
