"""A drill: half an hour of mixed load; memory and response times must not grow.

    python scripts/drill_soak.py [--minutes 30]

It uses the embedded database of a temporary folder. Clients list queues, fetch renditions, upload
pictures, tag and delete images, and send tokens that must be refused. The exit status is 1 if a
response was not as expected, memory grew, or the 99th percentile of a kind of request grew.

All printed figures are measured, one line for each tenth of the time. "machine" is the duration of
a calculation that is always the same, in the process of the clients: if it grows as much as the
response times, the machine became slower, not the service.
"""

import argparse
import asyncio
import hashlib
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it has none
from PIL import Image

IMAGEAPI = Path(sys.executable).with_name("imageapi")
ALBUMS = [f"soak-{number}" for number in range(4)]
ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
#: An upload to an album with more images deletes the oldest one.
MAX_IMAGES_PER_ALBUM = 120
PARTS = 10
#: Limits of the last third divided by the first: figures vary this much on a shared machine.
MAX_MEMORY_RATIO = 1.10
MAX_TIME_RATIO = 1.5
KINDS = ("list", "rendition", "tag", "upload")


def make_picture(number: int) -> bytes:
    """Return a JPEG that differs for each number."""
    rng = random.Random(number)
    noise = Image.frombytes("RGB", (32, 24), rng.randbytes(32 * 24 * 3))
    content = io.BytesIO()
    noise.resize((1280, 960)).save(content, "JPEG", quality=80)
    return content.getvalue()


class Clients:
    """The clients, and what they measured; `times` has response times in seconds by kind."""

    def __init__(self, http: httpx.AsyncClient, tokens: dict[str, str]) -> None:
        self.http = http
        self.tokens = tokens
        self.times: dict[str, list[float]] = defaultdict(list)
        self.responses: Counter[tuple[str, int]] = Counter()
        self.unexpected: Counter[tuple[str, int]] = Counter()
        self.images: dict[str, list[dict[str, str]]] = {album: [] for album in ALBUMS}
        self.number = 0

    async def request(
        self, kind: str, expected: set[int], method: str, path: str, album: str, **options: object
    ) -> httpx.Response:
        """Send a request; record its duration and whether its status is expected."""
        headers = {"Authorization": f"Bearer {self.tokens[album]}"}
        started = time.perf_counter()
        response = await self.http.request(method, path, headers=headers, **options)  # type: ignore[arg-type]
        self.times[kind].append(time.perf_counter() - started)
        self.responses[kind, response.status_code] += 1
        if response.status_code not in expected:
            self.unexpected[kind, response.status_code] += 1
        return response

    async def list_queue(self, album: str) -> None:
        """List the whole queue, or a page of it."""
        query = random.choice(["", "?limit=25"])
        await self.request(
            "list", {200}, "GET", f"/api/v1/albums/{album}/images/untag{query}", album
        )

    async def fetch_rendition(self, album: str) -> None:
        """Fetch a rendition, which the service may have to make first."""
        if self.images[album]:
            path = random.choice(self.images[album])[random.choice(["mini", "large", "full"])]
            await self.request("rendition", {200, 404}, "GET", path, album)

    async def upload(self, album: str) -> None:
        """Upload a picture; delete the oldest image if the album has many."""
        self.number += 1
        file = {"file": ("a.jpg", make_picture(self.number))}
        path = f"/api/v1/albums/{album}/images"
        response = await self.request("upload", {201}, "POST", path, album, files=file)
        if response.status_code == httpx.codes.CREATED:
            image = response.json()
            self.images[album].append({"id": image["public_id"], **image["thumbnails"]})
        if len(self.images[album]) > MAX_IMAGES_PER_ALBUM:
            oldest = self.images[album].pop(0)["id"]
            await self.request("delete", {204}, "DELETE", f"{path}/{oldest}", album)

    async def tag(self, album: str) -> None:
        """Add a tag to an image, or remove one."""
        if self.images[album]:
            public_id = random.choice(self.images[album])["id"]
            path = f"/api/v1/albums/{album}/images/{public_id}/tags/{random.choice('abcdef')}"
            await self.request("tag", {200, 404}, random.choice(["PUT", "DELETE"]), path, album)

    async def send_bad_tokens(self, album: str) -> None:
        """Send a forged token, then a token for another album."""
        path = f"/api/v1/albums/{album}/images/untag"
        token = self.tokens[album]
        forged = {"Authorization": f"Bearer {token[:-6]}{random.randrange(10**5):06}"}
        response = await self.http.get(path, headers=forged)
        self.responses["bad token", response.status_code] += 1
        if response.status_code != httpx.codes.UNAUTHORIZED:
            self.unexpected["bad token", response.status_code] += 1
        other_album = random.choice([name for name in ALBUMS if name != album])
        await self.request("bad token", {403}, "GET", path, other_album)


