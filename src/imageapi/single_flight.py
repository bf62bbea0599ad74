"""Computes a value once for all callers that ask for it at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Runs at most one task for a key at a time. Callers with the same key share it.

    It is no cache: once the task is done, the next caller starts a new one.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def run(self, key: K, compute: Callable[[], Coroutine[None, None, T]]) -> T:
        """Return the result of the key's task, or raise its error.

        If no task runs for the key, start one with ``compute``. Cancelling a caller does not cancel
        the task, because other callers may still wait for it.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(compute())
            task.add_done_callback(lambda task: self._remove(key, task))
        return await asyncio.shield(task)

    def clear(self) -> None:
        """Let the next caller of each key start a new task.

        Tasks that run now still finish, for the callers that wait for them already.
        """
        self._tasks.clear()

    async def wait_until_idle(self) -> None:
        """Wait until the tasks that run now are done. Their errors are raised to their callers."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _remove(self, key: K, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            # Retrieve the exception, or asyncio logs that it "was never retrieved" when all callers
            # were cancelled.
            task.exception()
