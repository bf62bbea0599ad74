"""A drill: the service killed at any moment while people add, tag, turn, delete, restore pictures.

On the embedded database of a temporary folder, with the pictures in a folder or in a bucket of
moto's S3. Killed is the service alone, or its decoders or its PostgreSQL a moment before. What was
answered must be there; what was not must be there wholly or not at all. It ends with 1 where
anything else was found. What it prints is measured.
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
LARGE, LARGE_BYTES = 20, 6 * 1024**2  # one picture in so many goes to S3 in parts
#: What is killed before the service, kill by kill.
VICTIMS = ("", "decoders", "", "PostgreSQL", "", "decoders PostgreSQL supervisor")
KINDS = {"upload": 8, "tag": 4, "untag": 3, "bulk": 3, "rotate": 3, "delete": 2, "restore": 2}
EXPECTED = {"upload": {201}, "upload twice": {200, 201}, "delete": {204}}
COLUMNS = ("asked", "answered", "refused", "unanswered", "done", "not done")


class State(NamedTuple):
    """What there is of a picture: nothing, an image that is listed, or one in the trash."""

    where: str
    tags: tuple[str, ...] = ()
    rotation: int = 0


NOTHING, ASKED = State("nothing"), State("asked")


@dataclass(eq=False)
class Picture:
    """A picture of one client's, and what there must be of it by what was answered."""

    number: int
    owner: int
    public_id: str
    state: State = NOTHING
    md5: str = ""
    was_touched: bool = True

    def content(self) -> bytes:
        """A JPEG like no other, the same each time."""
        dice, file = random.Random(self.number), io.BytesIO()
        Image.frombytes("RGB", (48, 32), dice.randbytes(48 * 32 * 3)).save(file, "JPEG")
        content = file.getvalue() + dice.randbytes(0 if self.number % LARGE else LARGE_BYTES)
        self.md5 = md5_of(content)
        return content


States = Mapping[Picture, State]


class Change(NamedTuple):
    """Something to be asked, and how pictures are before and after it."""

    kind: str
    before: States
    after: States
    send: Callable[[], Awaitable[httpx.Response]]


