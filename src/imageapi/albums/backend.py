"""Where pictures are kept, and what looks at them: opened once, used by whoever needs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.imaging.decode_pool import DecodePool
from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.store import Store, open_store
from imageapi.workers.process import count_cores


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How large a picture may be: bytes of its file, and pixels."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Backend:
    """What is needed to take pictures in, and to show them."""

    database: Database
    store: Store
    decoders: DecodePool
    serializer: RecordSerializer
    limits: PictureLimits


@asynccontextmanager
async def open_backend(
    database: Database,
    address: str | Path,
    serializer: RecordSerializer,
    limits: PictureLimits,
    deadlines: StoreDeadlines | None = None,
) -> AsyncIterator[Backend]:
    """Open the store and one decoder for each core; raises InvalidStore."""
    store = open_store(address, deadlines=deadlines)
    decoders = DecodePool(count_cores(), limits.max_pixels)
    try:
        yield Backend(database, store, decoders, serializer, limits)
    finally:
        await decoders.close()
