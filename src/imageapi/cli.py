"""The command line: each command a few lines over the rooms below.

Exit status 0 done, 1 refused, 2 used wrongly. What a command answers goes to standard output,
everything else to standard error.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Annotated, Any, cast
from uuid import UUID

import typer

from imageapi import __version__
from imageapi.albums.places import Places, UnfitPlaces
from imageapi.albums.purging import Purged
from imageapi.albums.purging import purge as empty_trash
from imageapi.albums.rendering import Rendering
from imageapi.albums.studio import Limits, Studio, open_studio
from imageapi.auth.errors import UnfitSecret
from imageapi.auth.secret import the_secret
from imageapi.auth.tokens import ABILITIES, Rules, Tokens
from imageapi.database.embedded.joining import DataDirectoryError
from imageapi.database.engine import Database
from imageapi.database.errors import DatabaseAway, DatabaseError
from imageapi.database.opening import database_server, open_database
from imageapi.database.transfers import Added
from imageapi.logs import configure_logs, place_of
from imageapi.pictures.errors import StoreError, UnfitStore
from imageapi.pictures.store import open_store
from imageapi.records.values import ALBUM_ID
from imageapi.serving import NotServing
from imageapi.serving import serve as serve_until_stopped
from imageapi.settings import Settings, WrongSetting, load_settings
from imageapi.terminal import bytes_read, pictures_done, plain, show_refused
from imageapi.transfer.exporting import export_album
from imageapi.transfer.importing import Importer, ImportRefused, open_source
from imageapi.transfer.migrating import bring_up_to_date
from imageapi.transfer.photographs import Outcome, PhotographImporter, photographs

#: What typer raises where a command is used wrongly; its own name for it is private.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

#: How long a start waits for a database that does not answer yet, in seconds.
PATIENCE_SECONDS = 30

_LIFETIME = re.compile(r"([1-9]\d{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main() -> None:
    """Run a command; what may be expected to go wrong is one line, without a stack trace."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except UsageError as error:
        _end_of_use(error)
    except UnfitSecret as error:
        _end(f"IMAGEAPI_TOKEN_SECRET is {error}", status=2)
    except UnfitStore as error:
        _end(f"IMAGEAPI_STORE_URL {error}", status=2)
    except UnfitPlaces as error:
        _end(f"IMAGEAPI_GEOIP_DATABASE {error}", status=2)
    except WrongSetting as error:
        _end(str(error), status=2)
    except (ImportRefused, NotServing, DataDirectoryError, DatabaseError, StoreError) as error:
        _end(str(error), status=1)
    except BrokenPipeError:
        # The reader has left; Python must not flush to it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(f"{error.filename or 'the system'}: {error.strerror}", status=1)
    except Exception as error:  # noqa: BLE001 - a stack quotes what was in its hands
        _end(f"unexpected {type(error).__name__} at {place_of(error)}", status=1)


def _end_of_use(error: Any) -> None:
    """Say what is wrong with how a command was used, and where to read how it is."""
    command = "imageapi" if error.ctx is None else error.ctx.command_path
    message = plain(error.format_message()).rstrip(".")
    typer.echo(f"imageapi: {message[:1].lower()}{message[1:]}\nTry: {command} --help", err=True)
    sys.exit(2)


def _examples(*lines: str) -> str:
    """What stands below a command's help, each line as it is."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def _version(*, is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"imageapi {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=_examples(
        "imageapi serve                               the service, at 127.0.0.1:8000",
        "imageapi import ~/Pictures --album holiday   photographs into an album",
        "imageapi token holiday --can image_tag       a token, to call it with",
        "imageapi --install-completion                commands complete with Tab",
    ),
)
def about(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _version(is_asked=value),
            is_eager=True,
            help="Say which version this is.",
        ),
    ] = False,
) -> None:
    """Image API: the queue of photographs nobody has tagged yet.

    Settings are environment variables, or lines of a .env file; without any, all data lies in
    ./data, in an embedded PostgreSQL. `imageapi COMMAND --help` has examples.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _end(line: str, status: int) -> None:
    typer.echo(f"imageapi: {plain(line)}", err=True)
    sys.exit(status)


def _album_id(value: str | None) -> str | None:
    if value is not None and ALBUM_ID.fullmatch(value) is None:
        raise typer.BadParameter("an album's id is 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _ability(values: list[str]) -> list[str]:
    for value in values:
        if value not in ABILITIES:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(ABILITIES)}")
    return values