def md5_of(content: bytes) -> str:
    """As `infos.etag` has it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def state_of(image: Mapping[str, Any]) -> State:
    """What a record says."""
    return State("listed", tuple(image["infos"]["tags"][1:]), image["rotation"])


def changed(kind: str, state: State, tag: str, other: str, rotation: int) -> State:
    """How an image is after a change of this kind; bulk takes the other tag away."""
    gone = {"untag": tag, "bulk": other}.get(kind)
    kept = [each for each in state.tags if each != gone]
    tags = dict.fromkeys([*kept, tag] if kind in {"tag", "bulk"} else kept)
    where = {"delete": "trash", "restore": "listed"}.get(kind, state.where)
    return State(where, tuple(tags), rotation if kind == "rotate" else state.rotation)


class Service:
    """`imageapi serve` on its own folder, to be killed and started again."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._folder, self._data_dir, self.log = folder, folder / "data", folder / "log"
        own = {"IMAGEAPI_DATA_DIR": str(self._data_dir), "TMPDIR": str(folder)}
        self._environment = {**kept, **own, **environment}

    def command(self, *arguments: str) -> str:
        """What a command says."""
        said = subprocess.check_output(
            [IMAGEAPI, *arguments], cwd=self._folder, env=self._environment, text=True
        )
        return said.strip()

    def start(self) -> httpx.AsyncClient:
        """A client of the service, once it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [IMAGEAPI, "serve", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the drill, which stops the service
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().decode()
        if "listens on http" not in first:
            raise SystemExit(f"the service does not start: {self.log.read_text()[-1000:]}")
        address = first.split()[4].rstrip(",")
        while not httpx.get(f"{address}/readyz", trust_env=False).is_success:
            time.sleep(0.02)
        return httpx.AsyncClient(base_url=address, timeout=60, trust_env=False)

    def kill(self, *names: str) -> None:
        """Kill the service, its decoders, its PostgreSQL, the supervisor of that."""
        found = self._processes()
        for process in [each for name in names for each in found[name]]:
            with suppress(psutil.Error):
                process.kill()

    def stop(self) -> int:
        """Ask it to stop; how many of its processes had to be killed a minute later."""
        self.process.terminate()
        deadline = time.monotonic() + 60
        while self.process.poll() is None or any(self._processes().values()):
            if time.monotonic() > deadline:
                found = self._processes()
                self.kill(*found)
                return sum(map(len, found.values()))
            time.sleep(0.1)
        return 0

    def _processes(self) -> Mapping[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = defaultdict(list)
        with suppress(psutil.Error):
            if self.process.poll() is None:
                found["service"] = [psutil.Process(self.process.pid)]
                found["decoders"] = found["service"][0].children()
        for process in psutil.process_iter():  # these two are nobody's children
            with suppress(psutil.Error):
                arguments = process.cmdline()
                if str(self._data_dir / "postgres") in arguments:
                    found["PostgreSQL"] += [process, *process.children(recursive=True)]
                elif str(self._data_dir) in arguments:
                    found["supervisor"].append(process)
        return found


class Drill:
    """An album as it must be, clients who change it, and kills."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.dice = random.Random(seed)
        self.pictures: list[Picture] = []
        self.unanswered: list[Change] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.kills: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.faults: list[str] = []
        self.version = 0
        self._killed: Sequence[str] = ()

    def connect(self) -> None:
        """Start the service, and be a client who may do everything."""
        self.http = self.service.start()
        if self._killed:
            self.recoveries.append(time.monotonic() - self._killed_at)
        abilities = [word for ability in ABILITIES for word in ("--can", ability)]
        token = self.service.command("token", "drill", "--expires-in", "1d", *abilities)
        self.http.headers["Authorization"] = f"Bearer {token}"

    async def round(self, operations: int, kill_after: float | None, victims: str = "") -> float:
        """So many operations by all clients at once, and a kill amid them; seconds they took."""
        self._killed, self._left, started = (), operations, time.monotonic()
        clients = [asyncio.create_task(self._client(owner)) for owner in range(CLIENTS)]
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
            await asyncio.sleep(self.dice.choice([0, 0.3 * self.dice.random()]))
        self.kills["operations under way"] += any(each.state == ASKED for each in self.pictures)
        self._killed, self._left = (*self._killed, "service"), 0
        self.service.kill("service")
        self._killed_at = time.monotonic()
        self.service.process.wait()

    async def _client(self, owner: int) -> None:
        while self._left > 0:
            self._left -= 1
            change = None
            while change is None:
                [kind] = self.dice.choices([*KINDS], [*KINDS.values()])
                change = self._upload(owner) if kind == "upload" else self._edit(kind, owner)
            await self._make(change)

    def _edit(self, kind: str, owner: int) -> Change | None:
        """A change by the client, where there is something to change."""
        wanted = (owner, "trash" if kind == "restore" else "listed")
        fit = [each for each in self.pictures if (each.owner, each.state.where) == wanted]
        chosen = self.dice.sample(fit, min(len(fit), 8 if kind == "bulk" else 1))
        tag, other = self.dice.sample(TAGS, 2)
        rotation = self.dice.choice([0, 90, 180, 270])
        before = {each: each.state for each in chosen}
        after = {each: changed(kind, each.state, tag, other, rotation) for each in chosen}
        if before == after:
            return None
        path = f"{IMAGES}/{chosen[0].public_id}"
        of_tag = f"{path}/tags/{quote(tag, safe='')}"
        many = {"public_ids": [e.public_id for e in chosen], "add": [tag], "remove": [other]}
        method, path, body = {
            "tag": ("PUT", of_tag, None),
            "untag": ("DELETE", of_tag, None),
            "bulk": ("POST", f"{IMAGES}/tags", many),
            "rotate": ("PATCH", path, {"rotation": rotation}),
            "delete": ("DELETE", path, None),
            "restore": ("POST", f"{path}/restore", None),
        }[kind]
        return Change(kind, before, after, lambda: self.http.request(method, path, json=body))

    def _upload(self, owner: int) -> Change:
        """A new picture, sometimes sent twice at once."""
        chosen = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        picture = Picture(len(self.pictures), owner, self.dice.choice(["", chosen]))
        self.pictures.append(picture)
        tags = tuple(self.dice.sample(TAGS, self.dice.randrange(3)))
        kind, times = self.dice.choice([("upload", 1)] * 4 + [("upload twice", 2)])
        before, after = {picture: NOTHING}, {picture: State("listed", tags)}
        return Change(kind, before, after, lambda: self._send(picture, tags, times))

    async def _send(
        self, picture: Picture, tags: tuple[str, ...], times: int = 1
    ) -> httpx.Response:
        """The answer; of two, that to the one who made the image."""
        fields = {"public_id": picture.public_id, "tags": list(tags)}
        files = {"file": ("a.jpg", picture.content())}
        sent = [self.http.post(IMAGES, data=fields, files=files) for _ in range(times)]
        results = await asyncio.gather(*sent, return_exceptions=True)
        answers = [each for each in results if isinstance(each, httpx.Response)]
        for error in results:
            if isinstance(error, BaseException) and not answers:
                raise error
        codes = sorted(answer.status_code for answer in answers if answer.is_success)
        self._fault(len(codes) > 1 and codes != [200, 201], f"sent twice at once: {codes}")
        return min(answers, key=lambda answer: abs(answer.status_code - 201))

    async def _make(self, change: Change) -> None:
        """Ask for the change, and note what comes of it."""
        for picture in change.after:
            picture.state, picture.was_touched = ASKED, True
        try:
            answer = await change.send()
        except httpx.TransportError as error:
            self._fault("service" not in self._killed, f"{change.kind}: {error!r} from the living")
            outcome = "unanswered"
        else:
            outcome = self._outcome(change, answer)
        self.counts[change.kind].update(["asked", outcome])
        if outcome == "unanswered":
            self.unanswered.append(change)
            return
        for picture, state in (change.after if outcome == "answered" else change.before).items():
            picture.state = state

    def _outcome(self, change: Change, answer: httpx.Response) -> str:
        """What sort of answer it is; one that should not be counts as none."""
        status, told = answer.status_code, answer.json() if answer.content else {}
        dead = {503: "PostgreSQL", 422: "decoders"}.get(status, "") in self._killed
        if dead and (status, change.kind) == (422, "upload"):  # of two, one may have been taken
            return "refused"
        if status not in EXPECTED.get(change.kind, {200}):
            self._fault(not dead, f"{change.kind}: {status} {answer.text}")
            return "unanswered"
        for picture, state in change.after.items():
            picture.public_id = picture.public_id or told["public_id"]
            if "infos" in told:
                is_same = (told["public_id"], state_of(told)) == (picture.public_id, state)
                self._fault(not is_same, f"{change.kind}: answered {told}, not {state}")
        count = sum(change.before[each] != state for each, state in change.after.items())
        self._fault(told.get("images", count) != count, f"{change.kind}: {told}, not {count}")
        return "answered"

    async def verify(self, *, everything: bool = False) -> None:
        """Compare what the service says with what it answered, then send again what it did not.

        Of images only those are looked at that were touched since the last time, or all of them.
        """
        listed, events = await self._told(IMAGES), await self._told(f"{ALBUM}/events")
        images = {image["infos"]["etag"]: image for image in listed}
        self._fault(len(images) != len(listed), "a picture is there twice")
        self._fault(not images.keys() <= {each.md5 for each in self.pictures}, "nobody's picture")
        found = {md5: state_of(image) for md5, image in images.items()}
        again = self._settle(found)
        for picture in self.pictures:
            if picture.md5 in images:
                told = images[picture.md5]["public_id"]
                picture.public_id = picture.public_id or told
                self._fault(picture.public_id != told, f"{picture}: its id is {told}")
            if not holds(found, {picture: picture.state}):
                self._fault(True, f"{picture}: there is {found.get(picture.md5)}")
        versions = self._replayed(events)
        if listed:
            nothing = {"public_ids": [listed[0]["public_id"]], "remove": ["never given"]}
            answer = (await self.http.post(f"{IMAGES}/tags", json=nothing)).json()
            self._fault(answer != {"version": self.version, "images": 0}, f"version: {answer}")
        touched = {each.md5 for each in self.pictures if each.was_touched or everything}
        turns = asyncio.Semaphore(CLIENTS)
        shown = [images[md5] for md5 in images.keys() & touched]
        await asyncio.gather(*(self._look(each, versions, turns) for each in shown))
        for picture in self.pictures:
            picture.was_touched = False
        for picture, state, status in again:
            answer = await self._send(picture, state.tags)
            self._fault(answer.status_code != status, f"sent again: {answer.text}")
            picture.state, picture.was_touched = state_of(answer.json()), True
            picture.public_id = answer.json()["public_id"]

    def _settle(self, found: Mapping[str, State]) -> list[tuple[Picture, State, int]]:
        """Find out what became of what was not answered; uploads, and what comes of them again."""
        again = []
        for change in self.unanswered:
            is_done = holds(found, change.after)
            is_half = not is_done and not holds(found, change.before)
            self._fault(is_half, f"half a change: {change.kind} {change.before}")
            self.counts[change.kind]["done" if is_done else "not done"] += 1
            for picture, state in (change.after if is_done else change.before).items():
                picture.state = state
                if change.before[picture] == NOTHING:
                    again.append((picture, change.after[picture], 200 if is_done else 201))
        self.unanswered.clear()
        return again

    def _replayed(self, events: list[Any]) -> Mapping[str, int]:
        """Follow the events to what there must be; the version of each image's last change."""
        images: dict[str, Any] = {}
        versions: dict[str, int] = {}
        self.version = len(events)
        are_gapless = [event["version"] for event in events] == [*range(1, self.version + 1)]
        self._fault(not are_gapless, "versions with gaps")
        for event in events:
            for each in event["public_ids"]:
                before, now = event["before"][each], images.get(each)
                follows = now is None if before is None else now and before.items() <= now.items()
                self._fault(not follows, f"does not follow: {event}")
                images[each] = (now or {"rotation": 0, "deleted": False}) | event["after"][each]
                versions[each] = event["version"]
        told = {
            each: State("trash" if of["deleted"] else "listed", tuple(of["tags"]), of["rotation"])
            for each, of in images.items()
        }
        required = {each.public_id: each.state for each in self.pictures if each.state != NOTHING}
        self._fault(told != required, f"events tell {set(told.items()) ^ set(required.items())}")
        return versions

    async def _look(
        self, image: Any, versions: Mapping[str, int], turns: asyncio.Semaphore
    ) -> None:
        """Look at an image: its record, its entity tag, its original, its mini rendition."""
        async with turns:
            named = image["public_id"]
            answer = await self.http.get(f"{IMAGES}/{named}")
            is_same = answer.json() == image and answer.headers["ETag"] == f'"{versions[named]}"'
            self._fault(not is_same, f"{named} is {answer.text}, version {versions[named]}")
            original = await self.http.get(answer.headers["Link"][1:].partition(">")[0])
            is_whole = md5_of(original.content) == image["infos"]["etag"]
            self._fault(not is_whole, f"{named}: {original.status_code} for the original")
            mini = await self.http.get(image["thumbnails"]["mini"])
            is_blank = "public" in mini.headers["Cache-Control"]
            is_shown = (mini.status_code, mini.headers["Content-Type"]) == (200, "image/jpeg")
            self._fault(is_blank or not is_shown, f"{named}: {mini.status_code} for mini")

    async def restore_all(self) -> None:
        """Take everything out of the trash."""
        for picture in self.pictures:
            if picture.state.where == "trash":
                answer = await self.http.post(f"{IMAGES}/{picture.public_id}/restore")
                self._fault(not answer.is_success, f"not restored: {answer.text}")
                picture.state = picture.state._replace(where="listed")

    async def _told(self, path: str) -> list[Any]:
        told: list[Any] = (await self.http.get(path)).raise_for_status().json()
        return told

    def _fault(self, is_one: bool, text: str) -> None:
        if is_one:
            self.faults.append(f"after {len(self.recoveries)} kills: {text}")


