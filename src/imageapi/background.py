"""Work that runs beside the requests, such as fetching an issuer's keys."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Never

import structlog

from imageapi.logging import locate_error

#: How long to wait before work that failed is started again.
RESTART_DELAY_SECONDS = 10

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@contextmanager
def run_in_background(work: Callable[[], Coroutine[Any, Any, Never]]) -> Iterator[None]:
    """Run ``work`` in a task until the block ends.

    If it raises, log the error and start it again after `RESTART_DELAY_SECONDS`. No caller awaits
    the task, so an error that ended it would stay unnoticed.
    """
    task = asyncio.create_task(_run_forever(work))
    try:
        yield
    finally:
        task.cancel()


async def _run_forever(work: Callable[[], Coroutine[Any, Any, Never]]) -> Never:
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - logged, and the work is started again
            _log_error(error)
        await asyncio.sleep(RESTART_DELAY_SECONDS)


def _log_error(error: Exception) -> None:
    with suppress(Exception):  # the log itself may fail, on a full disk for example
        log.error("background work failed", error=type(error).__name__, at=locate_error(error))
