"""What several commands open: the database and the store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from imageapi.albums.rendering import Rendering
from imageapi.albums.studio import Limits, Studio, open_studio
from imageapi.database.engine import Database
from imageapi.database.opening import open_database
from imageapi.settings import Settings
from imageapi.transfer.migrating import bring_up_to_date


def create_rendering(settings: Settings) -> Rendering:
    """Return what writes records as text."""
    return Rendering(settings.time_zone, settings.sizes)


@asynccontextmanager
async def open_current_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, with the newest schema and all records rendered by it."""
    async with _open(settings) as database:
        await bring_up_to_date(database, create_rendering(settings))
        yield database


@asynccontextmanager
async def open_current_studio(settings: Settings) -> AsyncIterator[Studio]:
    """Open the current database and the store."""
    limits = Limits(settings.limit_bytes, settings.limit_pixels)
    rendering = create_rendering(settings)
    async with (
        open_current_database(settings) as database,
        open_studio(database, settings.store_address, rendering, limits) as studio,
    ):
        yield studio


async def migrate(settings: Settings) -> bool:
    """Bring the database to the newest schema; return whether that changed anything."""
    async with _open(settings) as database:
        return await bring_up_to_date(database, create_rendering(settings))


def _open(settings: Settings) -> AbstractAsyncContextManager[Database]:
    is_pooled = settings.database_pooler
    return open_database(settings.database_address, settings.data_dir, is_pooled=is_pooled)
