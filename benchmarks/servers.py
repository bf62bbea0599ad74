"""The candidates: each is a process on one core, and is stopped at the end."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path

from benchmarks.albums import build_path
from benchmarks.naive import TIME_ZONE
from imageapi.auth.tokens import Tokens

_PROJECT = Path(__file__).parent.parent
_IMAGEAPI = str(Path(sys.executable).with_name("imageapi"))
SECRET = "a secret that only this benchmark knows"
_STOP_SECONDS = 40

_DJANGO = _PROJECT / ".venv-bench/bin/python"
_NODE = shutil.which("node")
_NODE_MODULES = _PROJECT / "benchmarks/fastify/node_modules"
_FASTIFY = [_NODE or "node", str(_PROJECT / "benchmarks/fastify/server.js")]

_PACKAGES = ("fastapi", "sqlalchemy", "asyncpg", "pydantic", "uvicorn")
_NODE_PACKAGES = ("fastify", "pg", "fast-jwt")
_DJANGO_PACKAGES = ("django", "djangorestframework", "gunicorn", "psycopg")
_SHOW_VERSIONS = """
import sys
from importlib.metadata import version
for name in sys.argv[1:]:
    print(name, version(name))
"""

#: Ours first, then what people would use instead, then the upper limit.
COMMANDS = {
    "ours": [_IMAGEAPI, "serve", "--port", "0"],
    "naive": [sys.executable, "-m", "benchmarks.naive"],
    "django": [str(_DJANGO), "-m", "benchmarks.django_peer"],
    "fastify": [*_FASTIFY, "columns"],
    "fastify texts": [*_FASTIFY, "texts"],
    "bare": [sys.executable, "-m", "benchmarks.bare"],
}


def list_installed() -> list[str]:
    """Return the names of the candidates that are installed here."""
    missing = set()
    if not _DJANGO.exists():
        missing.add("django")
    if _NODE is None or not _NODE_MODULES.is_dir():
        missing |= {"fastify", "fastify texts"}
    return [name for name in COMMANDS if name not in missing]


def read_versions(names: Sequence[str]) -> list[str]:
    """Return the packages that the candidates use, each with its version."""
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    if "django" in names:
        command = [str(_DJANGO), "-c", _SHOW_VERSIONS, *_DJANGO_PACKAGES]
        versions += subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.splitlines()
    if any(name.startswith("fastify") for name in names):
        node = subprocess.run(
            [_FASTIFY[0], "--version"], check=True, capture_output=True, text=True
        )
        versions.append(f"node {node.stdout.strip().removeprefix('v')}")
        for name in _NODE_PACKAGES:
            package = json.loads((_NODE_MODULES / name / "package.json").read_text())
            versions.append(f"{name} {package['version']}")
    return versions


class NotServing(Exception):
    """A candidate ended instead of listening; ``str()`` is its output."""


@dataclass(frozen=True)
class Candidate:
    """A running server on 127.0.0.1."""

    name: str
    port: int
    pid: int

    def fetch(self, album_id: str) -> bytes:
        """Return the body of its response for the album."""
        url = f"http://127.0.0.1:{self.port}{build_path(album_id)}"
        request = urllib.request.Request(
            url, headers={"Authorization": _build_authorization(album_id)}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            body: bytes = response.read()
        return body


def build_request(album_id: str) -> bytes:
    """Return the bytes of the request for the album."""
    head = f"GET {build_path(album_id)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
    return f"{head}Authorization: {_build_authorization(album_id)}\r\n\r\n".encode()


def build_environment(dsn: str) -> dict[str, str]:
    """Return the variables for all candidates; settings of the caller's environment are removed."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("IMAGEAPI_")
    }
    return inherited | {
        "IMAGEAPI_DATABASE_URL": dsn,
        "BENCHMARK_DSN": dsn,
        "IMAGEAPI_TOKEN_SECRET": SECRET,
        "IMAGEAPI_TIME_ZONE": TIME_ZONE.key,
        "PYTHONPATH": str(_PROJECT),
    }


@contextmanager
def run_candidate(
    name: str,
    environment: Mapping[str, str],
    folder: Path,
    command: Sequence[str] | None = None,
) -> Iterator[Candidate]:
    """Start a candidate, yield it when it listens, and stop it. Raise NotServing.

    Its log goes to a file in the folder. It has its own session, so that Ctrl-C interrupts only the
    benchmark, which then stops the candidate by SIGTERM.
    """
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command or COMMANDS[name],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        pin_to_core(process.pid, 0)
        assert process.stdout is not None
        first_line = process.stdout.readline().decode()
        port = re.search(r"http://127\.0\.0\.1:(\d+)", first_line)
        if port is None:
            raise NotServing(f"{name}: {first_line}{log_path.read_text()[-2000:]}")
        yield Candidate(name, int(port[1]), process.pid)
    finally:
        _stop(process)


def pin_to_core(pid: int, number: int) -> None:
    """Run the process (0: this one) on one core only, on Linux and if there are enough cores."""
    if sys.platform == "linux" and len(CORES) > number:
        os.sched_setaffinity(pid, {CORES[number]})


#: The cores that the benchmark may use, read before it pins anything.
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@cache
def _build_authorization(album_id: str) -> str:
    token = Tokens(SECRET).issue([album_id], ["image_list"], timedelta(hours=4))
    return f'Token token="{token}"'
