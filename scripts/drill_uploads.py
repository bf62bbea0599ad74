"""A drill: the service killed at any moment while people add, tag, turn, delete and restore pictures.

`make drill` runs it on the embedded database of a temporary folder, with the pictures in a folder
and in a bucket of moto's S3. Killed are the service alone, or its decoders or its PostgreSQL too.
What was answered must be there, what was not must be there wholly or not at all. It ends with 1
where anything else was found; what it prints is measured.
"""

import argparse
import asyncio
import hashlib
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import obstore
import psutil  # type: ignore[import-untyped]  # it has none
from httpx import codes
from obstore.store import from_url
from PIL import Image

IMAGEAPI = Path(sys.executable).with_name("imageapi")
S3_SERVER = Path(__file__).parent.parent / "tests/s3.py"
ALBUM = "drill"
ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
TAGS = ("kitchen", "garden", "été", "n/a", "a b", "%2F", "x", "y", "z")
CLIENTS = 8
LARGE_BYTES = 6 * 1024**2  # of one picture in 40: more than S3 takes in one part
#: What is killed beside the service, kill by kill.
VICTIMS = ("", "decoders", "", "PostgreSQL", "", "decoders PostgreSQL supervisor")
KINDS = {"upload": 8, "tag": 4, "untag": 3, "bulk": 3, "rotate": 3, "delete": 2, "restore": 2}

Headers = Mapping[str, str]


class State(NamedTuple):
    """What there is of a picture: nothing, an image that is listed, or one in the trash."""

    where: str = "nothing"
    tags: tuple[str, ...] = ()
    rotation: int = 0

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> "State":
        """What a record says."""
        return cls("listed", tuple(image["infos"]["tags"][1:]), image["rotation"])


@dataclass(eq=False)
class Picture:
    """A picture, whose it is, and what there must be of it by what was answered."""

    seed: str
    is_large: bool
    owner: int
    md5: str = ""
    public_id: str = ""
    state: State = State()
    is_clear: bool = True
    was_touched: bool = True

    def content(self) -> bytes:
        """A JPEG like no other; the same each time."""
        dice, file = random.Random(self.seed), io.BytesIO()  # noqa: S311 - repeatable, not secret
        Image.frombytes("RGB", (48, 32), dice.randbytes(48 * 32 * 3)).save(file, "JPEG")
        content = file.getvalue() + (dice.randbytes(LARGE_BYTES) if self.is_large else b"")
        self.md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return content


@dataclass(eq=False)
class Change:
    """What was asked: how pictures are before and after it, and whether an answer is the right one."""

    kind: str
    after: dict[Picture, State]
    send: Callable[[], Awaitable[httpx.Response]]
    expected: tuple[int, ...] = (codes.OK,)

    def __post_init__(self) -> None:
        self.before = {picture: picture.state for picture in self.after}


