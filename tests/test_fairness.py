"""One tenant who asks for much, or whose album is held up, does not hold up another."""

import asyncio
import gc
import uuid
from pathlib import Path

import asyncpg
import httpx
import pytest

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.database.engine import WRITE_CONNECTIONS
from imageapi.database.turns import Turns
from imageapi.fair_slots import FairSlots
from imageapi.imaging.decode_pool import DecodePool
from imageapi.imaging.views import View
from pictures import bomb, jpeg

MAY = ("image_list", "image_tag")


@pytest.mark.inside
async def test_album_that_is_held_up_leaves_connections_to_others(
    client: httpx.AsyncClient, through: dict[str, str], add: AddRecords, may: TokenFor
) -> None:
    held, other = f"held-{uuid.uuid4()}", f"other-{uuid.uuid4()}"
    records = {album: record(album) for album in (held, other)}
    await add(records.values())

    async def tag(album: str, name: str) -> int:
        path = f"/api/v1/albums/{album}/images/{records[album]['public_id']}/tags/{name}"
        return (await client.put(path, headers=may(album, *MAY))).status_code

    administrator = await asyncpg.connect(through["database_url"])
    try:
        async with administrator.transaction():
            await administrator.execute("SELECT FROM albums WHERE album_id = $1 FOR UPDATE", held)
            waiting = [
                asyncio.create_task(tag(held, f"tag{number}"))
                for number in range(3 * WRITE_CONNECTIONS)
            ]
            await asyncio.sleep(0.2)  # until they wait
            assert await asyncio.wait_for(tag(other, "quick"), 4) == 200
            assert not any(task.done() for task in waiting)
    finally:
        await administrator.close()
    assert set(await asyncio.gather(*waiting)) == {200}


async def test_turns_follow_the_order_of_asking() -> None:
    turns, order = Turns(), []

    async def take(number: int) -> None:
        async with turns.take("a", None):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number) for number in range(5)))
    assert order == list(range(5))


async def test_turn_that_does_not_come_in_time_is_given_up() -> None:
    turns = Turns()
    async with turns.take("a", None), turns.take("b", 0.01):
        with pytest.raises(TimeoutError):
            async with turns.take("a", 0.01):
                pass
    async with turns.take("a", 0.01):
        pass


async def test_turns_remember_nothing() -> None:
    turns = Turns()
    for number in range(100):
        async with turns.take(str(number), 1):
            pass
    gc.collect()
    assert len(turns._locks) == 0


class Work:
    """Tasks that hold slots until they are told to end."""

    def __init__(self, slots: FairSlots) -> None:
        self._slots = slots
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: The names of those that hold a slot, in the order in which they got it.
        self.running: list[str] = []

    async def begin(self, *names: str) -> None:
        """Ask for a slot for each name; its first letter is the tenant."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._run(name))
            await settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
            await settle()

    async def _run(self, name: str) -> None:
        async with self._slots.hold(name[0]):
            self.running.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_free_slot_goes_to_the_tenant_that_holds_the_fewest() -> None:
    work = Work(FairSlots(2))
    await work.begin("a1", "a2", "a3", "a4", "b1", "c1")
    assert work.running == ["a1", "a2"]
    await work.end("a1")
    assert work.running == ["a2", "b1"]
    await work.end("a2")
    assert work.running == ["b1", "c1"]
    await work.end("b1", "c1")
    assert work.running == ["a3", "a4"]


async def test_tenants_with_equal_shares_take_turns() -> None:
    work = Work(FairSlots(1))
    await work.begin("a1", "a2", "b1", "b2", "c1")
    order = []
    while work.running:
        order += work.running
        await work.end(*work.running)
    assert order == ["a1", "b1", "c1", "a2", "b2"]


async def test_extra_slot_is_for_a_tenant_that_holds_none() -> None:
    work = Work(FairSlots(2, extra=1))
    await work.begin("a1", "a2", "a3")
    assert work.running == ["a1", "a2"]
    await work.begin("b1", "b2", "c1")
    assert work.running == ["a1", "a2", "b1"]
    await work.end("b1")
    assert work.running == ["a1", "a2", "c1"]


async def test_cancelled_waits_and_work_leave_their_slots() -> None:
    slots = FairSlots(1)
    work = Work(slots)
    await work.begin("a1", "a2", "b1")
    await work.cancel("a2", "a1")
    assert work.running == ["b1"]
    idle = asyncio.create_task(slots.wait_until_idle())
    await settle()
    assert not idle.done()
    await work.cancel("b1")
    await asyncio.wait_for(idle, 1)
    await work.begin("a3")
    assert work.running == ["a3"]
    await work.end("a3")


async def test_task_that_is_cancelled_as_it_gets_its_slot_passes_it_on() -> None:
    slots = FairSlots(1)
    work = Work(slots)
    await work.begin("a1", "a2", "a3")
    work._ends["a1"].set()
    await asyncio.sleep(0)  # a1 ends and gives its slot to a2, which has not run since
    work._tasks["a2"].cancel()
    await settle()
    assert work.running == ["a3"]
    await work.end("a3")
    await asyncio.wait_for(slots.wait_until_idle(), 1)


async def test_wait_that_is_cancelled_as_a_slot_becomes_free_is_passed_over() -> None:
    slots = FairSlots(1)
    work = Work(slots)
    await work.begin("a1", "a2", "a3")
    work._ends["a1"].set()
    work._tasks["a2"].cancel()
    await settle()
    assert work.running == ["a3"]
    await work.end("a3")
    await asyncio.wait_for(slots.wait_until_idle(), 1)
    assert not slots._waiting


async def test_small_picture_of_one_album_does_not_wait_for_large_ones_of_another(
    tmp_path: Path,
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(bomb())
    small.write_bytes(jpeg())
    decoders = DecodePool(1, max_pixels=10**9)

    async def show(tenant: str) -> bytes:
        return await decoders.render(small, "jpg", View(120), tenant=tenant)

    try:
        await asyncio.gather(show("slow"), show("quick"))  # both workers have started
        slow = [
            asyncio.create_task(decoders.inspect(large, "png", View(5000), tenant="slow"))
            for _ in range(4)
        ]
        await settle()
        await show("quick")
        assert not slow[-1].done()
    finally:
        await decoders.close()
    await asyncio.gather(*slow, return_exceptions=True)
