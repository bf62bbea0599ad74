"""What the settings open: the database, the store of pictures, the tokens, the caches.

Each part is opened by one function here. The service opens all parts together
(`open_resources`); a command opens only the part that it needs (`open_upgraded_database`,
`open_upgraded_backend`).

The routes read the parts from `Resources`, so `imageapi.api` imports this module. It never gets
the settings: an import contract in pyproject.toml checks that.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imageapi.albums.backend import Backend, PictureLimits
from imageapi.albums.geoip import GeoipDatabase
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.albums.renditions import Renditions
from imageapi.auth.issuer import Issuer
from imageapi.auth.secret_file import load_secret
from imageapi.auth.tokens import Rules, Tokens
from imageapi.background import run_in_background
from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.database.engine import Database
from imageapi.database.events import AlbumEvents
from imageapi.database.images import Images
from imageapi.database.rate_limits import Rate, RateLimiter, sweep_forever
from imageapi.database.untagged_cache import UntaggedCache
from imageapi.deadlines import Deadlines
from imageapi.embedded_postgres.client import run_embedded_server
from imageapi.http.concurrency import ConcurrencyLimiter
from imageapi.imaging.decode_pool import DecodePool
from imageapi.log_redaction import hide_environment_in_logs, hide_in_logs
from imageapi.setting_values import AssetsCache, RateSetting
from imageapi.settings import Settings
from imageapi.single_flight import SingleFlight
from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.store import open_store
from imageapi.transfer.upgrade import upgrade_database
from imageapi.workers.process import count_cores


@dataclass(frozen=True, slots=True)
class Resources:
    """All that the service has opened, for as long as it runs.

    `create_app` puts it into ``app.state.resources``; routes get it as `ResourcesDep`. A rate
    limiter is None where no rate is set.
    """

    database: Database
    images: Images
    events: AlbumEvents
    serializer: RecordSerializer
    backend: Backend
    renditions: Renditions
    untagged_cache: UntaggedCache
    tokens: Tokens
    geoip: GeoipDatabase
    user_rate_limiter: RateLimiter | None
    address_rate_limiter: RateLimiter | None
    upload_limiter: ConcurrencyLimiter
    readiness_checks: SingleFlight[str, None]
    assets_cache: AssetsCache


# What the service and the commands open


def hide_settings_in_logs(settings: Settings) -> None:
    """Let no log line of this process show a secret or an address of the settings."""
    urls = (settings.database_address, settings.token_jwks_url, settings.store_url)
    secrets = (settings.configured_secret, *settings.accepted_secrets)
    hide_in_logs(filter(None, secrets), filter(None, urls))
    hide_environment_in_logs(os.environ)


def run_database_server(url: str | None, data_dir: Path) -> AbstractContextManager[str]:
    """Yield the address of the database: the URL, else that of the embedded server.

    The embedded server runs in ``data_dir`` at least until the block ends; raises
    DataDirectoryError if it cannot. A URL is not connected to here.
    """
    return run_embedded_server(data_dir) if url is None else nullcontext(url)


@asynccontextmanager
async def open_database(
    settings: Settings, deadlines: DatabaseDeadlines | None = None
) -> AsyncIterator[Database]:
    """Open the database, and close it when the block ends.

    Without deadlines a statement may take as long as it needs: commands change whole albums.
    Raises DataDirectoryError. It connects with the first statement.
    """
    with run_database_server(settings.database_address, settings.data_dir) as dsn:
        database = Database(
            dsn,
            has_deadlines=deadlines is not None,
            is_pooled=settings.database_pooler,
            deadlines=deadlines,
        )
        try:
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def open_backend(
    settings: Settings, database: Database, deadlines: StoreDeadlines | None = None
) -> AsyncIterator[Backend]:
    """Open the store of pictures, and one decoder for each core; raises InvalidStore."""
    store = open_store(settings.store_address, deadlines=deadlines)
    limits = PictureLimits(settings.limit_bytes, settings.limit_pixels)
    decoders = DecodePool(count_cores(), limits.max_pixels)
    try:
        yield Backend(database, store, decoders, create_serializer(settings), limits)
    finally:
        await decoders.close()


def create_serializer(settings: Settings) -> RecordSerializer:
    """Return the serializer of records for this time zone and these sizes of renditions."""
    return RecordSerializer(settings.time_zone, settings.sizes)


# What the service alone opens


@asynccontextmanager
async def open_resources(settings: Settings, deadlines: Deadlines) -> AsyncIterator[Resources]:
    """Open everything that the service needs, and close it when the block ends.

    Raises DataDirectoryError, InvalidSecret, InvalidStore, InvalidGeoipDatabase. Neither the
    database nor a bucket is connected to here, so the service starts without them.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, deadlines.database))
        tokens = stack.enter_context(_open_tokens(settings))
        backend = await stack.enter_async_context(open_backend(settings, database, deadlines.store))
        geoip = stack.enter_context(closing(GeoipDatabase(settings.geoip_database)))
        stack.enter_context(run_in_background(partial(sweep_forever, database)))
        untagged_cache = UntaggedCache(database)
        stack.push_async_callback(untagged_cache.close)
        renditions = Renditions(backend, deadlines.rendition_seconds)
        stack.push_async_callback(renditions.close)
        readiness_checks: SingleFlight[str, None] = SingleFlight()
        stack.push_async_callback(readiness_checks.wait_until_idle)
        yield Resources(
            database=database,
            images=Images(database),
            events=AlbumEvents(database),
            serializer=backend.serializer,
            backend=backend,
            renditions=renditions,
            untagged_cache=untagged_cache,
            tokens=tokens,
            geoip=geoip,
            user_rate_limiter=_create_rate_limiter(database, "user", settings.rate_limit),
            address_rate_limiter=_create_rate_limiter(
                database, "address", settings.address_rate_limit
            ),
            upload_limiter=ConcurrencyLimiter(settings.max_uploads, "uploads"),
            readiness_checks=readiness_checks,
            assets_cache=settings.assets_cache,
        )


@contextmanager
def _open_tokens(settings: Settings) -> Iterator[Tokens]:
    """Yield the verifier of tokens; until the block ends, refresh the issuer's keys."""
    secret = load_secret(settings.configured_secret, settings.secret_file)
    secrets = (secret, *settings.accepted_secrets)
    hide_in_logs(secrets)
    rules = Rules(settings.token_audience, settings.token_issuer, settings.token_leeway_seconds)
    if settings.token_jwks_url is None:
        yield Tokens(*secrets, rules=rules)
        return
    issuer = Issuer(settings.token_jwks_url)
    with run_in_background(issuer.keep_fresh):
        yield Tokens(*secrets, issuer=issuer, rules=rules)


def _create_rate_limiter(
    database: Database, kind: str, rate: RateSetting | None
) -> RateLimiter | None:
    return None if rate is None else RateLimiter(database, kind, Rate(*rate))


# What commands open


@asynccontextmanager
async def open_upgraded_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database and bring its schema and records up to date first."""
    async with open_database(settings) as database:
        await upgrade_database(database, create_serializer(settings))
        yield database


@asynccontextmanager
async def open_upgraded_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Open the upgraded database, the store and the decoders."""
    async with (
        open_upgraded_database(settings) as database,
        open_backend(settings, database) as backend,
    ):
        yield backend
