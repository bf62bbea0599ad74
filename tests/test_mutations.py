"""Mutated pictures through a service of its own: none breaks it, none takes long, none leaks.

IMAGEAPI_TEST_MUTATIONS says how many, IMAGEAPI_TEST_SEED which; `pytest -s` shows the figures.
"""

import asyncio
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from PIL import Image

import pictures
from conftest import Command, Service
from fixture_types import TokenFor
from imageapi.imaging.decode_pool import MAX_JOBS, DecodePool
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.imaging.views import View
from mutations import Mutation, bases, large_bases, mutation

# Read on import: the tests remove the variables of the person who runs them.
COUNT = int(os.environ.get("IMAGEAPI_TEST_MUTATIONS") or 600)
SEED = int(os.environ.get("IMAGEAPI_TEST_SEED") or 0)

MUTATIONS = str(Path(__file__).with_name("mutations.py"))
CLIENTS = 4
CORES = os.cpu_count() or 1
#: One more than cores, for an album that has none.
MOST_DECODERS = CORES + 1
ABILITIES = ("image_list", "image_create", "image_delete")
MOST_UPLOAD_MB, MOST_MEGAPIXELS = 5, 20
EDGES = {"mini": 120, "large": 480, "full": 1600}

DEADLINE_SECONDS = 30 + 15
"""What a decoder may take, and as much again as a busy machine takes for all around it."""

MOST_STILL_SECONDS = 5
"""How long /healthz may take while decoders keep every core busy."""

# What a service has before the first upload, and for each client one of 5 MB in a few copies, and
# what the allocator keeps of them: not more for 10,000 uploads than for 100.
MOST_SERVICE_MORE_BYTES = 100 * 10**6
# As the decoder limits itself: 512 MiB and 24 bytes per pixel that is taken, and the file.
MOST_DECODER_ADDRESSES = 512 * 1024**2 + (24 * MOST_MEGAPIXELS + MOST_UPLOAD_MB) * 10**6

EVERY_SIZE, DELETED = 10, 7
"""Of so many pictures that were taken, one is asked for in every size, one is deleted."""

#: All that a refusal of a picture may say: no path, no library, no stack.
SENTENCES = {
    413: r"The file is larger than 5,000,000 bytes\.",
    415: r"The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF\.",
    422: r"The picture(?: (?:cannot be decoded|takes too long to decode|has no page|has [0-9,]+ "
    r"(?:pixels; at most 20,000,000|frames; at most 1,000) are taken|is not whole: pixels are "
    r"missing in the file)|'s pixels are of a kind of TIFF that is not read: [a-zA-Z ]+)\.",
}

linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory and children are read in /proc"
)


# What is watched


def children(pid: int) -> list[int]:
    """The processes that this one has started, those that have ended left out."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                pids.append(int(stat.parent.name))
    return pids


def status_bytes(pid: int, name: str) -> int:
    """One of the figures of /proc/PID/status."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def most_addresses(pid: int) -> float:
    """How many bytes of addresses a process may have."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    soft = limits.partition("Max address space")[2].split()[0]
    return float("inf") if soft == "unlimited" else int(soft)


@dataclass(slots=True)
class Watch:
    """What was seen of a service and of its decoders."""

    pid: int
    first_bytes: int
    decoders: dict[int, tuple[int, int]] = field(default_factory=dict)
    at_once: int = 0
    still_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Note the decoders that there are, and the most memory and addresses of each."""
        those = children(self.pid)
        self.at_once = max(self.at_once, len(those))
        for pid in those:
            with suppress(OSError, IndexError):  # it has just ended
                self.decoders[pid] = (status_bytes(pid, "VmHWM"), status_bytes(pid, "VmPeak"))

    async def keep_looking(self, client: httpx.AsyncClient) -> None:
        """Look, and ask how the service is, several times a second."""
        while True:
            self.look()
            began = time.monotonic()
            try:
                is_well = (await client.get("/healthz")).status_code == 200
            except httpx.HTTPError as error:
                self.faults.append(f"/healthz: {error!r}")
                return
            if not is_well:
                self.faults.append("/healthz does not answer 200")
            self.still_seconds = max(self.still_seconds, time.monotonic() - began)
            await asyncio.sleep(0.1)


