"""Lets the tasks of this process take turns, each with what it holds for a key of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """Gives each key to one task at a time, in the order in which they ask."""

    def __init__(self) -> None:
        # A lock is kept for as long as a task holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, key: str, seconds: float | None) -> AsyncIterator[None]:
        """Hold the key during the block.

        Raises TimeoutError where it is not free within ``seconds``; None means to wait for ever.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with asyncio.timeout(seconds):
            await lock.acquire()
        try:
            yield
        finally:
            lock.release()