def _lifetime(value: str) -> timedelta:
    parts = _LIFETIME.fullmatch(value)
    if parts is None:
        raise typer.BadParameter("a whole number and s, m, h or d, such as 4h")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})


AlbumArgument = Annotated[
    str, typer.Argument(metavar="ALBUM", callback=_album_id, help="The album's id.")
]


@app.command(
    epilog=_examples(
        "imageapi serve",
        "imageapi serve --port 9000 --show-curl holiday",
        "imageapi serve --host 0.0.0.0 --workers 4",
    )
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many processes.")] = 1,
    show_curl: Annotated[
        str | None,
        typer.Option(metavar="ALBUM", callback=_album_id, help="Print how to list this album."),
    ] = None,
) -> None:
    """Run the service until it is stopped.

    The database is migrated first. Ctrl-C or SIGTERM stop it; requests under way have 30 seconds.
    """
    settings = load_settings()
    configure_logs()
    tokens = _tokens(settings)
    Places(settings.geoip_database).close()
    open_store(settings.store_address)

    def listening(port: int) -> None:
        address = f"http://{_reachable(host)}:{port}"
        typer.echo(f"Image API listens on {address}, its docs are at {address}/docs")
        if show_curl is not None:
            token = tokens.issue(show_curl, ["image_list"], timedelta(hours=4))
            typer.echo("The untagged images of an album, with a token good for four hours:\n")
            typer.echo(
                f"curl -H 'Authorization: Token token=\"{token}\"' "
                f"{address}/api/v1/albums/{show_curl}/images/untag\n"
            )
        sys.stdout.flush()

    with database_server(settings.database_address, settings.data_dir):
        asyncio.run(_migrate_when_there(settings))
        serve_until_stopped(host, port, workers, listening)


@app.command(
    name="import",
    epilog=_examples(
        "imageapi import untagged.json",
        "imageapi export holiday | imageapi import -",
        "imageapi import ~/Pictures --album holiday",
        "imageapi import ~/Pictures --album holiday --tags-from-folders",
    ),
)
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="JSON arrays of records, - for standard input; or folders of photographs.",
        ),
    ],
    album: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            callback=_album_id,
            help="Where photographs go; of records, those of other albums are refused.",
        ),
    ] = None,
    tags_from_folders: Annotated[
        bool,
        typer.Option(
            "--tags-from-folders",
            help="Tag photographs with the names of the folders that they lie in.",
        ),
    ] = False,
) -> None:
    """Add records or photographs to albums.

    Records: all of them, or none if one is bad; the message counts them from 0. Photographs: one
    by one; those that cannot be taken are named at the end. What is there already stays.
    """
    folders = [path for path in files if path.is_dir()]
    records = [path for path in files if path not in folders]
    if folders and album is None:
        raise typer.BadParameter("photographs need --album ID")
    settings = load_settings()
    if records:
        _import_records(settings, records, album)
    if folders and album is not None:
        _import_photographs(settings, folders, album, tags_from_folders=tags_from_folders)


def _import_records(settings: Settings, files: list[Path], album_id: str | None) -> None:
    with ExitStack() as opened, bytes_read(files) as progressed:
        sources = [(_name(path), opened.enter_context(open_source(path))) for path in files]
        importer = Importer(_rendering(settings), album_id, progressed)
        added = asyncio.run(_import(settings, importer, sources))
    typer.echo(f"images added: {added.added}, there already: {added.present}")


def _import_photographs(
    settings: Settings, folders: list[Path], album_id: str, *, tags_from_folders: bool
) -> None:
    async def run() -> Outcome:
        files = photographs(folders)
        with pictures_done(len(files)) as progressed:
            async with _current_studio(settings) as studio:
                importer = PhotographImporter(
                    studio, album_id, progressed, tags_from_folders=tags_from_folders
                )
                return await importer.run(files)

    done = asyncio.run(run())
    show_refused(done.refused)
    typer.echo(
        f"pictures added: {done.added}, there already: {done.present}, refused: {len(done.refused)}"
    )
    if done.refused:
        raise typer.Exit(1)