def holds(found: Mapping[str, State], states: States) -> bool:
    """Whether what is listed, by MD5, is what the pictures' states say."""
    return all(
        found.get(picture.md5) == (state if state.where == "listed" else None)
        for picture, state in states.items()
    )


class Bucket:
    """A folder, or a bucket on a server, looked at without the service."""

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

    def originals(self) -> int:
        """How many originals there are."""
        if self._endpoint is None:
            return len([*self._folder.glob("data/pictures/drill/*/original")])
        store = S3Store(
            "drill",
            endpoint=self._endpoint,
            skip_signature=True,
            client_options={"allow_http": True},
        )
        return sum(e["path"].endswith("/original") for page in obstore.list(store) for e in page)

    def left(self) -> str:
        """What was left half written."""
        staged = f"{len(self._staged())} staged files"
        if self._endpoint is None:
            return staged
        answer = httpx.get(f"{self._endpoint}/drill?uploads", trust_env=False).text
        return f"{staged}, {answer.count('<UploadId>')} uploads in parts"

    def age(self) -> None:
        """Have the files two hours older."""
        for path in [*self._folder.glob("data/pictures/drill/*/*"), *self._staged()]:
            os.utime(path, (time.time() - 7200,) * 2)

    def _staged(self) -> list[Path]:
        pattern = "data/pictures/.incoming/*" if self._endpoint is None else "imageapi-incoming-*"
        return [*self._folder.glob(pattern)]


