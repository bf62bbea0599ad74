"""A limit on how many of something run at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from imageapi.http.errors import Overloaded


class ConcurrencyLimiter:
    """Lets at most ``max_running`` of something run at once, and refuses any more.

    ``what`` names them in the plural, for the client.
    """

    def __init__(self, max_running: int, what: str) -> None:
        self._max_running = max_running
        self._running = 0
        self._what = what

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Take a slot until the block ends; raises Overloaded where none is free."""
        if self._running >= self._max_running:
            raise Overloaded(f"Too many {self._what} are under way.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
