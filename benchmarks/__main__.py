"""The service's listing beside a naive version of itself, in rounds that take turns.

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
from typing import Any

import uvloop

from benchmarks.albums import SIZES, fill
from benchmarks.load import Measurement, UnexpectedAnswer, measure
from benchmarks.servers import (
    COMMANDS,
    CORES,
    Candidate,
    NotServing,
    environment,
    pin,
    request_for,
    serving,
)
from imageapi.database.embedded.joining import running

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_WARM_UP_SECONDS = 1.0
_PACKAGES = ("fastapi", "sqlalchemy", "asyncpg", "pydantic", "uvicorn")
_HEADINGS = ("images", "server", "req/s", "min - max", "p50 ms", "p99 ms", "ratio")

Results = Mapping[tuple[int, str], Sequence[Measurement]]


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
    parser.add_argument("--connections", type=int, default=16, help="kept alive")
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.seconds, arguments.connections) <= 0:
        parser.error("each of them must be above 0")
    return arguments


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
        postgres = asyncio.run(fill(dsn))
        candidates = [
            opened.enter_context(serving(name, environment(dsn), folder)) for name in COMMANDS
        ]
        _check_equal(candidates)
        pin(0, 1)
        return postgres, _rounds(candidates, arguments)


def _check_equal(candidates: Sequence[Candidate]) -> None:
    """Exit unless all answer with the same JSON, and as many images as there should be."""
    for size in SIZES:
        answers = [json.loads(candidate.answer(size)) for candidate in candidates]
        if any(answer != answers[0] or len(answer) != size for answer in answers):
            sys.exit(f"benchmark: the answers for {size} images differ")


def _rounds(candidates: Sequence[Candidate], arguments: argparse.Namespace) -> Results:
    results: defaultdict[tuple[int, str], list[Measurement]] = defaultdict(list)
    for number in range(arguments.rounds + 1):
        _show(f"round {number} of {arguments.rounds}" if number else "warming up")
        seconds = arguments.seconds if number else _WARM_UP_SECONDS
        for size in SIZES:
            for candidate in candidates[:: -1 if number % 2 else 1]:
                load = measure(candidate.port, request_for(size), arguments.connections, seconds)
                measurement = uvloop.run(_cancellable(load))
                if number:
                    results[size, candidate.name].append(measurement)
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
    print("{:>6}  {:<6} {:>8}  {:^15} {:>8} {:>8}  {:>6}".format(*_HEADINGS))
    for (size, name), measurements in sorted(results.items(), key=_place):
        rates = [measurement.per_second for measurement in measurements]
        p50, p99 = _percentiles(measurements)
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        ratio = median(rates) / median(each.per_second for each in results[size, "naive"])
        print(
            f"{size:>6}  {name:<6} {median(rates):>8,.0f}  {spread:^15} {p50:>8.2f} {p99:>8.2f}"
            f"  {ratio:>5.1f}x"
        )


def _place(result: tuple[tuple[int, str], object]) -> tuple[int, bool]:
    (size, name), _ = result
    return size, name != "ours"


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
        f"\nreq/s: median of {arguments.rounds} rounds of {arguments.seconds:g} s, "
        f"{arguments.connections} connections; p50, p99: of all rounds; ratio: to naive.\n"
        f"The load generator is Python, and may limit ours: it was at work {busiest:.0%} of "
        "the time at most.\n"
        f"python {platform.python_version()}, {packages}, postgres {postgres}; "
        f"{os.cpu_count()} cores ({pinned}), {platform.platform()}; "
        f"load average before: {load_before:.2f}"
    )


if __name__ == "__main__":
    main()
