"""What the service counts, for Prometheus. docs/operating.md says what each of them means.

No label holds what a client sent: routes are names of functions, types those of docs/problems.md.
With several workers each counts in files of a folder that they share, and any of them answers for
all (`share_between_workers`).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

#: What the library looks for, when it is imported.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_LIVE = re.compile(r"gauge_live\w+_(\d+)\.db")

REQUESTS = Counter("imageapi_requests", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "imageapi_request_seconds",
    "From a request's head to the end of its answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REQUESTS_UNDER_WAY = Gauge(
    "imageapi_requests_under_way", "Requests being answered", multiprocess_mode="livesum"
)
PROBLEMS = Counter("imageapi_problems", "Errors answered, by their type", ["type"])
TOKEN_REFUSALS = Counter("imageapi_token_refusals", "Tokens refused, by what was wrong", ["reason"])
UPLOADS = Counter("imageapi_uploads", "Pictures that came whole: new, or there already", ["result"])
UPLOADED_BYTES = Counter("imageapi_uploaded_bytes", "Bytes of the pictures that are new")
UPLOADS_UNDER_WAY = Gauge(
    "imageapi_uploads_under_way", "Pictures on their way in", multiprocess_mode="livesum"
)
RENDITIONS = Counter("imageapi_renditions", "Renditions made, or found unfit", ["result"])
DATABASE_WAIT_SECONDS = Histogram(
    "imageapi_database_wait_seconds",
    "Until a connection to the database was free",
    ["use"],
    buckets=(0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1, 5),
)
ISSUER_FETCHES = Counter("imageapi_issuer_fetches", "Asking for the issuer's keys", ["result"])


def format_metrics() -> bytes:
    """Everything counted so far, by all workers, in Prometheus' text format 0.0.4."""
    folder = os.environ.get(_SHARED)
    if folder is None:
        return generate_latest(REGISTRY)
    _drop_dead_workers(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's own
    return generate_latest(registry)


@contextmanager
def share_between_workers() -> Iterator[None]:
    """Let processes that are started within count together."""
    folder = tempfile.mkdtemp(prefix="imageapi-metrics-")
    os.environ[_SHARED] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _drop_dead_workers(folder: Path) -> None:
    """Requests of a worker that was killed are under way no more."""
    for path in folder.iterdir():
        live = _LIVE.fullmatch(path.name)
        if live is not None and not _is_running(int(live[1])):
            with suppress(FileNotFoundError):  # another worker has done so
                mark_process_dead(int(live[1]), str(folder))  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, and its number another user's now
        return False
    return True
