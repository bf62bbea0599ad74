"""Compare uploads of 12-megapixel photographs with the same work by Pillow, in alternating rounds.

Each server runs with its child processes on the first core, and the client on the second.
PostgreSQL runs on any core. The response to an upload comes when the picture and its record are
stored; then the client requests the renditions. ``make bench`` runs it.
"""

import argparse
import asyncio
import io
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it has none
from PIL import Image, ImageFilter
from PIL.ExifTags import GPS, IFD, Base

from benchmarks.albums import create_tables
from benchmarks.servers import (
    SECRET,
    Candidate,
    build_environment,
    pin_to_core,
    run_candidate,
)
from imageapi.auth.tokens import Tokens
from imageapi.embedded_postgres.client import run_embedded_server

CLIENTS = 4
_SIZES = ("mini", "full", "large")
_NAIVE = [sys.executable, "-m", "benchmarks.naive_pictures"]
_COMMANDS = {
    "ours": None,
    "pillow, mini": _NAIVE,
    "pillow, all": _NAIVE,
}


@dataclass
class Round:
    """The results of one candidate in one round; times in seconds.

    ``alone`` and ``first`` are of one client; ``cpu_seconds`` is the mean of an upload by four.
    """

    alone: list[float] = field(default_factory=list)
    together_per_second: float = 0.0
    cpu_seconds: float = 0.0
    first: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def draw_photograph(seed: int, width: int = 4000, height: int = 3000) -> bytes:
    """Return a JPEG like a camera's, about 2 MB with EXIF data; the same for the same seed."""
    rng = random.Random(seed)
    noise = Image.frombytes("L", (width // 8, height // 8), rng.randbytes(width * height // 64))
    coarse = noise.filter(ImageFilter.GaussianBlur(12)).resize((width, height))
    fine = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    grain = Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(1.2)), 0.35)
    slope = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (grain, Image.blend(grain, slope, 0.4), slope))
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model], exif[Base.Orientation] = "Camera", "Of the benchmark", 6
    gps: dict[int, object] = {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (38.0, 42.0, 49.5)}
    gps |= {GPS.GPSLongitudeRef: "W", GPS.GPSLongitude: (9.0, 8.0, 21.6)}
    exif.get_ifd(IFD.GPSInfo).update(gps)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


def add_comment(content: bytes, number: int) -> bytes:
    """Return another file with the same pixels: with a JPEG comment after the start marker."""
    comment = b"%032d" % number
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + content[2:]


