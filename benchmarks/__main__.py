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
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import uvloop

from benchmarks.albums import SIZES, albums_of, fill
from benchmarks.load import Measurement, UnexpectedAnswer, measure
from benchmarks.servers import (
    COMMANDS,
    CORES,
    Candidate,
    NotServing,
    environment,
    pin,
    present,
    request_for,
    serving,
    versions,
)
from imageapi.embedded_postgres.client import run_embedded_server

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_WARM_UP_SECONDS = 1.0
_EACH_CONNECTIONS = 16
_HEADINGS = ("server", "req/s", "min - max", "p50 ms", "p99 ms", "ours / it")
_ROW = "| {:<13} | {:>8} | {:^17} | {:>8} | {:>8} | {:>9} |"
_RULE = _ROW.format(
    "-" * 13, "-" * 7 + ":", ":" + "-" * 15 + ":", *["-" * 7 + ":"] * 2, "-" * 8 + ":"
)


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
    if left_out := [name for name in COMMANDS if name not in present()]:
        print(f"Not installed here, so left out: {', '.join(left_out)}", flush=True)
    for number in _STOPPING:
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="imageapi-bench-") as folder:
            postgres, results = _run(Path(folder), arguments)
    except (UnexpectedAnswer, NotServing) as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted")
    _print_table(results, arguments)
    _print_surroundings(postgres, arguments, load_before, _busiest(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long, each time")
    parser.add_argument("--connections", type=_numbers, default="1,16,128", help="kept alive")
    parser.add_argument("--sizes", type=_numbers, default="1,25,500", help="images of a list")
    parser.add_argument(
        "--albums",
        type=_names,
        default="one,each",
        help=f"one for all requests, or each another (on {_EACH_CONNECTIONS} connections)",
    )
    parser.add_argument(
        "--only", type=_names, default=",".join(present()), help=", ".join(COMMANDS)
    )
    arguments = parser.parse_args()
    if arguments.rounds <= 0 or arguments.seconds <= 0 or min(arguments.connections) <= 0:
        parser.error("rounds, seconds and connections must be above 0")
    _among(parser, "--sizes", arguments.sizes, SIZES)
    _among(parser, "--albums", arguments.albums, (ONE, EACH))
    _among(parser, "--only", arguments.only, present())
    arguments.cases = [
        Case(size, albums, connections)
        for albums in arguments.albums
        for connections in (arguments.connections if albums == ONE else [_EACH_CONNECTIONS])
        for size in arguments.sizes
    ]
    return arguments


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _among(
    parser: argparse.ArgumentParser, option: str, given: Sequence[Any], known: Sequence[Any]
) -> None:
    """Exit with a word about the option unless all that was given is known."""
    if unknown := [str(each) for each in given if each not in known]:
        parser.error(f"{option}: {', '.join(unknown)} not among {', '.join(map(str, known))}")


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
            dsn = opened.enter_context(run_embedded_server(folder / "data"))
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
                try:
                    measurement = uvloop.run(_cancellable(load))
                except UnexpectedAnswer as error:
                    raise UnexpectedAnswer(f"{candidate.name}, {case}: {error}") from error
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


def _print_table(results: Results, arguments: argparse.Namespace) -> None:
    for case in arguments.cases:
        print(f"\n{case}:\n\n{_ROW.format(*_HEADINGS)}\n{_RULE}")
        for name in arguments.only:
            _print_row(name, results[case, name], results.get((case, "ours")))


def _print_row(
    name: str, measurements: Sequence[Measurement], ours: Sequence[Measurement] | None
) -> None:
    rates = [each.per_second for each in measurements]
    p50, p99 = _percentiles(measurements)
    ratio = f"{median(each.per_second for each in ours) / median(rates):,.2f}x" if ours else ""
    spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
    print(_ROW.format(name, f"{median(rates):,.0f}", spread, f"{p50:.2f}", f"{p99:.2f}", ratio))


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
    pinned = "server and load pinned to one each" if len(CORES) > 1 else "nothing pinned apart"
    print(
        f"\nreq/s: median of {arguments.rounds} rounds of {arguments.seconds:g} s; p50, p99: of "
        f"all rounds. The load generator was at work {busiest:.0%} of the time at most.\n"
        f"python {platform.python_version()}, {', '.join(versions(arguments.only))}, "
        f"postgres {postgres}; "
        f"{os.cpu_count()} cores ({pinned}), {platform.platform()}; "
        f"load average before: {load_before:.2f}"
    )


if __name__ == "__main__":
    main()
