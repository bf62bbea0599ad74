"""Types of the fixtures that are functions."""

from collections.abc import Iterable
from typing import Any, Protocol


class TokenFor(Protocol):
    """What the fixture ``may`` gives."""

    def __call__(self, album_id: str, *abilities: str) -> dict[str, str]:
        """Return the Authorization header of a token that grants the abilities in the album."""
        ...


class AddRecords(Protocol):
    """What the fixture ``add`` gives."""

    async def __call__(self, records: Iterable[dict[str, Any]]) -> list[str]:
        """Add the records to the database, as an import does, and return their texts."""
        ...