async def run(drill: Drill, bucket: Bucket, rounds: int, operations: int) -> None:
    """All rounds on one store; then what is left in it, and the purge of that."""
    drill.connect()
    seconds = await drill.round(operations, None)
    await drill.verify()
    for number in range(rounds):
        await drill.round(operations, seconds * drill.dice.random(), VICTIMS[number % len(VICTIMS)])
        await drill.verify()
    print(f"{'':12}" + "".join(f"{name:>12}" for name in COLUMNS))
    drill.counts["all"] = sum(drill.counts.values(), Counter())
    for kind, counts in drill.counts.items():
        print(f"{kind:12}" + "".join(f"{counts[name]:>12,}" for name in COLUMNS))
    print(f"{rounds} kills, with: {', '.join(f'{name} {n}' for name, n in drill.kills.items())}")
    middle, most = statistics.median(drill.recoveries), max(drill.recoveries)
    print(f"kill to ready: median {middle:.2f} s, most {most:.2f} s; a round takes {seconds:.1f} s")
    states = Counter(each.state.where for each in drill.pictures)
    records = states["listed"] + states["trash"]
    print(
        f"{states['listed']:,} images, {states['trash']:,} in the trash, {drill.version:,} events"
    )
    print(f"without a record: {bucket.originals() - records} originals, {bucket.left()}")
    bucket.age()
    print(f"purged: {drill.service.command('purge', '--older-than', '30d')}")
    print(f"without a record: {bucket.originals() - records} originals, {bucket.left()}")
    if not bucket.environment and bucket.originals() != records:
        drill.faults.append("purge left or took originals")
    await drill.verify()
    await drill.restore_all()
    await drill.verify(everything=True)
    await drill.http.aclose()
    lines = drill.service.log.read_text().splitlines()
    drill.faults += [line for line in lines if "unexpected" in line]


def drilled(store: str, arguments: argparse.Namespace) -> int:
    """Run the drill on this kind of store; how many faults were found."""
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
        bucket = Bucket(folder, endpoint)
        service = Service(folder, bucket.environment)
        drill = Drill(service, arguments.seed)
        try:
            asyncio.run(run(drill, bucket, arguments.rounds, arguments.operations))
        finally:
            left = service.stop()
        if left:
            drill.faults.append(f"{left} processes did not end")
    print("\n".join([*drill.faults[:20], f"faults: {len(drill.faults)}"]), flush=True)
    return len(drill.faults)


def main() -> None:
    """Run the drill on the stores that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("folder", "s3", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--operations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)  # what was begun is cleaned up
    stores = ("folder", "s3") if arguments.store == "both" else (arguments.store,)
    sys.exit(sum(drilled(store, arguments) for store in stores) > 0)


if __name__ == "__main__":
    main()
