"""Compare the service's listing with what people would use instead, in alternating rounds.

Each server is one process on the first core, and the load generator runs on the second. PostgreSQL
runs on any core. Only one server is under load at a time.
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

from benchmarks.albums import SIZES, fill, list_album_ids
from benchmarks.load import Measurement, UnexpectedResponse, measure
from benchmarks.servers import (
    COMMANDS,
    CORES,
    Candidate,
    NotServing,
    build_environment,
    build_request,
    list_installed,
    pin_to_core,
    read_versions,
    run_candidate,
)
from imageapi.embedded_postgres.client import run_embedded_server

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WARM_UP_SECONDS = 1.0
_CONNECTIONS_TO_EACH_ALBUM = 16
_HEADINGS = ("server", "req/s", "min - max", "p50 ms", "p99 ms", "ours / it")
_ROW = "| {:<13} | {:>8} | {:^17} | {:>8} | {:>8} | {:>9} |"
_RULE = _ROW.format(
    "-" * 13, "-" * 7 + ":", ":" + "-" * 15 + ":", *["-" * 7 + ":"] * 2, "-" * 8 + ":"
)


class Case(NamedTuple):
    """What is requested: lists of `images` images, from one album or from all albums in turn."""

    images: int
    albums: str
    connections: int

    def __str__(self) -> str:
        album = "one album" if self.albums == ONE else "a different album each time"
        return f"{self.images} images, {album}, {self.connections} connections"


ONE, EACH = "one", "each"
Results = Mapping[tuple[Case, str], Sequence[Measurement]]


def main() -> None:
    """Measure and print."""
    arguments = _parse_arguments()
    load_before = os.getloadavg()[0]
    if missing := [name for name in COMMANDS if name not in list_installed()]:
        print(f"Not installed here, so left out: {', '.join(missing)}", flush=True)
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="imageapi-bench-") as folder:
            postgres, results = _run(Path(folder), arguments)
    except (UnexpectedResponse, NotServing) as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted")
    _print_table(results, arguments)
    _print_conditions(postgres, arguments, load_before, _find_max_load_share(results))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each server and case"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of a measurement")
    parser.add_argument(
        "--connections", type=_parse_numbers, default="1,16,128", help="of the load"
    )
    parser.add_argument("--sizes", type=_parse_numbers, default="1,25,500", help="images in a list")
    parser.add_argument(
        "--albums",
        type=_parse_names,
        default="one,each",
        help=f"one for all requests, or each in turn (on {_CONNECTIONS_TO_EACH_ALBUM} connections)",
    )
    parser.add_argument(
        "--only", type=_parse_names, default=",".join(list_installed()), help=", ".join(COMMANDS)
    )
    arguments = parser.parse_args()
    if arguments.rounds <= 0 or arguments.seconds <= 0 or min(arguments.connections) <= 0:
        parser.error("rounds, seconds and connections must be above 0")
    _check_choices(parser, "--sizes", arguments.sizes, SIZES)
    _check_choices(parser, "--albums", arguments.albums, (ONE, EACH))
    _check_choices(parser, "--only", arguments.only, list_installed())
    arguments.cases = [
        Case(size, albums, connections)
        for albums in arguments.albums
        for connections in (
            arguments.connections if albums == ONE else [_CONNECTIONS_TO_EACH_ALBUM]
        )
        for size in arguments.sizes
    ]
    return arguments


def _parse_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parse_names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _check_choices(
    parser: argparse.ArgumentParser, option: str, values: Sequence[Any], choices: Sequence[Any]
) -> None:
    """Exit with a message about the option if a value is not among the choices."""
    if unknown := [str(value) for value in values if value not in choices]:
        parser.error(f"{option}: {', '.join(unknown)} not among {', '.join(map(str, choices))}")


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt, once: a second Ctrl-C must not interrupt the clean-up."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _delay_signals(stop: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the block ends; call ``stop``, which may end it earlier."""
    received: list[int] = []

    def record(number: int, _: object) -> None:
        received.append(number)
        stop()

    for number in _STOP_SIGNALS:
        signal.signal(number, record)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            signal.signal(number, _interrupt)
        if received:
            _interrupt()


