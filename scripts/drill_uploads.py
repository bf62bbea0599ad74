"""A drill: kill the service at any moment while clients upload, tag, rotate, delete and restore.

It uses the embedded database of a temporary folder, and stores pictures in a folder or in a bucket
of moto's S3. It kills the service alone, or its decode workers or its PostgreSQL a moment before.
Every change that was confirmed must be there. Every other change must be there completely or not at
all. The exit status is 1 if anything else is found. All printed figures are measured.
"""

import argparse
import asyncio
import hashlib
import io
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import obstore
import psutil  # type: ignore[import-untyped]  # it has none
from obstore.store import S3Store
from PIL import Image

IMAGEAPI = Path(sys.executable).with_name("imageapi")
S3_SERVER = Path(__file__).parent.parent / "tests/s3.py"
ALBUM = "/api/v1/albums/drill"
IMAGES = f"{ALBUM}/images"
ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
TAGS = ("kitchen", "garden", "été", "n/a", "a b", "%2F", "x", "y", "z")
CLIENTS = 8
LARGE, LARGE_BYTES = 20, 6 * 1024**2  # one picture in 20 is large, so that it goes to S3 in parts
#: What is killed a moment before the service, for each kill in turn.
VICTIMS = ("", "decoders", "", "PostgreSQL", "", "decoders PostgreSQL supervisor")
KINDS = {"upload": 8, "tag": 4, "untag": 3, "bulk": 3, "rotate": 3, "delete": 2, "restore": 2}
EXPECTED = {"upload": {201}, "upload twice": {200, 201}, "delete": {204}}
COLUMNS = ("sent", "confirmed", "refused", "unknown", "done", "not done")
"""Outcomes; of a change whose outcome was unknown the drill finds out if it was done."""


class State(NamedTuple):
    """The state of a picture; `where` is "nothing", "listed" or "trash" (or "changing")."""

    where: str
    tags: tuple[str, ...] = ()
    rotation: int = 0


NOTHING, CHANGING = State("nothing"), State("changing")


@dataclass(eq=False)
class Picture:
    """A picture of one client, and its state according to the responses."""

    number: int
    owner: int
    public_id: str
    state: State = NOTHING
    md5: str = ""
    was_touched: bool = True

    def content(self) -> bytes:
        """Return a JPEG that differs for each number, and is always the same for one number."""
        rng, file = random.Random(self.number), io.BytesIO()
        Image.frombytes("RGB", (48, 32), rng.randbytes(48 * 32 * 3)).save(file, "JPEG")
        content = file.getvalue() + rng.randbytes(0 if self.number % LARGE else LARGE_BYTES)
        self.md5 = hash_md5(content)
        return content


States = Mapping[Picture, State]


class Change(NamedTuple):
    """A request, and the states of pictures before and after it."""

    kind: str
    before: States
    after: States
    send: Callable[[], Awaitable[httpx.Response]]


