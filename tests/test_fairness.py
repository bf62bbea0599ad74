"""One tenant who asks for much, or whose album is held up, does not hold up another."""

import asyncio
import gc
import uuid

import asyncpg
import httpx
import pytest

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.database.engine import WRITE_CONNECTIONS
from imageapi.database.turns import Turns

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
