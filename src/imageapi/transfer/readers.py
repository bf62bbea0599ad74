"""The parts of a file, read ahead by processes of their own, and answered in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import chain, islice

from imageapi.database.copy_format import CopyLines
from imageapi.transfer.parts import LARGEST_PART_BYTES, joined
from imageapi.transfer.record_reader import InvalidPart, Reader
from imageapi.workers.process import WorkerDied, WorkerProcess, count_cores

MOST_READERS = 4
"""More read faster than PostgreSQL writes."""

PARTS_AHEAD = 32
"""Read while PostgreSQL writes what was read before."""

_READER = "imageapi.transfer.record_reader"


class ReaderDied(Exception):
    """A process that read records ended: killed, perhaps for want of memory."""


class Readers:
    """As many processes as there are cores, started when there is more than one part to read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._count = min(count_cores(), MOST_READERS)
        self._turns = asyncio.Semaphore(self._count)
        self._children: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._tasks: set[asyncio.Task[CopyLines]] = set()

    async def read(self, parts: Iterable[bytes]) -> AsyncGenerator[CopyLines]:
        """The lines of each part, some perhaps as one; raises InvalidPart, ReaderDied."""
        parts = iter(parts)
        few = list(islice(parts, 2))
        if len(few) == 1:
            yield self._reader.read(few[0])
            return
        ahead = _Ahead(self, chain(few, parts))
        while ahead:
            yield await ahead.next()

    async def close(self) -> None:
        """End the processes, also those at work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            child.kill()
            await child.end()

    def answer(self, part: bytes) -> asyncio.Task[CopyLines]:
        """Begin to read the part; the task raises InvalidPart, ReaderDied."""
        task = asyncio.create_task(self._answer(part))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may ask
        return task

    async def _answer(self, part: bytes) -> CopyLines:
        async with self._turns:
            child = self._idle.pop() if self._idle else await self._started()
            try:
                answer, text = await child.ask({}, part)
            except WorkerDied:
                raise ReaderDied from None
            self._idle.append(child)
        if "unfit" in answer:
            raise InvalidPart(answer["index"], answer["unfit"], is_broken=answer["is_broken"])
        return CopyLines(answer["count"], text)

    async def _started(self) -> WorkerProcess:
        child = await WorkerProcess.start(_READER, *self._reader.arguments)
        self._children.append(child)
        return child


class _Ahead:
    """Parts that are being read, and those that follow them."""

    def __init__(self, readers: Readers, parts: Iterator[bytes]) -> None:
        self._readers = readers
        self._parts = parts
        self._under_way: deque[tuple[bytes, asyncio.Task[CopyLines]]] = deque()
        self._fill()

    def __bool__(self) -> bool:
        return bool(self._under_way)

    async def next(self) -> CopyLines:
        """The lines of the next part, or of that and what had to be joined to it."""
        part, task = self._under_way.popleft()
        self._fill()
        try:
            return await task
        except InvalidPart as unfit:
            if not unfit.is_broken or not self:
                raise
        while True:
            # Twice as long each time, so that all the trying takes no more than the last.
            enough = min(2 * len(part), LARGEST_PART_BYTES + 1)
            while self and len(part) < enough:
                part = joined(part, self._drop())
            try:
                return await self._readers.answer(part)
            except InvalidPart as unfit:
                if not unfit.is_broken or not self or len(part) > LARGEST_PART_BYTES:
                    raise

    def _drop(self) -> bytes:
        """The next part; its own answer is of no use."""
        part, _ = self._under_way.popleft()
        self._fill()
        return part

    def _fill(self) -> None:
        for part in islice(self._parts, max(0, PARTS_AHEAD - len(self._under_way))):
            self._under_way.append((part, self._readers.answer(part)))
