"""Pictures of strangers, decoded by processes that may die of them.

libvips, libheif and their codecs are large and written in C; what breaks them breaks a child,
and the picture is unfit. `decoder` is what runs in the child; nothing of it is loaded here.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imageapi.imaging.errors import DecodeFailed, DecodersBusy, InvalidPicture
from imageapi.imaging.views import View
from imageapi.records.positions import is_position
from imageapi.workers.process import WorkerDied, WorkerProcess

MAX_JOBS = 200
"""After how many jobs a child is replaced, so that what a library leaks is given back."""

_MAX_SENTENCE_CHARACTERS = 200

_WORKER_MODULE = "imageapi.imaging.decode_worker"
_ENVIRONMENT = {
    "VIPS_CONCURRENCY": "1",
    "VIPS_DISC_THRESHOLD": "1000g",  # no temporary files: RLIMIT_FSIZE forbids them
    "MALLOC_ARENA_MAX": "2",
}
_MALFORMED = (KeyError, TypeError, ValueError)
_CANNOT = "The picture cannot be decoded."
_TOO_LONG = "The picture takes too long to decode."


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture is: pixels upright, what the camera wrote, and a JPEG of the view."""

    format: str
    width: int
    height: int
    exifs: dict[str, object]
    position: list[float] | None
    mini: bytes


class DecodePool:
    """At most `count` children at work, started when first needed and kept.

    A picture of more than `max_pixels` is unfit, as is one that takes longer than `seconds`. So
    long whoever comes waits for a turn, too, and is then told DecodersBusy.
    """

    def __init__(self, count: int, max_pixels: int, seconds: float = 30.0) -> None:
        self._count = count
        self._turns = asyncio.Semaphore(count)
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._idle: list[WorkerProcess] = []
        self._children: set[WorkerProcess] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    async def inspect(self, path: Path, format_: str, view: View) -> PictureFacts:
        """What the picture is, with a JPEG of the view as proof that it can be decoded.

        Raises InvalidPicture, DecodeFailed and DecodersBusy.
        """
        answer, mini = await self._asked(path, format_, view, inspect=True)
        try:
            return _parse_facts(answer, format_, self._max_pixels, mini)
        except _MALFORMED:
            raise InvalidPicture(_CANNOT) from None

    async def render(self, path: Path, format_: str, view: View) -> bytes:
        """A JPEG of the view in sRGB, without metadata.

        Raises what `inspect` does.
        """
        return (await self._asked(path, format_, view, inspect=False))[1]

    async def close(self) -> None:
        """End all children, also those at work. Returns when they are gone."""
        self._closed = True
        while self._idle:
            self._retire(self._idle.pop())
        for child in self._children:
            child.kill()
        for _ in range(self._count):  # whoever waits for a child, or starts one, retires it
            await self._turns.acquire()
        for _ in range(self._count):
            self._turns.release()
        while self._endings:
            await asyncio.wait(self._endings)

    async def _asked(
        self, path: Path, format_: str, view: View, *, inspect: bool
    ) -> tuple[dict[str, Any], bytes]:
        job = self._job(path, format_, view, inspect=inspect)
        async with self._turn():
            try:
                async with asyncio.timeout(self._seconds):
                    answer, blob = await self._answered(job)
            except TimeoutError:
                raise DecodeFailed(_TOO_LONG) from None
            except OSError as error:  # no more processes, or no more files, for now
                raise DecodersBusy from error
        if "errno" in answer:
            raise DecodersBusy
        if isinstance(sentence := answer.get("unfit"), str):
            raise InvalidPicture(sentence[:_MAX_SENTENCE_CHARACTERS])
        if not blob.startswith(b"\xff\xd8\xff"):
            raise InvalidPicture(_CANNOT)
        return answer, blob

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise DecodersBusy from None
        try:
            yield
        finally:
            self._turns.release()

    def _job(self, path: Path, format_: str, view: View, *, inspect: bool) -> dict[str, Any]:
        return {
            "path": os.fspath(path.absolute()),
            "format": format_,
            "view": asdict(view),
            "inspect": inspect,
            "max_pixels": self._max_pixels,
            "seconds": self._seconds + 1,  # should nobody be left to kill it
        }

    async def _answered(self, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer of a child at rest, or of a new one, also where the first died of the job."""
        self._check_open()
        if self._idle:
            with suppress(WorkerDied):
                return await self._answered_by(self._idle.pop(), job)
        try:
            return await self._answered_by(await self._started(), job)
        except WorkerDied:
            self._check_open()
            raise DecodeFailed(_CANNOT) from None

    async def _answered_by(
        self, child: WorkerProcess, job: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        whole = False
        try:
            answer = await child.ask(job)
            whole = True
            return answer
        finally:  # also when cancelled: a child that still works answers nobody else
            if whole and child.jobs < MAX_JOBS and not self._closed:
                self._idle.append(child)
            else:
                self._retire(child)

    async def _started(self) -> WorkerProcess:
        self._check_open()
        child = await WorkerProcess.start(_WORKER_MODULE, environment=_ENVIRONMENT)
        self._children.add(child)
        if self._closed:
            self._retire(child)
        self._check_open()
        return child

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the decoders are closed")

    def _retire(self, child: WorkerProcess) -> None:
        """Kill the child now; `close` waits for its end."""
        child.kill()
        ending = asyncio.create_task(child.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        ending.add_done_callback(lambda _: self._children.discard(child))


def _parse_facts(
    answer: dict[str, Any], format_: str, max_pixels: int, mini: bytes
) -> PictureFacts:
    """What the child says of the picture; raise one of _MALFORMED where it cannot be."""
    width, height, exifs, position = (
        answer[name] for name in ("width", "height", "exifs", "position")
    )
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(exifs, dict)):
        raise TypeError("not what was asked for")
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ValueError("no such size")
    if isinstance(position, str):
        raise TypeError("no position")
    if position is not None:
        latitude, longitude = (float(each) for each in position)
        if not is_position(latitude, longitude):
            raise ValueError("no place on Earth")
        position = [latitude, longitude]
    return PictureFacts(format_, width, height, exifs, position, mini)
