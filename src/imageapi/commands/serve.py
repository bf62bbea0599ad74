"""`imageapi serve`: upgrade the database, then run the service until it is stopped."""

import asyncio
import sys
import time
from datetime import timedelta

import typer

from imageapi.albums.geoip import GeoipDatabase
from imageapi.commands.migrate import upgrade
from imageapi.commands.token import create_tokens
from imageapi.database.errors import DatabaseUnavailable
from imageapi.logging import configure_logs
from imageapi.resources import hide_settings_in_logs, run_database_server
from imageapi.server import APPLICATION, PROTOCOL, serve
from imageapi.settings import Settings, load_settings
from imageapi.storage.store import open_store

#: How long to wait for a database that does not answer yet.
DATABASE_WAIT_SECONDS = 30


def run(
    host: str,
    port: int,
    workers: int,
    show_curl: str | None,
    *,
    application: str = APPLICATION,
    protocol: str = PROTOCOL,
) -> None:
    """Serve until SIGTERM or SIGINT, and print the address at the start.

    Also print a command that lists the album ``show_curl``. Settings are checked first: raises
    InvalidSecret, InvalidGeoipDatabase, InvalidStore. Tests pass an application and a protocol with
    shorter deadlines.
    """
    settings = load_settings()
    hide_settings_in_logs(settings)
    tokens = create_tokens(settings)
    GeoipDatabase(settings.geoip_database).close()
    open_store(settings.store_address)
    configure_logs()

    def listening(port: int) -> None:
        address = f"http://{_get_reachable_host(host)}:{port}"
        typer.echo(f"Image API listens on {address}, its docs are at {address}/docs")
        if show_curl is not None:
            token = tokens.issue([show_curl], ["image_list"], timedelta(hours=4))
            typer.echo("The untagged images of an album, with a token good for four hours:\n")
            typer.echo(
                f"curl -H 'Authorization: Token token=\"{token}\"' "
                f"{address}/api/v1/albums/{show_curl}/images/untag\n"
            )
        sys.stdout.flush()

    with run_database_server(settings.database_address, settings.data_dir):
        asyncio.run(_upgrade_when_available(settings))
        serve(host, port, workers, listening, application=application, protocol=protocol)


async def _upgrade_when_available(settings: Settings) -> None:
    deadline = time.monotonic() + DATABASE_WAIT_SECONDS
    while True:
        try:
            await upgrade(settings)
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return


def _get_reachable_host(host: str) -> str:
    """Return the host for a URL; for a socket that listens on all addresses, this machine's."""
    local_hosts = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104
    host = local_hosts.get(host, host)
    return f"[{host}]" if ":" in host else host