@dataclass(slots=True)
class Outcomes:
    """What became of the mutations."""

    by_kind: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    sentences: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    rendering_seconds: list[float] = field(default_factory=list)
    longest: Mutation | None = None
    blank: int = 0
    jobs: int = 0
    kept: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


class Stranger:
    """Somebody who sends mutations to a service, and looks at what comes back."""

    def __init__(
        self, client: httpx.AsyncClient, album: str, may: TokenFor, outcomes: Outcomes
    ) -> None:
        self.client = client
        self.headers = may(album, *ABILITIES)
        self.images = f"/api/v1/albums/{album}/images"
        self.outcomes = outcomes

    async def send_all(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            mutated = mutation(number, SEED)
            try:
                await self.send(mutated)
            except (AssertionError, httpx.HTTPError, OSError, ValueError) as error:
                self.outcomes.faults.append(f"{mutated}\n    {error!r}"[:1000])

    async def upload(self, content: bytes) -> httpx.Response:
        files = {"file": ("a.jpg", content)}
        return await self.client.post(self.images, headers=self.headers, files=files)

    async def send(self, mutated: Mutation) -> None:
        began = time.monotonic()
        answer = await self.upload(mutated.content)
        seconds = time.monotonic() - began
        if seconds > max(self.outcomes.seconds, default=0):
            self.outcomes.longest = mutated
        self.outcomes.seconds.append(seconds)
        self.outcomes.by_kind[mutated.kind][answer.status_code] += 1
        if answer.status_code in {201, 200}:
            await self.look_at(answer.json(), mutated.number, is_new=answer.status_code == 201)
        else:
            self.refused(answer)

    def refused(self, answer: httpx.Response) -> None:
        assert answer.status_code in SENTENCES, (answer.status_code, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
        detail = answer.json()["detail"]
        assert re.fullmatch(SENTENCES[answer.status_code], detail), detail
        self.outcomes.sentences[re.sub(r"\b[0-9,]+ (?=pixels;|frames;)", "N ", detail)] += 1
        self.outcomes.jobs += answer.status_code == 422

    async def look_at(self, image: dict[str, Any], number: int, *, is_new: bool) -> None:
        public_id = image["public_id"]
        assert 0 < image["width"] * image["height"] <= MOST_MEGAPIXELS * 10**6
        if is_new:
            self.outcomes.kept.add(public_id)
            self.outcomes.jobs += 1
        sizes = EDGES if number % EVERY_SIZE == 0 else ("mini",)
        for name in sizes:
            await self.look_at_rendition(image["thumbnails"][name], EDGES[name])
        if is_new and number % DELETED == 0:
            url = f"{self.images}/{public_id}"
            answer = await self.client.delete(url, headers=self.headers)
            assert answer.status_code == 204, answer.text
            self.outcomes.kept.discard(public_id)
            self.outcomes.deleted.add(public_id)

    async def look_at_rendition(self, path: str, edge: int) -> None:
        began = time.monotonic()
        answer = await self.client.get(path)
        self.outcomes.rendering_seconds.append(time.monotonic() - began)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        assert answer.headers["Content-Type"] == "image/jpeg"
        self.outcomes.jobs += edge != EDGES["mini"]
        if "immutable" not in answer.headers["Cache-Control"]:
            self.outcomes.blank += 1
            assert edge != EDGES["mini"], "taken, but blank"
        with Image.open(io.BytesIO(answer.content), formats=["JPEG"]) as shown:
            shown.load()
            assert max(shown.size) <= edge, shown.size


# What is sent


async def test_what_is_mutated_was_fit(tmp_path: Path) -> None:
    """Mutations of what nobody takes would show nothing."""
    decoders, path = DecodePool(CORES, MOST_MEGAPIXELS * 10**6), tmp_path / "picture"
    for name, content in {**bases(), **large_bases()}.items():
        path.write_bytes(content)
        format_ = detect_format(content[:MAGIC_BYTES])
        assert format_ is not None, name
        facts = await decoders.inspect(path, format_, View(EDGES["mini"]))
        assert facts.width * facts.height >= 96 * 64, name
    await decoders.close()


def test_same_seed_gives_the_same_bytes() -> None:
    digest = "hashlib.sha256(b''.join(mutation(each, 1).content for each in range(200)))"
    program = f"import hashlib; from mutations import mutation; print({digest}.hexdigest())"
    expected = sha256(b"".join(mutation(each, 1).content for each in range(200))).hexdigest()
    assert told_by("-c", program).decode().strip() == expected


def test_one_mutation_is_written_by_its_number() -> None:
    assert told_by(MUTATIONS, "7", "1") == mutation(7, 1).content
    assert mutation(7, 1).content != mutation(7, 2).content


def told_by(*arguments: str) -> bytes:
    """What a new Python prints."""
    folder = Path(MUTATIONS).parent
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True).stdout


# The service


@dataclass(frozen=True, slots=True)
class Watched:
    """A service whose log is kept, and whose pictures are in a folder of its own."""

    service: Service
    store: Path
    log: list[str]

    def stop(self) -> None:
        self.service.process.send_signal(signal.SIGTERM)
        self.service.process.wait(60)


@contextmanager
def watched(imageapi: Command, store: Path) -> Iterator[Watched]:
    log: list[str] = []
    limits = {
        "IMAGEAPI_MAX_UPLOAD_MB": str(MOST_UPLOAD_MB),
        "IMAGEAPI_MAX_MEGAPIXELS": str(MOST_MEGAPIXELS),
        "IMAGEAPI_STORE_URL": str(store),
    }
    with imageapi.serving(**limits) as service:
        lines = service.process.stderr
        assert lines is not None
        # Read as it comes: a full pipe would stop the service.
        reader = Thread(target=lambda: log.extend(line.decode() for line in lines))
        reader.start()
        watched = Watched(service, store, log)
        try:
            yield watched
        finally:
            watched.stop()
            reader.join()


@asynccontextmanager
async def looking(watch: Watch, client: httpx.AsyncClient) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.keep_looking(client))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@linux
async def test_mutated_pictures_break_nothing(
    imageapi: Command, database: Any, album: str, may: TokenFor, tmp_path: Path
) -> None:
    _ = bases(), large_bases()  # made now: their time is none of the service's
    outcomes, began = Outcomes(), time.monotonic()
    with watched(imageapi, tmp_path / "pictures") as it:
        process = it.service.process
        async with httpx.AsyncClient(base_url=it.service.address, timeout=90) as client:
            assert (await client.get("/readyz")).status_code == 200
            watch = Watch(process.pid, status_bytes(process.pid, "VmHWM"))
            good = Stranger(client, f"{album}-good", may, Outcomes())
            assert (await good.upload(pictures.jpeg(seed=1))).status_code == 201
            async with looking(watch, client):
                numbers = iter(range(COUNT))
                albums = [f"{album}-{each}" for each in range(CLIENTS)]
                strangers = [Stranger(client, each, may, outcomes) for each in albums]
                await asyncio.gather(*(stranger.send_all(numbers) for stranger in strangers))
            seconds = time.monotonic() - began
            assert process.poll() is None, f"the service ended: {process.returncode}"
            for path in ("/healthz", "/readyz"):
                assert (await client.get(path)).status_code == 200
            answer = await good.upload(pictures.jpeg(seed=2))
            assert answer.status_code == 201
            await good.look_at(answer.json(), 0, is_new=True)
            listed = [
                image["public_id"]
                for each in strangers
                for image in (await client.get(each.images, headers=each.headers)).json()
            ]
        watch.look()
        service_bytes = status_bytes(process.pid, "VmHWM")
        decoders = children(process.pid)
        limits = [most_addresses(pid) for pid in decoders]
        it.stop()
    sys.stdout.write(summary(outcomes, watch, seconds, service_bytes))

    assert not outcomes.faults, "\n".join([f"{len(outcomes.faults)} faults", *outcomes.faults[:20]])
    assert not watch.faults
    assert sum(map(Counter.total, outcomes.by_kind.values())) == COUNT
    assert process.returncode == 0
    assert_nothing_unexpected(it.log)
    # What was answered is what is there; what was refused has left nothing.
    assert sorted(listed) == sorted(outcomes.kept)
    originals = sum(1 for _ in it.store.glob(f"{album}-[0-9]/*/original"))
    assert originals == len(outcomes.kept) + len(outcomes.deleted)
    assert not list(it.store.glob(".incoming/*"))
    # Time and memory
    assert max(outcomes.seconds) < DEADLINE_SECONDS, str(outcomes.longest)
    assert max(outcomes.rendering_seconds) < DEADLINE_SECONDS
    assert watch.still_seconds < MOST_STILL_SECONDS
    assert service_bytes - watch.first_bytes < MOST_SERVICE_MORE_BYTES
    assert 1 <= len(decoders) <= MOST_DECODERS
    assert watch.at_once <= 2 * MOST_DECODERS  # one that is replaced may not be quite gone
    assert max(limits) <= MOST_DECODER_ADDRESSES
    assert max(peak for _, peak in watch.decoders.values()) <= MOST_DECODER_ADDRESSES