async def run_client(clients: Clients, until: float) -> None:
    """Do random actions until the time is over."""
    weighted_actions: list[tuple[Callable[[str], Awaitable[None]], int]] = [
        *((clients.list_queue, 40), (clients.fetch_rendition, 20), (clients.tag, 25)),
        *((clients.send_bad_tokens, 10), (clients.upload, 5)),
    ]
    actions, weights = zip(*weighted_actions, strict=True)
    while time.monotonic() < until:
        (action,) = random.choices(actions, weights)
        await action(random.choice(ALBUMS))
        await asyncio.sleep(random.expovariate(1 / 0.03))


async def measure_machine(seconds: list[float]) -> None:
    """Append the duration of the same calculation to `seconds`, twice a second."""
    content = bytes(2_000_000)
    while True:
        started = time.perf_counter()
        hashlib.sha256(content).digest()
        seconds.append(time.perf_counter() - started)
        await asyncio.sleep(0.5)


def measure_memory_mb(process: psutil.Process) -> float:
    """Return the memory of the service and its decode workers; shared pages count once (PSS)."""
    family = [process, *process.children(recursive=True)]
    ours = [member for member in family if "postgres" not in member.name()]
    pss_bytes: list[int] = [member.memory_full_info().pss for member in ours]
    return sum(pss_bytes) / 1e6


async def soak(minutes: float, clients: Clients, process: psutil.Process) -> int:
    """Run the load and print what it measured; return the exit status."""
    part_seconds = minutes * 60 / PARTS
    until = time.monotonic() + minutes * 60
    running = [asyncio.create_task(run_client(clients, until)) for _ in range(8)]
    machine_times: list[float] = []
    measuring = asyncio.create_task(measure_machine(machine_times))
    memory_mb, p99_ms = [], defaultdict(list)
    print(f"{'minute':>6} {'MB':>6} {'sent':>7} p99 in ms of list, rendition, tag, upload, machine")
    for part in range(PARTS):
        clients.times.clear()
        machine_times.clear()
        await asyncio.sleep(part_seconds)
        memory_mb.append(measure_memory_mb(process))
        sent = sum(map(len, clients.times.values()))
        times = {kind: clients.times[kind] for kind in KINDS} | {"machine": machine_times}
        for kind, seconds in times.items():
            p99_ms[kind].append(statistics.quantiles(seconds, n=100)[98] * 1000)
        columns = " ".join(f"{values[-1]:7.1f}" for values in p99_ms.values())
        minute = (part + 1) * part_seconds / 60
        print(f"{minute:6.1f} {memory_mb[-1]:6.1f} {sent:7} {columns}", flush=True)
    measuring.cancel()
    await asyncio.gather(*running)
    for (kind, status), count in sorted(clients.responses.items()):
        print(f"{kind:9} {status} {count:8}")
    third = PARTS // 3
    memory_ratio = statistics.mean(memory_mb[-third:]) / statistics.mean(memory_mb[1 : third + 1])
    time_ratios = {
        kind: statistics.median(values[-third:]) / statistics.median(values[1 : third + 1])
        for kind, values in p99_ms.items()
    }
    print(f"memory in the last third: {memory_ratio:.2f} times that of the first third")
    print(
        "p99 likewise: " + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in time_ratios.items())
    )
    if clients.unexpected:
        print(f"WRONG: {dict(clients.unexpected)}")
    max_time_ratio = max(time_ratios[kind] for kind in KINDS)
    is_steady = memory_ratio < MAX_MEMORY_RATIO and max_time_ratio < MAX_TIME_RATIO
    return 0 if is_steady and not clients.unexpected else 1


async def load(minutes: float, address: str, tokens: dict[str, str], pid: int) -> int:
    """Run the load on the service at this address; return the exit status."""
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as http:
        return await soak(minutes, Clients(http, tokens), psutil.Process(pid))


def issue_token(album: str, folder: str) -> str:
    """Return a token with all abilities on the album."""
    options = [part for ability in ABILITIES for part in ("--can", ability)]
    command = [str(IMAGEAPI), "token", album, *options, "--expires-in", "24h"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(minutes: float) -> int:
    """Start the service, run the load, stop the service; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = {album: issue_token(album, folder) for album in ALBUMS}
        log_path = Path(folder, "log")
        command = [str(IMAGEAPI), "serve", "--port", "0"]
        with log_path.open("wb") as log:
            service = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log)
            try:
                assert service.stdout is not None
                address = service.stdout.readline().decode().split()[4].rstrip(",")
                status = asyncio.run(load(minutes, address, tokens, service.pid))
            finally:
                service.terminate()
                service.wait()
        lines = map(json.loads, log_path.read_text().splitlines())
        unexpected = [line for line in lines if line["level"] != "info"]
        print(f"log lines above level info: {len(unexpected)}")
        return 1 if unexpected else status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run half an hour of mixed load.")
    parser.add_argument("--minutes", type=float, default=30)
    sys.exit(main(parser.parse_args().minutes))
