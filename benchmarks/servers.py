"""The candidates as processes of their own, on one core, stopped at the end."""

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

from benchmarks.albums import path_of
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

#: Ours first; then what people would use instead; then the limit.
COMMANDS = {
    "ours": [_IMAGEAPI, "serve", "--port", "0"],
    "naive": [sys.executable, "-m", "benchmarks.naive"],
    "django": [str(_DJANGO), "-m", "benchmarks.django_peer"],
    "fastify": [*_FASTIFY, "columns"],
    "fastify texts": [*_FASTIFY, "texts"],
    "bare": [sys.executable, "-m", "benchmarks.bare"],
}


def present() -> list[str]:
    """The candidates that are installed here."""
    missing = set()
    if not _DJANGO.exists():
        missing.add("django")
    if _NODE is None or not _NODE_MODULES.is_dir():
        missing |= {"fastify", "fastify texts"}
    return [name for name in COMMANDS if name not in missing]


def versions(names: Sequence[str]) -> list[str]:
    """What the candidates are made of, each with its version."""
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    if "django" in names:
        command = [str(_DJANGO), "-c", _SHOW_VERSIONS, *_DJANGO_PACKAGES]
        found += subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.splitlines()
    if any(name.startswith("fastify") for name in names):
        node = subprocess.run(
            [_FASTIFY[0], "--version"], check=True, capture_output=True, text=True
        )
        found.append(f"node {node.stdout.strip().removeprefix('v')}")
        for name in _NODE_PACKAGES:
            about = json.loads((_NODE_MODULES / name / "package.json").read_text())
            found.append(f"{name} {about['version']}")
    return found


class NotServing(Exception):
    """A candidate that ended instead of listening; ``str()`` is what it said."""


@dataclass(frozen=True)
class Candidate:
    """A running server on 127.0.0.1."""

    name: str
    port: int
    pid: int

    def answer(self, album_id: str) -> bytes:
        """The body of its answer for the album."""
        url = f"http://127.0.0.1:{self.port}{path_of(album_id)}"
        request = urllib.request.Request(url, headers={"Authorization": _authorization(album_id)})
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
        return body


def request_for(album_id: str) -> bytes:
    """The request for the album, as it goes over the wire."""
    head = f"GET {path_of(album_id)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
    return f"{head}Authorization: {_authorization(album_id)}\r\n\r\n".encode()


def environment(dsn: str) -> dict[str, str]:
    """What all candidates see; nothing of whoever runs the benchmark has a say in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEAPI_")}
    return kept | {
        "IMAGEAPI_DATABASE_URL": dsn,
        "BENCHMARK_DSN": dsn,
        "IMAGEAPI_TOKEN_SECRET": SECRET,
        "IMAGEAPI_TIME_ZONE": TIME_ZONE.key,
        "PYTHONPATH": str(_PROJECT),
    }


@contextmanager
def serving(
    name: str,
    surroundings: Mapping[str, str],
    folder: Path,
    command: Sequence[str] | None = None,
) -> Iterator[Candidate]:
    """The candidate, once it listens; raises NotServing. Its log goes to a file in the folder.

    It is in a session of its own: Ctrl-C is for the benchmark, which then stops it by SIGTERM.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command or COMMANDS[name],
            cwd=folder,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        pin(process.pid, 0)
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        port = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        if port is None:
            raise NotServing(f"{name}: {first}{log.read_text()[-2000:]}")
        yield Candidate(name, int(port[1]), process.pid)
    finally:
        _stop(process)


def pin(pid: int, number: int) -> None:
    """Keep the process (0: this one) to one core, where the system can and has as many."""
    if sys.platform == "linux" and len(CORES) > number:
        os.sched_setaffinity(pid, {CORES[number]})


#: The cores that the benchmark may use, before it pins anything.
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@cache
def _authorization(album_id: str) -> str:
    token = Tokens(SECRET).issue(album_id, ["image_list"], timedelta(hours=4))
    return f'Token token="{token}"'