def hash_md5(content: bytes) -> str:
    """Return the MD5 in the form of `infos.etag`."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def read_state(image: Mapping[str, Any]) -> State:
    """Return the state of a listed image from its record."""
    return State("listed", tuple(image["infos"]["tags"][1:]), image["rotation"])


def apply_change(kind: str, state: State, tag: str, other_tag: str, rotation: int) -> State:
    """Return the state after a change of this kind; a bulk change removes the other tag."""
    removed = {"untag": tag, "bulk": other_tag}.get(kind)
    remaining = [name for name in state.tags if name != removed]
    tags = dict.fromkeys([*remaining, tag] if kind in {"tag", "bulk"} else remaining)
    where = {"delete": "trash", "restore": "listed"}.get(kind, state.where)
    return State(where, tuple(tags), rotation if kind == "rotate" else state.rotation)


class Service:
    """`imageapi serve` on its own folder; it can be killed and started again."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._folder, self._data_dir, self.log = folder, folder / "data", folder / "log"
        folders = {"IMAGEAPI_DATA_DIR": str(self._data_dir), "TMPDIR": str(folder)}
        self._environment = {**passed, **folders, **environment}

    def run_command(self, *arguments: str) -> str:
        """Run a command of `imageapi`; return its output."""
        output = subprocess.check_output(
            [IMAGEAPI, *arguments], cwd=self._folder, env=self._environment, text=True
        )
        return output.strip()

    def start(self) -> httpx.AsyncClient:
        """Start the service; return a client when the service is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [IMAGEAPI, "serve", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # Ctrl-C interrupts the drill, which then stops the service
            )
        assert self.process.stdout is not None
        first_line = self.process.stdout.readline().decode()
        if "listens on http" not in first_line:
            raise SystemExit(f"the service does not start: {self.log.read_text()[-1000:]}")
        address = first_line.split()[4].rstrip(",")
        while not httpx.get(f"{address}/readyz", trust_env=False).is_success:
            time.sleep(0.02)
        return httpx.AsyncClient(base_url=address, timeout=60, trust_env=False)

    def kill(self, *names: str) -> None:
        """Kill processes by name: "service", "decoders", "PostgreSQL", "supervisor"."""
        processes = self._find_processes()
        for process in [process for name in names for process in processes[name]]:
            with suppress(psutil.Error):
                process.kill()

    def stop(self) -> int:
        """Stop the service; return how many of its processes had to be killed after a minute."""
        self.process.terminate()
        deadline = time.monotonic() + 60
        while self.process.poll() is None or any(self._find_processes().values()):
            if time.monotonic() > deadline:
                remaining = self._find_processes()
                self.kill(*remaining)
                return sum(map(len, remaining.values()))
            time.sleep(0.1)
        return 0

    def _find_processes(self) -> Mapping[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = defaultdict(list)
        with suppress(psutil.Error):
            if self.process.poll() is None:
                found["service"] = [psutil.Process(self.process.pid)]
                found["decoders"] = found["service"][0].children()
        for process in psutil.process_iter():  # these two are not children of the service
            with suppress(psutil.Error):
                arguments = process.cmdline()
                if str(self._data_dir / "postgres") in arguments:
                    found["PostgreSQL"] += [process, *process.children(recursive=True)]
                elif str(self._data_dir) in arguments:
                    found["supervisor"].append(process)
        return found


class Drill:
    """The expected state of an album, the clients that change it, and the kills."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.rng = random.Random(seed)
        self.pictures: list[Picture] = []
        self.unknown: list[Change] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.kills: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.faults: list[str] = []
        self.version = 0
        self._killed: Sequence[str] = ()

    def connect(self) -> None:
        """Start the service; connect with a token that has all abilities."""
        self.http = self.service.start()
        if self._killed:
            self.recoveries.append(time.monotonic() - self._killed_at)
        options = [word for ability in ABILITIES for word in ("--can", ability)]
        token = self.service.run_command("token", "drill", "--expires-in", "1d", *options)
        self.http.headers["Authorization"] = f"Bearer {token}"

    async def run_round(
        self, operations: int, kill_after: float | None, victims: str = ""
    ) -> float:
        """Let all clients run operations and kill the service meanwhile; return the seconds."""
        self._killed, self._operations_left, started = (), operations, time.monotonic()
        clients = [asyncio.create_task(self._run_client(owner)) for owner in range(CLIENTS)]
        if kill_after is not None:
            await asyncio.wait(clients, timeout=kill_after)
            await self._kill(victims)
        await asyncio.gather(*clients)
        if kill_after is not None:
            await self.http.aclose()
            self.connect()
        return time.monotonic() - started

    async def _kill(self, victims: str) -> None:
        self.kills[victims or "nothing else"] += 1
        if victims:
            self._killed = victims.split()
            self.service.kill(*self._killed)
            await asyncio.sleep(self.rng.choice([0, 0.3 * self.rng.random()]))
        self.kills["operations under way"] += any(
            picture.state == CHANGING for picture in self.pictures
        )
        self._killed, self._operations_left = (*self._killed, "service"), 0
        self.service.kill("service")
        self._killed_at = time.monotonic()
        self.service.process.wait()

    async def _run_client(self, owner: int) -> None:
        while self._operations_left > 0:
            self._operations_left -= 1
            change = None
            while change is None:
                [kind] = self.rng.choices([*KINDS], [*KINDS.values()])
                change = (
                    self._plan_upload(owner) if kind == "upload" else self._plan_edit(kind, owner)
                )
            await self._request(change)

    def _plan_edit(self, kind: str, owner: int) -> Change | None:
        """Return a random change of the client's images, or None if nothing would change."""
        wanted = (owner, "trash" if kind == "restore" else "listed")
        candidates = [
            picture for picture in self.pictures if (picture.owner, picture.state.where) == wanted
        ]
        chosen = self.rng.sample(candidates, min(len(candidates), 8 if kind == "bulk" else 1))
        tag, other_tag = self.rng.sample(TAGS, 2)
        rotation = self.rng.choice([0, 90, 180, 270])
        before = {picture: picture.state for picture in chosen}
        after = {
            picture: apply_change(kind, picture.state, tag, other_tag, rotation)
            for picture in chosen
        }
        if before == after:
            return None
        path = f"{IMAGES}/{chosen[0].public_id}"
        tag_path = f"{path}/tags/{quote(tag, safe='')}"
        public_ids = [picture.public_id for picture in chosen]
        bulk_body = {"public_ids": public_ids, "add": [tag], "remove": [other_tag]}
        method, path, body = {
            "tag": ("PUT", tag_path, None),
            "untag": ("DELETE", tag_path, None),
            "bulk": ("POST", f"{IMAGES}/tags", bulk_body),
            "rotate": ("PATCH", path, {"rotation": rotation}),
            "delete": ("DELETE", path, None),
            "restore": ("POST", f"{path}/restore", None),
        }[kind]
        return Change(kind, before, after, lambda: self.http.request(method, path, json=body))

    def _plan_upload(self, owner: int) -> Change:
        """Return the upload of a new picture, which is sometimes sent twice at the same time."""
        chosen_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        picture = Picture(len(self.pictures), owner, self.rng.choice(["", chosen_id]))
        self.pictures.append(picture)
        tags = tuple(self.rng.sample(TAGS, self.rng.randrange(3)))
        kind, times = self.rng.choice([("upload", 1)] * 4 + [("upload twice", 2)])
        before, after = {picture: NOTHING}, {picture: State("listed", tags)}
        return Change(kind, before, after, lambda: self._send(picture, tags, times))

    async def _send(
        self, picture: Picture, tags: tuple[str, ...], times: int = 1
    ) -> httpx.Response:
        """Upload a picture; return the response, of two the one that created the image."""
        fields = {"public_id": picture.public_id, "tags": list(tags)}
        files = {"file": ("a.jpg", picture.content())}
        requests = [self.http.post(IMAGES, data=fields, files=files) for _ in range(times)]
        results = await asyncio.gather(*requests, return_exceptions=True)
        responses = [result for result in results if isinstance(result, httpx.Response)]
        for error in results:
            if isinstance(error, BaseException) and not responses:
                raise error
        codes = sorted(response.status_code for response in responses if response.is_success)
        self._fault_if(len(codes) > 1 and codes != [200, 201], f"sent twice at once: {codes}")
        return min(responses, key=lambda response: abs(response.status_code - 201))

    async def _request(self, change: Change) -> None:
        """Send the request of the change, and record its outcome."""
        for picture in change.after:
            picture.state, picture.was_touched = CHANGING, True
        try:
            response = await change.send()
        except httpx.TransportError as error:
            message = f"{change.kind}: {error!r}, but the service was not killed"
            self._fault_if("service" not in self._killed, message)
            outcome = "unknown"
        else:
            outcome = self._classify(change, response)
        self.counts[change.kind].update(["sent", outcome])
        if outcome == "unknown":
            self.unknown.append(change)
            return
        for picture, state in (change.after if outcome == "confirmed" else change.before).items():
            picture.state = state

    def _classify(self, change: Change, response: httpx.Response) -> str:
        """Return the outcome; record a fault, and an unknown outcome, for any wrong response."""
        status, body = response.status_code, response.json() if response.content else {}
        is_explained = {503: "PostgreSQL", 422: "decoders"}.get(status, "") in self._killed
        if is_explained and (status, change.kind) == (422, "upload"):
            return "refused"  # not for "upload twice": the service may have accepted one of the two
        if status not in EXPECTED.get(change.kind, {200}):
            self._fault_if(not is_explained, f"{change.kind}: {status} {response.text}")
            return "unknown"
        for picture, state in change.after.items():
            picture.public_id = picture.public_id or body["public_id"]
            if "infos" in body:
                is_same = (body["public_id"], read_state(body)) == (picture.public_id, state)
                self._fault_if(not is_same, f"{change.kind}: response {body}, not {state}")
        count = sum(change.before[picture] != state for picture, state in change.after.items())
        self._fault_if(body.get("images", count) != count, f"{change.kind}: {body}, not {count}")
        return "confirmed"

    async def verify(self, *, everything: bool = False) -> None:
        """Compare lists and events with the expected states; repeat uploads of unknown outcome.

        Fetch each image that a change touched since the last time, or all images if `everything`.
        """
        listed, events = await self._fetch(IMAGES), await self._fetch(f"{ALBUM}/events")
        images = {image["infos"]["etag"]: image for image in listed}
        self._fault_if(len(images) != len(listed), "a picture is there twice")
        self._fault_if(
            not images.keys() <= {picture.md5 for picture in self.pictures}, "unknown picture"
        )
        found = {md5: read_state(image) for md5, image in images.items()}
        repeats = self._resolve_unknown(found)
        for picture in self.pictures:
            if picture.md5 in images:
                public_id = images[picture.md5]["public_id"]
                picture.public_id = picture.public_id or public_id
                self._fault_if(picture.public_id != public_id, f"{picture}: its id is {public_id}")
            if not is_as_expected(found, {picture: picture.state}):
                self._fault_if(True, f"{picture}: there is {found.get(picture.md5)}")
        versions = self._replay(events)
        if listed:
            no_change = {"public_ids": [listed[0]["public_id"]], "remove": ["never given"]}
            result = (await self.http.post(f"{IMAGES}/tags", json=no_change)).json()
            self._fault_if(result != {"version": self.version, "images": 0}, f"version: {result}")
        touched = {picture.md5 for picture in self.pictures if picture.was_touched or everything}
        limiter = asyncio.Semaphore(CLIENTS)
        to_check = [images[md5] for md5 in images.keys() & touched]
        await asyncio.gather(*(self._check_image(image, versions, limiter) for image in to_check))
        for picture in self.pictures:
            picture.was_touched = False
        for picture, state, status in repeats:
            response = await self._send(picture, state.tags)
            self._fault_if(response.status_code != status, f"sent again: {response.text}")
            picture.state, picture.was_touched = read_state(response.json()), True
            picture.public_id = response.json()["public_id"]

    def _resolve_unknown(self, found: Mapping[str, State]) -> list[tuple[Picture, State, int]]:
        """Find out whether changes of unknown outcome were made.

        Return the uploads among them, which are to be repeated: the picture, its state after the
        upload, and the expected status (200 if the image exists, else 201).
        """
        repeats = []
        for change in self.unknown:
            is_done = is_as_expected(found, change.after)
            is_half = not is_done and not is_as_expected(found, change.before)
            self._fault_if(is_half, f"half a change: {change.kind} {change.before}")
            self.counts[change.kind]["done" if is_done else "not done"] += 1
            for picture, state in (change.after if is_done else change.before).items():
                picture.state = state
                if change.before[picture] == NOTHING:
                    repeats.append((picture, change.after[picture], 200 if is_done else 201))
        self.unknown.clear()
        return repeats

    def _replay(self, events: list[Any]) -> Mapping[str, int]:
        """Compare the states after all events with the expected states.

        Return the version of the last change of each image, by its id.
        """
        images: dict[str, Any] = {}
        versions: dict[str, int] = {}
        self.version = len(events)
        are_gapless = [event["version"] for event in events] == [*range(1, self.version + 1)]
        self._fault_if(not are_gapless, "versions with gaps")
        for event in events:
            for public_id in event["public_ids"]:
                before, now = event["before"][public_id], images.get(public_id)
                follows = now is None if before is None else now and before.items() <= now.items()
                self._fault_if(not follows, f"does not follow: {event}")
                now = now or {"rotation": 0, "deleted": False}
                images[public_id] = now | event["after"][public_id]
                versions[public_id] = event["version"]
        replayed = {
            public_id: State(
                "trash" if image["deleted"] else "listed", tuple(image["tags"]), image["rotation"]
            )
            for public_id, image in images.items()
        }
        expected = {
            picture.public_id: picture.state
            for picture in self.pictures
            if picture.state != NOTHING
        }
        difference = set(replayed.items()) ^ set(expected.items())
        self._fault_if(replayed != expected, f"events differ: {difference}")
        return versions

    async def _check_image(
        self, image: Any, versions: Mapping[str, int], limiter: asyncio.Semaphore
    ) -> None:
        """Check an image: its record, its entity tag, its original, its mini rendition."""
        async with limiter:
            public_id = image["public_id"]
            version = versions[public_id]
            response = await self.http.get(f"{IMAGES}/{public_id}")
            is_same = response.json() == image and response.headers["ETag"] == f'"{version}"'
            self._fault_if(not is_same, f"{public_id} is {response.text}, version {version}")
            original = await self.http.get(response.headers["Link"][1:].partition(">")[0])
            is_complete = hash_md5(original.content) == image["infos"]["etag"]
            self._fault_if(not is_complete, f"{public_id}: {original.status_code} for the original")
            mini = await self.http.get(image["thumbnails"]["mini"])
            is_blank = "public" in mini.headers["Cache-Control"]
            is_jpeg = (mini.status_code, mini.headers["Content-Type"]) == (200, "image/jpeg")
            self._fault_if(is_blank or not is_jpeg, f"{public_id}: {mini.status_code} for mini")

    async def restore_all(self) -> None:
        """Restore all images from the trash."""
        for picture in self.pictures:
            if picture.state.where == "trash":
                response = await self.http.post(f"{IMAGES}/{picture.public_id}/restore")
                self._fault_if(not response.is_success, f"not restored: {response.text}")
                picture.state = picture.state._replace(where="listed")

    async def _fetch(self, path: str) -> list[Any]:
        items: list[Any] = (await self.http.get(path)).raise_for_status().json()
        return items

    def _fault_if(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(f"after {len(self.recoveries)} kills: {text}")


def is_as_expected(found: Mapping[str, State], states: States) -> bool:
    """Whether the listed images, `found` by MD5, have the states; others must not be listed."""
    return all(
        found.get(picture.md5) == (state if state.where == "listed" else None)
        for picture, state in states.items()
    )


class StoreInspector:
    """The store, a folder or a bucket, which is read without the service."""

    def __init__(self, folder: Path, endpoint: str | None) -> None:
        self._folder, self._endpoint = folder, endpoint
        self.environment: dict[str, str] = {}
        if endpoint is not None:
            httpx.put(f"{endpoint}/drill", trust_env=False).raise_for_status()
            names = ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            self.environment = dict.fromkeys(names, "drill") | {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ALLOW_HTTP": "true",
                "IMAGEAPI_STORE_URL": "s3://drill",
            }

    def count_originals(self) -> int:
        """Return the number of originals in the store."""
        if self._endpoint is None:
            return len([*self._folder.glob("data/pictures/drill/*/original")])
        store = S3Store(
            "drill",
            endpoint=self._endpoint,
            skip_signature=True,
            client_options={"allow_http": True},
        )
        return sum(
            item["path"].endswith("/original") for page in obstore.list(store) for item in page
        )

    def describe_leftovers(self, records: int) -> str:
        """Return how many originals, staged files and multipart uploads have no record."""
        originals = self.count_originals() - records
        leftovers = f"{originals} originals, {len(self._list_staged())} staged files"
        if self._endpoint is None:
            return leftovers
        xml = httpx.get(f"{self._endpoint}/drill?uploads", trust_env=False).text
        return f"{leftovers}, {xml.count('<UploadId>')} uploads in parts"

    def make_files_older(self) -> None:
        """Set the times of all files two hours back, so that a purge removes them."""
        for path in [*self._folder.glob("data/pictures/drill/*/*"), *self._list_staged()]:
            os.utime(path, (time.time() - 7200,) * 2)

    def _list_staged(self) -> list[Path]:
        pattern = "data/pictures/.incoming/*" if self._endpoint is None else "imageapi-incoming-*"
        return [*self._folder.glob(pattern)]


async def run(drill: Drill, store: StoreInspector, rounds: int, operations: int) -> None:
    """Run all rounds on one store; then count what is left without a record, and purge it."""
    drill.connect()
    seconds = await drill.run_round(operations, None)
    await drill.verify()
    for number in range(rounds):
        await drill.run_round(
            operations, seconds * drill.rng.random(), VICTIMS[number % len(VICTIMS)]
        )
        await drill.verify()
    print(f"{'':12}" + "".join(f"{name:>12}" for name in COLUMNS))
    drill.counts["all"] = sum(drill.counts.values(), Counter())
    for kind, counts in drill.counts.items():
        print(f"{kind:12}" + "".join(f"{counts[name]:>12,}" for name in COLUMNS))
    print(f"{rounds} kills, with: {', '.join(f'{name} {n}' for name, n in drill.kills.items())}")
    median, longest = statistics.median(drill.recoveries), max(drill.recoveries)
    print(f"kill to ready: median {median:.2f} s, at most {longest:.2f} s")
    print(f"a round without a kill: {seconds:.1f} s")
    states = Counter(picture.state.where for picture in drill.pictures)
    records = states["listed"] + states["trash"]
    print(
        f"{states['listed']:,} images, {states['trash']:,} in the trash, {drill.version:,} events"
    )
    print(f"without a record: {store.describe_leftovers(records)}")
    store.make_files_older()
    print(f"purged: {drill.service.run_command('purge', '--older-than', '30d')}")
    print(f"without a record: {store.describe_leftovers(records)}")
    if not store.environment and store.count_originals() != records:
        drill.faults.append("purge left or took originals")
    await drill.verify()
    await drill.restore_all()
    await drill.verify(everything=True)
    await drill.http.aclose()
    lines = drill.service.log.read_text().splitlines()
    drill.faults += [line for line in lines if "unexpected" in line]


def drill_store(store: str, arguments: argparse.Namespace) -> int:
    """Run the drill on this kind of store; return the number of faults."""
    print(f"\n{store}, seed {arguments.seed}, {arguments.operations} operations a round")
    with ExitStack() as opened:
        endpoint = None
        if store == "s3":
            command = [sys.executable, "-W", "ignore", str(S3_SERVER)]
            server = opened.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            opened.callback(server.kill)
            assert server.stdout is not None
            endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        inspector = StoreInspector(folder, endpoint)
        service = Service(folder, inspector.environment)
        drill = Drill(service, arguments.seed)
        try:
            asyncio.run(run(drill, inspector, arguments.rounds, arguments.operations))
        finally:
            killed = service.stop()
        if killed:
            drill.faults.append(f"{killed} processes did not end")
    print("\n".join([*drill.faults[:20], f"faults: {len(drill.faults)}"]), flush=True)
    return len(drill.faults)


def main() -> None:
    """Run the drill on the chosen stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("folder", "s3", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--operations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # raises, so that `finally` cleans up
    stores = ("folder", "s3") if arguments.store == "both" else (arguments.store,)
    sys.exit(sum(drill_store(store, arguments) for store in stores) > 0)


if __name__ == "__main__":
    main()