class Service:
    """`imageapi serve` in a folder of its own, to be killed and started again."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.data_dir = folder / "data"
        self._folder = folder
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "IMAGEAPI_DATA_DIR": str(self.data_dir),
            "TMPDIR": str(folder),
            **environment,
        }
        self.log = folder / "service.log"

    def command(self, *arguments: str) -> str:
        """What a command answers."""
        return subprocess.check_output(
            [IMAGEAPI, *arguments], cwd=self._folder, env=self.environment, text=True
        ).strip()

    def start(self) -> str:
        """The address of the service, once it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [IMAGEAPI, "serve", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for the drill, which then stops the service
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().decode()
        if "listens on http" not in first:
            raise SystemExit(f"the service does not start: {self.log.read_text()[-2000:]}")
        address = first.split()[4].rstrip(",")
        while httpx.get(f"{address}/readyz", trust_env=False).status_code != codes.OK:
            time.sleep(0.02)
        return address

    def kill(self, victims: str) -> None:
        """Kill these of the processes that belong to the service, or itself where none is named."""
        wanted = set()
        for name in victims.split() or ["service"]:
            wanted.update(self._processes(name))
        for process in wanted:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> int:
        """Ask it to stop; how many processes of the folder had to be killed after that."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        deadline = time.monotonic() + 30  # a supervisor may still stop its server
        while (left := [*self._processes("*")]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(left)

    def _processes(self, name: str) -> Iterator[psutil.Process]:
        """The service or its children; the supervisor and PostgreSQL are nobody's children."""
        if name in {"service", "decoders", "*"} and self.process.poll() is None:
            service = psutil.Process(self.process.pid)
            yield from [service] if name == "service" else service.children()
        if name in {"supervisor", "PostgreSQL", "*"}:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    arguments = process.cmdline()
                    is_server = str(self.data_dir / "postgres") in arguments
                    if is_server and name != "supervisor":
                        yield from [process, *process.children(recursive=True)]
                    if str(self.data_dir) in arguments and name != "PostgreSQL":
                        yield process


class Drill:
    """The album as it must be, those who change it, and the comparison."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.pictures: list[Picture] = []
        self.unanswered: list[Change] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[str] = []
        self.recoveries: list[float] = []
        self.kills: Counter[str] = Counter()
        self.killed: str | None = None
        self.events = 0

    def connect(self) -> None:
        """Start the service, and have a client for it."""
        address = self.service.start()
        token = self.service.command(
            "token", ALBUM, "--expires-in", "1d", *(x for a in ABILITIES for x in ("--can", a))
        )
        self.http = httpx.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )

    # Those who change the album

    async def round(self, operations: int, kill_after: float | None, victims: str = "") -> float:
        """So many operations, by clients at once, and a kill among them; seconds it took."""
        self.killed, self._left = None, operations
        started = time.monotonic()
        clients = [asyncio.create_task(self._client(owner)) for owner in range(CLIENTS)]
        if kill_after is not None:
            await asyncio.wait(clients, timeout=kill_after)
            await self._kill(victims)
        await asyncio.gather(*clients)
        seconds = time.monotonic() - started
        if kill_after is not None:
            await self.http.aclose()
            self.connect()
            self.recoveries.append(time.monotonic() - self._killed_at)
        return seconds

    async def _kill(self, victims: str) -> None:
        self.kills[victims or "alone"] += 1
        if victims:
            self.killed = victims
            self.service.kill(victims)
            await asyncio.sleep(self.dice.choice([0, self.dice.uniform(0, 0.3)]))
        self.kills["amid operations"] += any(not each.is_clear for each in self.pictures)
        self.service.kill("")
        self._left, self._killed_at, self.killed = 0, time.monotonic(), f"{victims} service"
        self.service.process.wait()

    async def _client(self, owner: int) -> None:
        while self._left > 0:
            self._left -= 1
            change = None
            while change is None:
                [kind] = self.dice.choices([*KINDS], KINDS.values())
                change = self._drawn(kind, owner)
            await self._make(change)

    def _drawn(self, kind: str, owner: int) -> Change | None:
        """Something of this kind that the client may do with its pictures, if there is."""
        own = [each for each in self.pictures if each.owner == owner and each.is_clear]
        fit = [each for each in own if each.state.where == ("listed", "trash")[kind == "restore"]]
        if kind == "upload":
            return self._upload(owner)
        if kind == "bulk":
            return self._bulk(self.dice.sample(fit, min(len(fit), self.dice.randrange(2, 9))))
        if not fit:
            return None
        picture = self.dice.choice(fit)
        state, path = picture.state, f"{self._images}/{picture.public_id}"
        tag, rotation = self.dice.choice(TAGS), self.dice.choice([0, 90, 180, 270])
        match kind:
            case "tag":
                after = state._replace(tags=tuple(dict.fromkeys([*state.tags, tag])))
                call = ("PUT", f"{path}/tags/{quote(tag, safe='')}", None)
            case "untag":
                after = state._replace(tags=tuple(each for each in state.tags if each != tag))
                call = ("DELETE", f"{path}/tags/{quote(tag, safe='')}", None)
            case "rotate":
                after = state._replace(rotation=rotation)
                call = ("PATCH", path, {"rotation": rotation})
            case "delete":
                after, call = state._replace(where="trash"), ("DELETE", path, None)
            case _:
                after, call = state._replace(where="listed"), ("POST", f"{path}/restore", None)
        expected = codes.NO_CONTENT if kind == "delete" else codes.OK
        change = Change(kind, {picture: after}, lambda: self._ask(*call), (expected,))
        return change if after != state else None

    def _upload(self, owner: int) -> Change:
        number = len(self.pictures)
        picture = Picture(f"{self.seed}/{number}", number % 40 == 39, owner)  # noqa: PLR2004
        chosen = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        picture.public_id = self.dice.choice(["", chosen])
        tags = tuple(self.dice.sample(TAGS, self.dice.randrange(3)))
        self.pictures.append(picture)
        after = {picture: State("listed", tags)}
        if self.dice.random() < 0.8:  # noqa: PLR2004
            return Change("upload", after, lambda: self._send(picture, tags), (codes.CREATED,))
        expected = (codes.OK, codes.CREATED)
        return Change("upload twice", after, lambda: self._send_twice(picture, tags), expected)

    def _bulk(self, pictures: list[Picture]) -> Change | None:
        add, remove = self.dice.sample(TAGS, 2)
        after = {}
        for picture in pictures:
            kept = [each for each in picture.state.tags if each != remove]
            after[picture] = picture.state._replace(tags=tuple(dict.fromkeys([*kept, add])))
        body = {"public_ids": [e.public_id for e in pictures], "add": [add], "remove": [remove]}
        change = Change("bulk", after, lambda: self._ask("POST", f"{self._images}/tags", body))
        return change if len(pictures) > 1 and change.before != after else None

    async def _make(self, change: Change) -> None:
        """Ask for the change, and note what comes of it."""
        for picture in change.after:
            picture.is_clear, picture.was_touched = False, True
        counts = self.counts[change.kind]
        counts["asked"] += 1
        try:
            answer = await change.send()
        except httpx.TransportError as error:
            if "service" not in (self.killed or ""):
                self.faults.append(f"{change.kind}: {error!r} from a service that was not killed")
            answer = None
        status = None if answer is None else answer.status_code
        if status == codes.UNPROCESSABLE_ENTITY and "decoders" in (self.killed or ""):
            counts["refused"] += 1
        elif answer is not None and status in change.expected:
            counts["answered"] += 1
            self._note(change, answer)
        else:
            if status is not None and not (status == 503 and "PostgreSQL" in (self.killed or "")):  # noqa: PLR2004
                self.faults.append(f"{change.kind}: {status} {answer and answer.text}")
            counts["unanswered"] += 1
            self.unanswered.append(change)
            return
        for picture in change.after:
            picture.is_clear = True

    def _note(self, change: Change, answer: httpx.Response) -> None:
        told = {} if answer.status_code == codes.NO_CONTENT else answer.json()
        for picture, state in change.after.items():
            picture.state = state
            if "infos" in told:
                picture.public_id = picture.public_id or told["public_id"]
                if (told["public_id"], State.of(told)) != (picture.public_id, state):
                    self.faults.append(f"{change.kind}: answered {State.of(told)}, not {state}")
        changed = sum(change.before[each] != state for each, state in change.after.items())
        if change.kind == "bulk" and told["images"] != changed:
            self.faults.append(f"bulk: {told['images']} images changed, not {changed}")

    _images = f"/api/v1/albums/{ALBUM}/images"

    async def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.http.request(method, path, **({} if body is None else {"json": body}))

    async def _send(self, picture: Picture, tags: Iterable[str]) -> httpx.Response:
        fields = {"tags": list(tags), **({"public_id": picture.public_id} if picture.public_id else {})}
        files = {"file": ("a.jpg", picture.content())}
        return await self.http.post(self._images, data=fields, files=files)

    async def _send_twice(self, picture: Picture, tags: Iterable[str]) -> httpx.Response:
        """The same picture at the same time: one becomes the image, the other finds it."""
        both = (self._send(picture, tags), self._send(picture, tags))
        answers = await asyncio.gather(*both, return_exceptions=True)
        good = [answer for answer in answers if isinstance(answer, httpx.Response)]
        if len(good) == len(both) and good[0].is_success and good[1].is_success:
            ids = {answer.json()["public_id"] for answer in good}
            if len(ids) > 1 or {answer.status_code for answer in good} != {codes.OK, codes.CREATED}:
                self.faults.append(f"upload twice: {[a.status_code for a in good]}, ids {ids}")
        for answer in answers:
            if isinstance(answer, BaseException) and not good:
                raise answer
        return min(good, key=lambda answer: answer.status_code)
