"""What several commands open: the database and the store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from imageapi.albums.backend import Backend, PictureLimits, open_backend
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.engine import Database
from imageapi.database.opening import open_database
from imageapi.settings import Settings
from imageapi.transfer.upgrade import upgrade_database


def create_serializer(settings: Settings) -> RecordSerializer:
    """Return what writes records as text."""
    return RecordSerializer(settings.time_zone, settings.sizes)


@asynccontextmanager
async def open_current_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, with the newest schema and all records rendered by it."""
    async with _open(settings) as database:
        await upgrade_database(database, create_serializer(settings))
        yield database


@asynccontextmanager
async def open_current_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Open the current database and the store."""
    limits = PictureLimits(settings.limit_bytes, settings.limit_pixels)
    serializer = create_serializer(settings)
    async with (
        open_current_database(settings) as database,
        open_backend(database, settings.store_address, serializer, limits) as backend,
    ):
        yield backend


async def migrate(settings: Settings) -> bool:
    """Bring the database to the newest schema; return whether that changed anything."""
    async with _open(settings) as database:
        return await upgrade_database(database, create_serializer(settings))


def _open(settings: Settings) -> AbstractAsyncContextManager[Database]:
    is_pooled = settings.database_pooler
    return open_database(settings.database_address, settings.data_dir, is_pooled=is_pooled)