def assert_nothing_unexpected(log: list[str]) -> None:
    """Every line is JSON and tells of a request; none of an error, or of a task left alone."""
    lines = [json.loads(line) for line in log]
    loud = [line for line in lines if line.get("level") not in {"info", "debug"}]
    assert loud == []
    assert not [line for line in lines if "unexpected" in str(line["event"])]


def summary(outcomes: Outcomes, watch: Watch, seconds: float, service_bytes: int) -> str:
    """Print the figures; `pytest -s` shows them."""
    statuses: Counter[int] = sum(outcomes.by_kind.values(), Counter())
    columns = sorted(statuses)
    rows = [
        "".join([f"  {kind:14}", *(f"{counts[each]:7,}" for each in columns)])
        for kind, counts in sorted({**outcomes.by_kind, "all": statuses}.items())
    ]
    milliseconds = sorted(each * 1000 for each in outcomes.seconds)
    p99 = statistics.quantiles(milliseconds, n=100)[98]
    decoder_bytes = max(peak for peak, _ in watch.decoders.values())
    addresses = max(peak for _, peak in watch.decoders.values())
    return "\n".join(
        [
            f"\n{len(milliseconds):,} mutations of seed {SEED} in {seconds:.0f} s",
            "".join([f"  {'':14}", *(f"{each:7}" for each in columns)]),
            *rows,
            *(f"  {count:7,}  {each}" for each, count in outcomes.sentences.most_common()),
            (
                f"  upload: p50 {statistics.median(milliseconds):.0f} ms, p99 {p99:.0f} ms, "
                f"longest {milliseconds[-1]:.0f} ms: {outcomes.longest}"
            ),
            (
                f"  rendition: longest {max(outcomes.rendering_seconds) * 1000:.0f} ms "
                f"of {len(outcomes.rendering_seconds):,}, {outcomes.blank:,} blank; "
                f"/healthz: longest {watch.still_seconds * 1000:.0f} ms"
            ),
            (
                f"  peak memory: service {service_bytes / 1e6:.0f} MB "
                f"({watch.first_bytes / 1e6:.0f} before), decoder "
                f"{decoder_bytes / 1e6:.0f} MB ({addresses / 1e6:.0f} MB of addresses, "
                f"of {MOST_DECODER_ADDRESSES / 1e6:.0f})"
            ),
            (
                f"  decoders: {len(watch.decoders)} seen, {watch.at_once} at once; without deaths "
                f"{outcomes.jobs // MAX_JOBS} to {outcomes.jobs // MAX_JOBS + MOST_DECODERS} for "
                f"{outcomes.jobs:,} jobs\n"
            ),
        ]
    )