class Client:
    """Uploads to one candidate, each time a different file."""

    def __init__(self, candidate: Candidate, content: bytes) -> None:
        # The peers share a table, so each has its own album.
        self._album_id = "".join(filter(str.isalpha, candidate.name))
        token = Tokens(SECRET).issue(
            [self._album_id], ["image_create", "image_list"], timedelta(hours=4)
        )
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{candidate.port}",
            headers={"Authorization": f'Token token="{token}"'},
            timeout=120,
        )
        self._server = psutil.Process(candidate.pid)
        self._content = content
        self._number = 0

    async def upload(self) -> Any:
        """Upload a picture; return the new image. Exit if the status is not 201."""
        self._number += 1
        response = await self._http.post(
            f"/api/v1/albums/{self._album_id}/images",
            files={
                "file": ("photograph.jpg", add_comment(self._content, self._number), "image/jpeg")
            },
        )
        if response.status_code != 201:
            raise SystemExit(f"benchmark: the status of an upload was {response.status_code}")
        return response.json()

    async def measure(self, count: int) -> Round:
        """Measure uploads: first one after the other with all renditions, then by four clients."""
        result = Round()
        for _ in range(count):
            started = time.perf_counter()
            image = await self.upload()
            result.alone.append(time.perf_counter() - started)
            for size in _SIZES:
                started = time.perf_counter()
                await self.fetch_rendition(image, size)
                result.first[size].append(time.perf_counter() - started)
        cpu_before, started = self.read_cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(self._upload_many(count // CLIENTS) for _ in range(CLIENTS)))
        uploads = count // CLIENTS * CLIENTS
        result.together_per_second = uploads / (time.perf_counter() - started)
        result.cpu_seconds = (self.read_cpu_seconds() - cpu_before) / uploads
        return result

    async def fetch_rendition(self, image: Any, size: str) -> bytes:
        """Return the rendition of this size. Exit if the status is not 200."""
        response = await self._http.get(image["thumbnails"][size])
        if response.status_code != 200:
            raise SystemExit(f"benchmark: the status of {size} was {response.status_code}")
        return response.content

    def read_cpu_seconds(self) -> float:
        """Return the CPU time of the server and its children, ended ones included, so far."""
        processes = [self._server, *self._server.children(recursive=True)]
        times = [process.cpu_times() for process in processes]
        of_ended = self._server.cpu_times()
        of_running = sum(process_times.user + process_times.system for process_times in times)
        return float(of_running + of_ended.children_user + of_ended.children_system)

    def read_memory_bytes(self) -> int:
        """Return the memory of the server and its children; shared pages count for each (RSS)."""
        processes = [self._server, *self._server.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _upload_many(self, count: int) -> None:
        for _ in range(count):
            await self.upload()


async def _check_equal(clients: Mapping[str, Client]) -> None:
    """Exit if the candidates return different properties or sizes of the same picture."""
    properties = []
    for client in clients.values():
        image = await client.upload()
        latitude, longitude = image["gps_exifs"]
        sizes = [
            Image.open(io.BytesIO(await client.fetch_rendition(image, size))).size
            for size in _SIZES
        ]
        position = (round(latitude, 5), round(longitude, 5))
        size_bytes = image["infos"]["bytes"]
        properties.append((image["width"], image["height"], position, size_bytes, sizes))
    if any(item != properties[0] for item in properties):
        raise SystemExit(f"benchmark: the candidates differ: {properties}")


async def _run(folder: Path, rounds: int, count: int) -> None:
    content = draw_photograph(seed=1)
    results: dict[str, list[Round]] = defaultdict(list)
    with ExitStack() as opened:
        dsn = opened.enter_context(run_embedded_server(folder / "data"))
        await create_tables(dsn)
        clients = {}
        for name, command in _COMMANDS.items():
            environment = build_environment(dsn) | {
                "IMAGEAPI_STORE_URL": str(folder / name),
                "PICTURES_EAGER": str(int(name.endswith("all"))),
            }
            candidate = opened.enter_context(run_candidate(name, environment, folder, command))
            clients[name] = Client(candidate, content)
        await _check_equal(clients)
        pin_to_core(0, 1)
        for number in range(rounds):
            order = list(clients)[:: -1 if number % 2 else 1]
            for name in order:
                results[name].append(await clients[name].measure(count))
        memory = {name: client.read_memory_bytes() for name, client in clients.items()}
        for client in clients.values():
            await client.close()
    _print(results, memory, len(content), rounds, count)


def _print(
    results: Mapping[str, Sequence[Round]],
    memory_bytes: Mapping[str, int],
    picture_bytes: int,
    rounds: int,
    count: int,
) -> None:
    headings = ("server", "uploads/s", "min - max", "ratio", "CPU ms", "upload ms")
    print("{:<13} {:>9}  {:^11} {:>6} {:>7} {:>10}".format(*headings), end="")
    print("".join(f"{'first ' + size:>12}" for size in _SIZES), f"{'MB':>6}")
    reference = median(result.together_per_second for result in results["pillow, all"])
    for name, round_results in results.items():
        rates = [result.together_per_second for result in round_results]
        cpu_ms = median(result.cpu_seconds for result in round_results) * 1000
        alone_ms = median(seconds for result in round_results for seconds in result.alone) * 1000
        print(
            f"{name:<13} {median(rates):>9.1f}  {min(rates):>4.1f} - {max(rates):<4.1f} "
            f"{median(rates) / reference:>5.1f}x {cpu_ms:>7.0f} {alone_ms:>10.0f}",
            end="",
        )
        for size in _SIZES:
            times = [seconds for result in round_results for seconds in result.first[size]]
            print(f"{median(times) * 1000:>9.1f} ms", end="")
        print(f" {memory_bytes[name] / 1e6:>6.0f}")
    print(
        f"\nuploads/s: {CLIENTS} clients, median of {rounds} rounds of {count}; CPU ms: of server "
        f"and children for each upload; upload, first: median of one client, in this order."
        f"\nA JPEG of 4000 x 3000 pixels, {picture_bytes / 1e6:.1f} MB. Ours syncs every file to "
        f"the disk before it responds, the peers with Pillow do not. Server and load on one core "
        f"each of {os.cpu_count()}."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each server")
    parser.add_argument("--uploads", type=int, default=12, help="uploads of a measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imageapi-bench-") as folder:
        asyncio.run(_run(Path(folder), arguments.rounds, arguments.uploads))


if __name__ == "__main__":
    main()
