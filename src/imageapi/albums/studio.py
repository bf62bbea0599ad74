"""Where pictures are kept, and what looks at them: opened once, used by whoever needs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from imageapi.albums.rendering import Rendering
from imageapi.children.child import cores
from imageapi.database.engine import Database
from imageapi.pictures.deadlines import StoreDeadlines
from imageapi.pictures.decoding import Decoders
from imageapi.pictures.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a picture may be: bytes of its file, and pixels."""

    most_bytes: int
    most_pixels: int


@dataclass(frozen=True, slots=True)
class Studio:
    """What is needed to take pictures in, and to show them."""

    database: Database
    store: Store
    decoders: Decoders
    rendering: Rendering
    limits: Limits


@asynccontextmanager
async def open_studio(
    database: Database,
    address: str | Path,
    rendering: Rendering,
    limits: Limits,
    deadlines: StoreDeadlines | None = None,
) -> AsyncIterator[Studio]:
    """A studio over the store of this address, with a decoder for each core; raises UnfitStore."""
    store = open_store(address, deadlines=deadlines)
    decoders = Decoders(cores(), limits.most_pixels)
    try:
        yield Studio(database, store, decoders, rendering, limits)
    finally:
        await decoders.close()
