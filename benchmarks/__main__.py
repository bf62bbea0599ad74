"""The service's listing beside what people would use instead, in rounds that take turns.

Each server is one process on the first core, the load is on the second, and PostgreSQL runs where
the system puts it. Only one server is loaded at a time.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import uvloop

from benchmarks.albums import SIZES, albums_of, fill
from benchmarks.load import Measurement, UnexpectedAnswer, measure
from benchmarks.servers import (
    CORES,
    Candidate,
    NotServing,
    environment,
    pin,
    present,
    request_for,
    serving,
)
from imageapi.database.embedded.joining import running

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_WARM_UP_SECONDS = 1.0
_PACKAGES = ("fastapi", "sqlalchemy", "asyncpg", "pydantic", "uvicorn")
_HEADINGS = ("server", "req/s", "min - max", "p50 ms", "p99 ms", "ours / it")


class Case(NamedTuple):
    """Lists of so many images, of one album or of all albums in turn, on so many connections."""

    images: int
    albums: str
    connections: int

    def __str__(self) -> str:
        which = "one album" if self.albums == ONE else "a different album each time"
        return f"{self.images} images, {which}, {self.connections} connections"


ONE, EACH = "one", "each"
Results = Mapping[tuple[Case, str], Sequence[Measurement]]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    load_before = os.getloadavg()[0]
    for number in _STOPPING:
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="imageapi-bench-") as folder:
            postgres, results = _run(Path(folder), arguments)
    except (UnexpectedAnswer, NotServing) as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted")
    _print_table(results)
    _print_surroundings(postgres, arguments, load_before, _busiest(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long, each time")
    parser.add_argument("--connections", type=_numbers, default="1,16,128", help="kept alive")
    parser.add_argument("--sizes", type=_numbers, default="1,25,500", help="images of a list")
    parser.add_argument(
        "--albums", default="one,each", help="one for all requests, or each another"
    )
    parser.add_argument("--only", default=",".join(present()), help="which candidates")
    arguments = parser.parse_args()
    if arguments.rounds <= 0 or arguments.seconds <= 0:
        parser.error("rounds and seconds must be above 0")
    arguments.only = arguments.only.split(",")
    arguments.cases = [
        Case(size, albums, connections)
        for albums in arguments.albums.split(",")
        for connections in (arguments.connections if albums == ONE else [16])
        for size in arguments.sizes
    ]
    return arguments


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _interrupt(*_: object) -> None:
    """Stop once: a second Ctrl-C must not leave behind what the first is clearing away."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _uninterrupted(stop: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold signals back to the end of the block; ``stop`` is called to bring that about."""
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        held.append(number)
        stop()

    for number in _STOPPING:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number in _STOPPING:
            signal.signal(number, _interrupt)
        if held:
            _interrupt()


def _run(folder: Path, arguments: argparse.Namespace) -> tuple[str, Results]:
    """PostgreSQL's version, and what was measured."""
    with ExitStack() as opened:
        with _uninterrupted():  # a database that is half made cannot be cleared away
            dsn = opened.enter_context(running(folder / "data"))
        answers = folder / "answers.json"
        postgres = asyncio.run(fill(dsn, answers))
        surroundings = environment(dsn) | {"BENCHMARK_ANSWERS": str(answers)}
        candidates = [
            opened.enter_context(serving(name, surroundings, folder)) for name in arguments.only
        ]
        _check_equal(candidates)
        pin(0, 1)
        return postgres, _rounds(candidates, arguments)


def _check_equal(candidates: Sequence[Candidate]) -> None:
    """Exit unless all answer with the same JSON, and as many images as there should be."""
    for size in SIZES:
        for album_id in albums_of(size):
            first, *others = [json.loads(each.answer(album_id)) for each in candidates]
            if len(first) != size or any(other != first for other in others):
                sys.exit(f"benchmark: the answers for {album_id} differ")


def _rounds(candidates: Sequence[Candidate], arguments: argparse.Namespace) -> Results:
    results: defaultdict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for number in range(arguments.rounds + 1):
        seconds = arguments.seconds if number else _WARM_UP_SECONDS
        for case in arguments.cases:
            _show(f"{f'round {number} of {arguments.rounds}' if number else 'warming up'}: {case}")
            albums = albums_of(case.images)
            requests = [request_for(each) for each in albums[: 1 if case.albums == ONE else None]]
            for candidate in candidates[:: -1 if number % 2 else 1]:
                load = measure(candidate.port, requests, case.connections, seconds)
                measurement = uvloop.run(_cancellable(load))
                if number:
                    results[case, candidate.name].append(measurement)
    _show("")
    return results


async def _cancellable(load: Coroutine[Any, Any, Measurement]) -> Measurement:
    """Measure until a signal comes: uvloop loses what is raised in a callback of a protocol."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(load)
    with _uninterrupted(lambda: loop.call_soon_threadsafe(task.cancel)):
        return await task


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def _print_table(results: Results) -> None:
    last = None
    for (case, name), measurements in results.items():
        if case != last:
            print(f"\n{case}")
            print("  {:<14} {:>8}  {:^15} {:>8} {:>8}  {:>9}".format(*_HEADINGS))
        last = case
        rates = [measurement.per_second for measurement in measurements]
        p50, p99 = _percentiles(measurements)
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        ours = median(each.per_second for each in results[case, "ours"])
        print(
            f"  {name:<14} {median(rates):>8,.0f}  {spread:^15} {p50:>8.2f} {p99:>8.2f}"
            f"  {ours / median(rates):>8.2f}x"
        )


def _percentiles(measurements: Sequence[Measurement]) -> tuple[float, float]:
    """The 50th and the 99th of all rounds together, in milliseconds."""
    latencies = [each * 1000 for measurement in measurements for each in measurement.latencies]
    if len(latencies) < 2:
        return float("nan"), float("nan")
    cuts = quantiles(latencies, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _busiest(results: Results) -> float:
    """The largest share of its time that the load generator was at work in a measurement."""
    return max(each.busy_seconds / each.seconds for all_ in results.values() for each in all_)


def _print_surroundings(
    postgres: str, arguments: argparse.Namespace, load_before: float, busiest: float
) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    pinned = "server and load pinned to one each" if len(CORES) > 1 else "nothing pinned apart"
    print(
        f"\nreq/s: median of {arguments.rounds} rounds of {arguments.seconds:g} s; p50, p99: of "
        f"all rounds. The load generator was at work {busiest:.0%} of the time at most.\n"
        f"python {platform.python_version()}, {packages}, postgres {postgres}; "
        f"{os.cpu_count()} cores ({pinned}), {platform.platform()}; "
        f"load average before: {load_before:.2f}"
    )


if __name__ == "__main__":
    main()
