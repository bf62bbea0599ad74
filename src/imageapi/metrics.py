"""The metrics of the service, for Prometheus. docs/operating.md explains each of them.

No label contains text from a client: routes are names of functions, types those of
docs/problems.md. Several workers count in files of a shared folder, so that each of them can report
the counts of all (`metrics_folder`).
"""

import os
import re
from contextlib import suppress
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

#: The environment variable in which the library looks for the folder, when it is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
_LIVE_GAUGE = re.compile(r"gauge_live\w+_(\d+)\.db")

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
    """Return the counts of all workers in Prometheus' text format 0.0.4."""
    folder = os.environ.get(SHARED)
    if folder is None:
        return generate_latest(REGISTRY)
    _drop_dead_workers(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types
    return generate_latest(registry)


def _drop_dead_workers(folder: Path) -> None:
    """Remove the gauges of workers that were killed: their requests are no longer running."""
    for path in folder.iterdir():
        gauge = _LIVE_GAUGE.fullmatch(path.name)
        if gauge is not None and not _is_running(int(gauge[1])):
            with suppress(FileNotFoundError):  # another worker has removed them
                mark_process_dead(int(gauge[1]), str(folder))  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # ended; the id may be another user's now
        return False
    return True
