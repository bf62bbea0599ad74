"""Shares a number of slots between tenants, so that one with much work does not hold up another."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class FairSlots:
    """At most ``count`` tasks hold a slot at the same time.

    A free slot goes to the waiting tenant that holds the fewest, and of those with as many to the
    one that has not had one for the longest. Besides, there are ``extra`` slots for tenants that
    hold none, so that they need not wait until long work of others ends.
    """

    def __init__(self, count: int, extra: int = 0) -> None:
        self._count = count
        self._extra = extra
        self._held = Counter[str]()
        #: The tasks that wait, by tenant; empty for a tenant that only holds slots.
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        #: When the tenants that hold a slot or wait got their last one, as a count of all given.
        self._last_given: dict[str, int] = {}
        self._given_count = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot during the block. Put it in a timeout to bound the wait."""
        await self._acquire(tenant)
        try:
            yield
        finally:
            self._release(tenant)

    async def wait_until_idle(self) -> None:
        """Wait until no task holds a slot, or waits for one."""
        await self._is_idle.wait()

    async def _acquire(self, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[tenant].append(turn)
        self._is_idle.clear()
        self._give_slots()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(tenant, turn)
            else:  # it got its slot in the same moment
                self._release(tenant)
            raise

    def _release(self, tenant: str) -> None:
        self._held[tenant] -= 1
        self._give_slots()
        self._forget_if_idle(tenant)

    def _remove(self, tenant: str, turn: asyncio.Future[None]) -> None:
        with suppress(ValueError):  # it may have been passed over already
            self._waiting[tenant].remove(turn)
        self._forget_if_idle(tenant)

    def _give_slots(self) -> None:
        """Give the free slots to those who wait."""
        while waiting := [tenant for tenant, turns in self._waiting.items() if turns]:
            tenant = min(
                waiting, key=lambda each: (self._held[each], self._last_given.get(each, 0))
            )
            limit = self._count if self._held[tenant] else self._count + self._extra
            if self._held.total() >= limit:
                return
            turn = self._waiting[tenant].popleft()
            if turn.cancelled():  # its task will know of it when it runs next
                continue
            turn.set_result(None)
            self._held[tenant] += 1
            self._given_count += 1
            self._last_given[tenant] = self._given_count

    def _forget_if_idle(self, tenant: str) -> None:
        if not self._held[tenant] and not self._waiting[tenant]:
            for of_tenant in (self._held, self._waiting, self._last_given):
                of_tenant.pop(tenant, None)
        if not self._waiting:
            self._is_idle.set()