def _run(folder: Path, arguments: argparse.Namespace) -> tuple[str, Results]:
    """Run the servers and measure them; return PostgreSQL's version and the results."""
    with ExitStack() as opened:
        with _delay_signals():  # a half-created database cannot be removed
            dsn = opened.enter_context(run_embedded_server(folder / "data"))
        responses = folder / "responses.json"
        postgres = asyncio.run(fill(dsn, responses))
        environment = build_environment(dsn) | {"BENCHMARK_RESPONSES": str(responses)}
        candidates = [
            opened.enter_context(run_candidate(name, environment, folder))
            for name in arguments.only
        ]
        _check_equal(candidates)
        pin_to_core(0, 1)
        return postgres, _measure_rounds(candidates, arguments)


def _check_equal(candidates: Sequence[Candidate]) -> None:
    """Exit if the responses differ as JSON, or do not have the right number of images."""
    for size in SIZES:
        for album_id in list_album_ids(size):
            first, *others = [json.loads(candidate.fetch(album_id)) for candidate in candidates]
            if len(first) != size or any(other != first for other in others):
                sys.exit(f"benchmark: the responses for {album_id} differ")


def _measure_rounds(candidates: Sequence[Candidate], arguments: argparse.Namespace) -> Results:
    results: defaultdict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for number in range(arguments.rounds + 1):
        seconds = arguments.seconds if number else _WARM_UP_SECONDS
        for case in arguments.cases:
            _show(f"{f'round {number} of {arguments.rounds}' if number else 'warming up'}: {case}")
            album_ids = list_album_ids(case.images)[: 1 if case.albums == ONE else None]
            requests = [build_request(album_id) for album_id in album_ids]
            for candidate in candidates[:: -1 if number % 2 else 1]:
                load = measure(candidate.port, requests, case.connections, seconds)
                try:
                    measurement = uvloop.run(_cancel_on_signal(load))
                except UnexpectedResponse as error:
                    raise UnexpectedResponse(f"{candidate.name}, {case}: {error}") from error
                if number:
                    results[case, candidate.name].append(measurement)
    _show("")
    return results


async def _cancel_on_signal(load: Coroutine[Any, Any, Measurement]) -> Measurement:
    """Await the load; a signal cancels it: uvloop loses exceptions raised in protocol callbacks."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(load)
    with _delay_signals(lambda: loop.call_soon_threadsafe(task.cancel)):
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
    rates = [measurement.per_second for measurement in measurements]
    p50, p99 = _compute_percentiles_ms(measurements)
    our_rates = [measurement.per_second for measurement in ours or ()]
    ratio = f"{median(our_rates) / median(rates):,.2f}x" if our_rates else ""
    spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
    print(_ROW.format(name, f"{median(rates):,.0f}", spread, f"{p50:.2f}", f"{p99:.2f}", ratio))


def _compute_percentiles_ms(measurements: Sequence[Measurement]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile of all rounds together."""
    latencies = [
        seconds * 1000 for measurement in measurements for seconds in measurement.latencies
    ]
    if len(latencies) < 2:
        return float("nan"), float("nan")
    percentiles = quantiles(latencies, n=100, method="inclusive")
    return percentiles[49], percentiles[98]


def _find_max_load_share(results: Results) -> float:
    """Return the largest share of CPU time that the load generator used in a measurement."""
    return max(
        measurement.busy_seconds / measurement.seconds
        for measurements in results.values()
        for measurement in measurements
    )


def _print_conditions(
    postgres: str, arguments: argparse.Namespace, load_before: float, max_load_share: float
) -> None:
    pinning = "server and load pinned to one each" if len(CORES) > 1 else "nothing pinned"
    print(
        f"\nreq/s: median of {arguments.rounds} rounds of {arguments.seconds:g} s; p50, p99: of "
        f"all rounds. The load generator was busy {max_load_share:.0%} of the time at most.\n"
        f"python {platform.python_version()}, {', '.join(read_versions(arguments.only))}, "
        f"postgres {postgres}; "
        f"{os.cpu_count()} cores ({pinning}), {platform.platform()}; "
        f"load average before: {load_before:.2f}"
    )


if __name__ == "__main__":
    main()
