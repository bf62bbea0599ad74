"""A drill: half an hour of mixed load, and whether memory and waits at its end are as at its start.

    python scripts/drill_soak.py [--minutes 30]

On the embedded database of a temporary folder: people list queues, look at renditions, add
pictures, tag, delete; others come with tokens that are refused. It ends with 1 where an answer was
another than expected, memory grew, or the slowest of a hundred became slower. What it prints is
measured: each line is a tenth of the time. "machine" is how long a calculation took that is always
the same, in the process of those who ask: where that grows as much, it is the machine.
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
#: So many images an album has at most; who adds more deletes.
MAX_IMAGES_PER_CHANGE = 120
PARTS = 10
#: What may differ between the first and the last third, as on any shared machine.
MEMORY_MAY_GROW = 1.10
WAITS_MAY_GROW = 1.5
KINDS = ("list", "look", "tag", "add")


def picture(number: int) -> bytes:
    """A photograph that nobody has sent yet."""
    dice = random.Random(number)
    noise = Image.frombytes("RGB", (32, 24), dice.randbytes(32 * 24 * 3))
    content = io.BytesIO()
    noise.resize((1280, 960)).save(content, "JPEG", quality=80)
    return content.getvalue()


class People:
    """Those who ask; ``waits`` are seconds by what was asked."""

    def __init__(self, client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
        self.client = client
        self.tokens = tokens
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.answers: Counter[tuple[str, int]] = Counter()
        self.wrong: Counter[tuple[str, int]] = Counter()
        self.images: dict[str, list[dict[str, str]]] = {album: [] for album in ALBUMS}
        self.number = 0

    async def ask(
        self, kind: str, expected: set[int], method: str, path: str, album: str, **more: object
    ) -> httpx.Response:
        """Ask once, and note how long it took."""
        headers = {"Authorization": f"Bearer {self.tokens[album]}"}
        started = time.perf_counter()
        answer = await self.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
        self.waits[kind].append(time.perf_counter() - started)
        self.answers[kind, answer.status_code] += 1
        if answer.status_code not in expected:
            self.wrong[kind, answer.status_code] += 1
        return answer

    async def list_queue(self, album: str) -> None:
        """The queue whole, or a page of it."""
        query = random.choice(["", "?limit=25"])
        await self.ask("list", {200}, "GET", f"/api/v1/albums/{album}/images/untag{query}", album)

    async def look(self, album: str) -> None:
        """A rendition, which may have to be made."""
        if self.images[album]:
            path = random.choice(self.images[album])[random.choice(["mini", "large", "full"])]
            await self.ask("look", {200, 404}, "GET", path, album)

    async def add(self, album: str) -> None:
        """A picture in, and where there are many, one out."""
        self.number += 1
        file = {"file": ("a.jpg", picture(self.number))}
        path = f"/api/v1/albums/{album}/images"
        answer = await self.ask("add", {201}, "POST", path, album, files=file)
        if answer.status_code == httpx.codes.CREATED:
            image = answer.json()
            self.images[album].append({"id": image["public_id"], **image["thumbnails"]})
        if len(self.images[album]) > MAX_IMAGES_PER_CHANGE:
            gone = self.images[album].pop(0)["id"]
            await self.ask("delete", {204}, "DELETE", f"{path}/{gone}", album)

    async def tag(self, album: str) -> None:
        """One tag more, or less."""
        if self.images[album]:
            public_id = random.choice(self.images[album])["id"]
            path = f"/api/v1/albums/{album}/images/{public_id}/tags/{random.choice('abcdef')}"
            await self.ask("tag", {200, 404}, random.choice(["PUT", "DELETE"]), path, album)

    async def intrude(self, album: str) -> None:
        """A token that is forged, or of another album."""
        path = f"/api/v1/albums/{album}/images/untag"
        token = self.tokens[album]
        forged = {"Authorization": f"Bearer {token[:-6]}{random.randrange(10**5):06}"}
        answer = await self.client.get(path, headers=forged)
        self.answers["intrude", answer.status_code] += 1
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            self.wrong["intrude", answer.status_code] += 1
        other = random.choice([each for each in ALBUMS if each != album])
        await self.ask("intrude", {403}, "GET", path, other)


async def person(people: People, until: float) -> None:
    """Does this and that until the time is over."""
    doings: list[tuple[Callable[[str], Awaitable[None]], int]] = [
        *((people.list_queue, 40), (people.look, 20), (people.tag, 25)),
        *((people.intrude, 10), (people.add, 5)),
    ]
    todo, weights = zip(*doings, strict=True)
    while time.monotonic() < until:
        (doing,) = random.choices(todo, weights)
        await doing(random.choice(ALBUMS))
        await asyncio.sleep(random.expovariate(1 / 0.03))


async def measure_machine(seconds: list[float]) -> None:
    """Append how long the same calculation takes, twice a second."""
    content = bytes(2_000_000)
    while True:
        started = time.perf_counter()
        hashlib.sha256(content).digest()
        seconds.append(time.perf_counter() - started)
        await asyncio.sleep(0.5)


def memory_mb(process: psutil.Process) -> float:
    """Of the service and its decoders, what they share counted once."""
    family = [process, *process.children(recursive=True)]
    ours = [each for each in family if "postgres" not in each.name()]
    shares: list[int] = [each.memory_full_info().pss for each in ours]
    return sum(shares) / 1e6


async def soak(minutes: float, people: People, process: psutil.Process) -> int:
    """The load; the status to end with."""
    part_seconds = minutes * 60 / PARTS
    until = time.monotonic() + minutes * 60
    asking = [asyncio.create_task(person(people, until)) for _ in range(8)]
    machine: list[float] = []
    measuring = asyncio.create_task(measure_machine(machine))
    memory, slowest = [], defaultdict(list)
    print(f"{'minute':>6} {'MB':>6} {'asked':>7} " + "p99 in ms of list, look, tag, add, machine")
    for part in range(PARTS):
        people.waits.clear()
        machine.clear()
        await asyncio.sleep(part_seconds)
        memory.append(memory_mb(process))
        asked = sum(map(len, people.waits.values()))
        measured = {kind: people.waits[kind] for kind in KINDS} | {"machine": machine}
        for kind, seconds in measured.items():
            slowest[kind].append(statistics.quantiles(seconds, n=100)[98] * 1000)
        shown = " ".join(f"{waits[-1]:7.1f}" for waits in slowest.values())
        minute = (part + 1) * part_seconds / 60
        print(f"{minute:6.1f} {memory[-1]:6.1f} {asked:7} {shown}", flush=True)
    measuring.cancel()
    await asyncio.gather(*asking)
    for (kind, status), count in sorted(people.answers.items()):
        print(f"{kind:8} {status} {count:8}")
    third = PARTS // 3
    grown = statistics.mean(memory[-third:]) / statistics.mean(memory[1 : third + 1])
    waits = {
        kind: statistics.median(each[-third:]) / statistics.median(each[1 : third + 1])
        for kind, each in slowest.items()
    }
    print(f"memory at the end {grown:.2f} times that of the first third")
    print("p99 likewise: " + ", ".join(f"{kind} {grew:.2f}" for kind, grew in waits.items()))
    if people.wrong:
        print(f"WRONG: {dict(people.wrong)}")
    has_held = grown < MEMORY_MAY_GROW and max(waits[kind] for kind in KINDS) < WAITS_MAY_GROW
    return 0 if has_held and not people.wrong else 1


async def load(minutes: float, address: str, tokens: dict[str, str], pid: int) -> int:
    """The load on the service at this address."""
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
        return await soak(minutes, People(client, tokens), psutil.Process(pid))


def token(album: str, folder: str) -> str:
    """A token that may do all in the album."""
    can = [part for ability in ABILITIES for part in ("--can", ability)]
    command = [str(IMAGEAPI), "token", album, *can, "--expires-in", "24h"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(minutes: float) -> int:
    """Start the service, load it, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = {album: token(album, folder) for album in ALBUMS}
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
        print(f"lines of the log that are more than information: {len(unexpected)}")
        return 1 if unexpected else status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Half an hour of mixed load.")
    parser.add_argument("--minutes", type=float, default=30)
    sys.exit(main(parser.parse_args().minutes))
