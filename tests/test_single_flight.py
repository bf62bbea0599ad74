"""One computation for all callers that need the same value at the same time."""

import asyncio
import gc
from typing import Any

import pytest

from imageapi.single_flight import SingleFlight


class Computation:
    """Counts how often it was started; its tasks end when `finish` is called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error
        self._finished = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        await self._finished.wait()
        if self._error is not None:
            raise self._error
        return number

    def finish(self) -> None:
        self._finished.set()


async def started(*callers: Any) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.create_task(caller) for caller in callers]
    await asyncio.sleep(0.01)
    return tasks


async def test_callers_with_the_same_key_share_one_task() -> None:
    flight, compute = SingleFlight[str, int](), Computation()
    callers = await started(*(flight.run(key, compute) for key in ("a", "b", "a", "a")))
    compute.finish()
    assert await asyncio.gather(*callers) == [1, 2, 1, 1]
    assert await flight.run("a", compute) == 3  # it is no cache


async def test_each_caller_gets_the_error_of_the_task() -> None:
    flight, compute = SingleFlight[str, int](), Computation(ValueError("wrong"))
    callers = await started(flight.run("a", compute), flight.run("a", compute))
    compute.finish()
    for caller in callers:
        with pytest.raises(ValueError, match="wrong"):
            await caller
    assert compute.count == 1


async def test_cancelling_one_caller_leaves_the_task_to_the_others() -> None:
    flight, compute = SingleFlight[str, int](), Computation()
    first, second = await started(flight.run("a", compute), flight.run("a", compute))
    first.cancel()
    await asyncio.wait([first])
    compute.finish()
    assert first.cancelled()
    assert (await second, compute.count) == (1, 1)


async def test_error_that_no_caller_waits_for_is_not_logged() -> None:
    logged: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context))
    try:
        flight, compute = SingleFlight[str, int](), Computation(ValueError("wrong"))
        (caller,) = await started(flight.run("a", compute))
        caller.cancel()
        await asyncio.wait([caller])
        compute.finish()
        await asyncio.sleep(0.01)
        del caller, flight
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert logged == []


async def test_after_clear_the_next_caller_starts_a_new_task() -> None:
    flight, compute = SingleFlight[str, int](), Computation()
    (before,) = await started(flight.run("a", compute))
    flight.clear()
    (after,) = await started(flight.run("a", compute))
    compute.finish()
    assert (await before, await after) == (1, 2)


async def test_wait_until_idle_returns_when_tasks_are_done() -> None:
    flight, compute = SingleFlight[str, int](), Computation(ValueError("wrong"))
    (caller,) = await started(flight.run("a", compute))
    (idle,) = await started(flight.wait_until_idle())
    assert not idle.done()
    compute.finish()
    await idle
    with pytest.raises(ValueError, match="wrong"):
        await caller