@app.command(
    epilog=_examples(
        "imageapi token holiday",
        "imageapi token holiday --can image_list --can image_tag --expires-in 8h",
        "imageapi token holiday --user 20ab42f4-9308-4297-a5f0-c0c07d1d189b",
    )
)
def token(
    album: AlbumArgument,
    can: Annotated[
        list[str],
        typer.Option(
            metavar="ABILITY",
            callback=_ability,
            autocompletion=lambda: list(ABILITIES),
            help=f"What it lets its holder do; repeatable: {', '.join(ABILITIES)}.",
        ),
    ] = ["image_list"],  # noqa: B006 - typer copies it
    expires_in: Annotated[
        timedelta, typer.Option(parser=_lifetime, metavar="4h", help="For how long: s, m, h or d.")
    ] = "4h",  # type: ignore[assignment]  # typer parses the default too
    user: Annotated[UUID | None, typer.Option(help="Whom it is for; else somebody new.")] = None,
) -> None:
    """Print a token for an album.

    Whoever has the secret can make tokens. This one is signed with IMAGEAPI_TOKEN_SECRET, or with
    the secret that was generated into the data directory.
    """
    tokens = _tokens(load_settings())
    typer.echo(tokens.issue(album, can, expires_in, None if user is None else str(user)))


@app.command(epilog=_examples("imageapi purge", "imageapi purge --older-than 90d"))
def purge(
    older_than: Annotated[
        timedelta, typer.Option(parser=_lifetime, metavar="30d", help="How long ago: s, m, h or d.")
    ] = "30d",  # type: ignore[assignment]  # typer parses the default too
) -> None:
    """Empty the trash of what is old.

    Images that were deleted so long ago are removed for good, and pictures without a record.
    """

    async def run() -> Purged:
        async with _current_studio(load_settings()) as studio:
            return await empty_trash(studio, older_than)

    purged = asyncio.run(run())
    typer.echo(f"images removed: {purged.images}, pictures without a record: {purged.orphans}")


@app.command(epilog=_examples("imageapi export holiday > holiday.json"))
def export(album: AlbumArgument) -> None:
    """Write an album to standard output.

    It is a JSON array in the documented shape; imported again, it comes back equal.
    """
    asyncio.run(_export(load_settings(), album))
    if sys.stdout.isatty():
        typer.echo()


@app.command(epilog=_examples("imageapi migrate"))
def migrate() -> None:
    """Bring the database to the newest schema.

    `imageapi serve` does so at its start; this does only that.
    """
    changed = asyncio.run(_migrate(load_settings()))
    typer.echo("The schema was brought up to date" if changed else "The schema is current")


@app.command(epilog=_examples("imageapi openapi > openapi.json"))
def openapi() -> None:
    """Write the OpenAPI document to standard output.

    It needs neither database nor settings. SDKs are generated from it.
    """
    from imageapi.app import create_app  # noqa: PLC0415 - the other commands start without it

    document = create_app(Settings.model_construct()).openapi()
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _tokens(settings: Settings) -> Tokens:
    """What issues tokens."""
    rules = Rules(settings.token_audience, settings.token_issuer)
    return Tokens(the_secret(settings.configured_secret, settings.secret_file), rules=rules)


def _rendering(settings: Settings) -> Rendering:
    return Rendering(settings.time_zone, settings.sizes)


def _opened(settings: Settings) -> AbstractAsyncContextManager[Database]:
    is_pooled = settings.database_pooler
    return open_database(settings.database_address, settings.data_dir, is_pooled=is_pooled)


@asynccontextmanager
async def _current_database(settings: Settings) -> AsyncIterator[Database]:
    async with _opened(settings) as database:
        await bring_up_to_date(database, _rendering(settings))
        yield database


@asynccontextmanager
async def _current_studio(settings: Settings) -> AsyncIterator[Studio]:
    limits = Limits(settings.limit_bytes, settings.limit_pixels)
    async with (
        _current_database(settings) as database,
        open_studio(database, settings.store_address, _rendering(settings), limits) as studio,
    ):
        yield studio


async def _migrate(settings: Settings) -> bool:
    async with _opened(settings) as database:
        return await bring_up_to_date(database, _rendering(settings))


async def _migrate_when_there(settings: Settings) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await _migrate(settings)
        except DatabaseAway:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def _import(
    settings: Settings, importer: Importer, sources: list[tuple[str, IO[bytes]]]
) -> Added:
    async with _current_database(settings) as database:
        return await importer.run(database, sources)


async def _export(settings: Settings, album_id: str) -> None:
    async with _current_database(settings) as database:
        await export_album(database, album_id, sys.stdout.buffer)


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _reachable(host: str) -> str:
    """The host as an address of this machine in a URL."""
    everywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104
    host = everywhere.get(host, host)
    return f"[{host}]" if ":" in host else host
