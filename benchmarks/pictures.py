"""Uploads of 12-megapixel photographs beside the same work with Pillow, in rounds taking turns.

Each server has the first core for itself and its children, PostgreSQL too; the client is on the
second. An upload is answered when the picture and its record are kept; then its renditions are
asked for. ``make bench`` runs it.
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

from benchmarks.albums import make_tables
from benchmarks.servers import SECRET, Candidate, environment, pin, serving
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
    """What one candidate did in one round: seconds, but for ``cpu_seconds``, which are a sum."""

    alone: list[float] = field(default_factory=list)
    together_per_second: float = 0.0
    cpu_seconds: float = 0.0
    first: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def photograph(seed: int, width: int = 4000, height: int = 3000) -> bytes:
    """A picture like one of a camera, with what a camera writes: some 4 MB, the same each time."""
    chance = random.Random(seed)
    noise = Image.frombytes("L", (width // 8, height // 8), chance.randbytes(width * height // 64))
    coarse = noise.filter(ImageFilter.GaussianBlur(12)).resize((width, height))
    fine = Image.frombytes("L", (width, height), chance.randbytes(width * height))
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


def another(content: bytes, number: int) -> bytes:
    """The same pixels in a file of its own: with a comment behind the start of the image."""
    comment = b"%032d" % number
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + content[2:]


class Client:
    """Uploads to one candidate, each time another file."""

    def __init__(self, candidate: Candidate, content: bytes) -> None:
        # The peers share a table: each has an album of its own.
        self._album_id = "".join(filter(str.isalpha, candidate.name))
        token = Tokens(SECRET).issue(
            self._album_id, ["image_create", "image_list"], timedelta(hours=4)
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
        """The new image."""
        self._number += 1
        answer = await self._http.post(
            f"/api/v1/albums/{self._album_id}/images",
            files={"file": ("photograph.jpg", another(self._content, self._number), "image/jpeg")},
        )
        if answer.status_code != 201:
            raise SystemExit(f"benchmark: an upload was answered {answer.status_code}")
        return answer.json()

    async def measured(self, count: int) -> Round:
        """So many uploads one after the other, each shown at once, and as many by four clients."""
        result = Round()
        for _ in range(count):
            started = time.perf_counter()
            image = await self.upload()
            result.alone.append(time.perf_counter() - started)
            for size in _SIZES:
                started = time.perf_counter()
                await self.show(image, size)
                result.first[size].append(time.perf_counter() - started)
        before, started = self.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(self._uploads(count // CLIENTS) for _ in range(CLIENTS)))
        done = count // CLIENTS * CLIENTS
        result.together_per_second = done / (time.perf_counter() - started)
        result.cpu_seconds = (self.cpu_seconds() - before) / done
        return result

    async def show(self, image: Any, size: str) -> bytes:
        """The rendition of this size."""
        answer = await self._http.get(image["thumbnails"][size])
        if answer.status_code != 200:
            raise SystemExit(f"benchmark: {size} was answered {answer.status_code}")
        return answer.content

    def cpu_seconds(self) -> float:
        """What the server and its children have used so far."""
        processes = [self._server, *self._server.children(recursive=True)]
        times = [each.cpu_times() for each in processes]
        ended = self._server.cpu_times()
        own = sum(each.user + each.system for each in times)
        return float(own + ended.children_user + ended.children_system)

    def memory_bytes(self) -> int:
        """What the server and its children hold, what they share counted for each."""
        processes = [self._server, *self._server.children(recursive=True)]
        return sum(each.memory_info().rss for each in processes)

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    async def _uploads(self, count: int) -> None:
        for _ in range(count):
            await self.upload()


async def _check_alike(clients: Mapping[str, Client]) -> None:
    """Exit unless all say the same of the picture, and show it alike."""
    said = []
    for client in clients.values():
        image = await client.upload()
        latitude, longitude = image["gps_exifs"]
        sizes = [Image.open(io.BytesIO(await client.show(image, size))).size for size in _SIZES]
        place = (round(latitude, 5), round(longitude, 5))
        said.append((image["width"], image["height"], place, image["infos"]["bytes"], sizes))
    if any(each != said[0] for each in said):
        raise SystemExit(f"benchmark: the candidates differ: {said}")


async def _run(folder: Path, rounds: int, count: int) -> None:
    content = photograph(seed=1)
    results: dict[str, list[Round]] = defaultdict(list)
    with ExitStack() as opened:
        dsn = opened.enter_context(run_embedded_server(folder / "data"))
        await make_tables(dsn)
        clients = {}
        for name, command in _COMMANDS.items():
            surroundings = environment(dsn) | {
                "IMAGEAPI_STORE_URL": str(folder / name),
                "PICTURES_EAGER": str(int(name.endswith("all"))),
            }
            candidate = opened.enter_context(serving(name, surroundings, folder, command))
            clients[name] = Client(candidate, content)
        await _check_alike(clients)
        pin(0, 1)
        for number in range(rounds):
            order = list(clients)[:: -1 if number % 2 else 1]
            for name in order:
                results[name].append(await clients[name].measured(count))
        memory = {name: client.memory_bytes() for name, client in clients.items()}
        for client in clients.values():
            await client.close()
    _print(results, memory, len(content), rounds, count)


def _print(
    results: Mapping[str, Sequence[Round]],
    memory: Mapping[str, int],
    length: int,
    rounds: int,
    count: int,
) -> None:
    headings = ("server", "uploads/s", "min - max", "ratio", "CPU ms", "upload ms")
    print("{:<13} {:>9}  {:^11} {:>6} {:>7} {:>10}".format(*headings), end="")
    print("".join(f"{'first ' + size:>12}" for size in _SIZES), f"{'MB':>6}")
    slowest = median(each.together_per_second for each in results["pillow, all"])
    for name, measured in results.items():
        rates = [each.together_per_second for each in measured]
        cpu = median(each.cpu_seconds for each in measured) * 1000
        alone = median(each for round_ in measured for each in round_.alone) * 1000
        print(
            f"{name:<13} {median(rates):>9.1f}  {min(rates):>4.1f} - {max(rates):<4.1f} "
            f"{median(rates) / slowest:>5.1f}x {cpu:>7.0f} {alone:>10.0f}",
            end="",
        )
        for size in _SIZES:
            first = median(each for round_ in measured for each in round_.first[size]) * 1000
            print(f"{first:>9.1f} ms", end="")
        print(f" {memory[name] / 1e6:>6.0f}")
    print(
        f"\nuploads/s: {CLIENTS} clients, median of {rounds} rounds of {count}; CPU ms: of server "
        f"and children for each upload; upload, first: median of one client, asking in this order."
        f"\nA JPEG of 4000 x 3000 pixels, {length / 1e6:.1f} MB. Ours syncs every file to the "
        f"disk before it answers, Pillow's peers do not. Server and load on one core each of "
        f"{os.cpu_count()}."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--uploads", type=int, default=12, help="how many, each time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imageapi-bench-") as folder:
        asyncio.run(_run(Path(folder), arguments.rounds, arguments.uploads))


if __name__ == "__main__":
    main()
