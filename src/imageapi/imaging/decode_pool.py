"""Decodes pictures from strangers in worker processes, so that they cannot harm this process.

libvips, libheif and their codecs are large and written in C. A picture that makes them crash ends
only a worker, and is refused. `decode_worker` is what runs in the worker; it is not imported here.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imageapi.fair_slots import FairSlots
from imageapi.imaging.errors import DecodeFailed, DecodersBusy, InvalidPicture, NotAPicture
from imageapi.imaging.views import View
from imageapi.records.positions import is_position
from imageapi.workers.process import WorkerDied, WorkerProcess

MAX_JOBS = 200
"""After so many jobs a worker is replaced, so that memory that a library leaks is freed."""

_MAX_SENTENCE_CHARACTERS = 200

_WORKER_MODULE = "imageapi.imaging.decode_worker"
_ENVIRONMENT = {
    "VIPS_CONCURRENCY": "1",
    "VIPS_DISC_THRESHOLD": "1000g",  # no temporary files: RLIMIT_FSIZE forbids them
    "MALLOC_ARENA_MAX": "2",
}
_JPEG_START = b"\xff\xd8\xff"
_MALFORMED = (KeyError, TypeError, ValueError)
_CANNOT_DECODE = "The picture cannot be decoded."
_TOO_LONG = "The picture takes too long to decode."


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What was read from a picture.

    ``width`` and ``height`` are pixels of the upright picture, ``position`` is latitude and
    longitude in degrees, ``mini`` is a JPEG of the requested view.
    """

    format: str
    width: int
    height: int
    exifs: dict[str, object]
    position: list[float] | None
    mini: bytes


class DecodePool:
    """Decodes in worker processes, which are started when needed and reused.

    There are at most ``count``, and one more for a tenant whose pictures would otherwise wait until
    large ones of others are done. A picture with more than ``max_pixels``, or one that takes longer
    than ``seconds``, is invalid. ``seconds`` is also how long a call waits for a free worker before
    it raises DecodersBusy.
    """

    def __init__(self, count: int, max_pixels: int, seconds: float = 30.0) -> None:
        self._slots = FairSlots(count, extra=1)
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._idle: list[WorkerProcess] = []
        #: All that are not yet closed, idle or not.
        self._workers: set[WorkerProcess] = set()
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def inspect(
        self, path: Path, format_: str, view: View, *, tenant: str = ""
    ) -> PictureFacts:
        """Return what the picture is, with a JPEG of the view as proof that it can be decoded.

        Tenants that wait for a free worker get one in turn. Raises NotAPicture for a raw format
        that looks like TIFF, InvalidPicture where the picture cannot be decoded within the limits,
        DecodeFailed where a new worker died of it or it took too long, and DecodersBusy where no
        worker was free in time, or the machine had no process or file for it.
        """
        job = self._build_job(path, format_, view, inspect=True)
        header, mini = await self._decode(job, tenant)
        try:
            return _parse_facts(header, format_, self._max_pixels, mini)
        except _MALFORMED:
            raise InvalidPicture(_CANNOT_DECODE) from None

    async def render(self, path: Path, format_: str, view: View, *, tenant: str = "") -> bytes:
        """Return a JPEG of the view in sRGB, without metadata.

        Raises what `inspect` raises.
        """
        return (await self._decode(self._build_job(path, format_, view, inspect=False), tenant))[1]

    async def close(self) -> None:
        """Kill all workers, also busy ones, and wait until they are gone."""
        self._is_closed = True
        while self._idle:
            self._retire(self._idle.pop())
        for worker in self._workers:
            worker.kill()
        # A call that is starting a worker or waits for one holds a slot. It sees that the pool is
        # closed, and retires its worker before it releases the slot.
        await self._slots.wait_until_idle()
        while self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    async def _decode(self, job: dict[str, Any], tenant: str) -> tuple[dict[str, Any], bytes]:
        """Return the header and the JPEG that a worker makes of the picture."""
        async with self._hold_slot(tenant):
            try:
                async with asyncio.timeout(self._seconds):
                    header, blob = await self._run_job(job)
            except TimeoutError:
                raise DecodeFailed(_TOO_LONG) from None
            except OSError as error:  # the machine has no more processes or files for now
                raise DecodersBusy from error
        if "errno" in header:  # the worker could not open the file
            raise DecodersBusy
        if "raw" in header:
            raise NotAPicture
        if isinstance(sentence := header.get("invalid"), str):
            raise InvalidPicture(sentence[:_MAX_SENTENCE_CHARACTERS])
        if not blob.startswith(_JPEG_START):
            raise InvalidPicture(_CANNOT_DECODE)
        return header, blob

    @asynccontextmanager
    async def _hold_slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot during the block. Raises DecodersBusy."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._seconds):
                    await stack.enter_async_context(self._slots.hold(tenant))
            except TimeoutError:
                raise DecodersBusy from None
            yield

    def _build_job(self, path: Path, format_: str, view: View, *, inspect: bool) -> dict[str, Any]:
        return {
            "path": os.fspath(path.absolute()),
            "format": format_,
            "view": asdict(view),
            "inspect": inspect,
            "max_pixels": self._max_pixels,
            "seconds": self._seconds + 1,  # the worker ends itself if this process is gone by then
        }

    async def _run_job(self, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the result of an idle worker, or of a new one. Raises DecodeFailed, OSError.

        If an idle worker dies, the job is run once more by a new one: the idle one may have been
        killed before, and only a new one that dies is probably the picture's fault.
        """
        self._require_open()
        if self._idle:
            with suppress(WorkerDied):
                return await self._run_on(self._idle.pop(), job)
        try:
            return await self._run_on(await self._start_worker(), job)
        except WorkerDied:
            self._require_open()
            raise DecodeFailed(_CANNOT_DECODE) from None

    async def _run_on(
        self, worker: WorkerProcess, job: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        has_result = False
        try:
            result = await worker.run(job)
            has_result = True
            return result
        finally:
            # A worker without a result, also after a cancellation, may send it to the next job.
            if has_result and worker.job_count < MAX_JOBS and not self._is_closed:
                self._idle.append(worker)
            else:
                self._retire(worker)

    async def _start_worker(self) -> WorkerProcess:
        self._require_open()
        worker = await WorkerProcess.start(_WORKER_MODULE, environment=_ENVIRONMENT)
        self._workers.add(worker)
        if self._is_closed:
            self._retire(worker)
        self._require_open()
        return worker

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the decoders are closed")

    def _retire(self, worker: WorkerProcess) -> None:
        """Kill the worker, and wait for its end in a task, which `close` waits for."""
        worker.kill()
        task = asyncio.create_task(worker.wait_closed())
        self._closing_tasks.add(task)
        task.add_done_callback(self._closing_tasks.discard)
        task.add_done_callback(lambda _: self._workers.discard(worker))


def _parse_facts(
    header: dict[str, Any], format_: str, max_pixels: int, mini: bytes
) -> PictureFacts:
    """Return the facts in a worker's result. Raises one of _MALFORMED where they cannot be true.

    A hostile picture may have taken over the worker, so what it says is checked.
    """
    width, height, exifs, position = (
        header[name] for name in ("width", "height", "exifs", "position")
    )
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(exifs, dict)):
        raise TypeError("a fact has another type")
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ValueError("no such size")
    if isinstance(position, str):
        raise TypeError("no position")
    if position is not None:
        latitude, longitude = (float(number) for number in position)
        if not is_position(latitude, longitude):
            raise ValueError("no place on Earth")
        position = [latitude, longitude]
    return PictureFacts(format_, width, height, exifs, position, mini)
