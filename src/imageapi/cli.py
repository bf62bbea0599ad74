"""The command line: names, options and help texts. `imageapi.commands` has what each command does.

The exit status is 0 for success, 1 for a failure, 2 for wrong usage or settings. The result of a
command goes to standard output, everything else to standard error. This module must not import a
large library: see `imageapi.commands`.
"""

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

import typer

from imageapi import __version__, commands
from imageapi.auth.claims import ABILITIES
from imageapi.records.ids import ALBUM_ID
from imageapi.terminal import make_printable

#: The error that typer raises for wrong usage. Typer does not export it by a public name.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main() -> None:
    """Run the command of ``sys.argv`` and exit with its status.

    An error is printed as one line without a stack trace, which could quote secrets or records.
    """
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except UsageError as error:
        _fail_usage(error)
    except BrokenPipeError:
        # The reader of our output has gone. Replace the file, or Python's flush at exit would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - printed as one line
        _fail(*commands.failures.explain(error))


def _fail_usage(error: Any) -> None:
    """Print what is wrong with the usage, and the command that prints the right usage; exit."""
    command = "imageapi" if error.ctx is None else error.ctx.command_path
    message = make_printable(error.format_message()).rstrip(".")
    typer.echo(f"imageapi: {message[:1].lower()}{message[1:]}\nTry: {command} --help", err=True)
    sys.exit(2)


def _examples(*lines: str) -> str:
    """Return the text below a command's help. Its first character keeps typer from wrapping it."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def _print_version(*, is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"imageapi {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=_examples(
        "imageapi serve                               the service, at 127.0.0.1:8000",
        "imageapi import ~/Pictures --album holiday   photographs into an album",
        "imageapi token holiday --all                 a token, to call it with",
        "imageapi --install-completion                commands complete with Tab",
    ),
)
def about(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback prints
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _print_version(is_requested=value),
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


def _fail(line: str, status: int) -> None:
    typer.echo(f"imageapi: {make_printable(line)}", err=True)
    sys.exit(status)


def _check_album_id(value: str | None) -> str | None:
    if value is not None and ALBUM_ID.fullmatch(value) is None:
        raise typer.BadParameter("an album's id is 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _check_album_ids(values: list[str]) -> list[str]:
    for value in values:
        _check_album_id(value)
    return values


def _check_abilities(values: list[str]) -> list[str]:
    for value in values:
        if value not in ABILITIES:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(ABILITIES)}")
    return values


def _parse_duration(value: str) -> timedelta:
    parts = _DURATION.fullmatch(value)
    if parts is None:
        raise typer.BadParameter("a whole number and s, m, h or d, such as 4h")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})


AlbumArgument = Annotated[
    str, typer.Argument(metavar="ALBUM", callback=_check_album_id, help="The album's id.")
]
AlbumsArgument = Annotated[
    list[str],
    typer.Argument(metavar="ALBUM...", callback=_check_album_ids, help="The albums' ids."),
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
        typer.Option(
            metavar="ALBUM", callback=_check_album_id, help="Print how to list this album."
        ),
    ] = None,
) -> None:
    """Run the service until it is stopped.

    The database is migrated first. Ctrl-C or SIGTERM stop it; requests under way have 30 seconds.
    """
    commands.serve.run(host, port, workers, show_curl)


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
            callback=_check_album_id,
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
    if records:
        commands.import_records.run(records, album)
    if folders and album is not None:
        is_whole = commands.import_photographs.run(
            folders, album, tags_from_folders=tags_from_folders
        )
        if not is_whole:
            raise typer.Exit(1)


@app.command(
    epilog=_examples(
        "imageapi token holiday",
        "imageapi token holiday --all",
        "imageapi token holiday work --can image_list --can image_tag --expires-in 8h",
        "imageapi token holiday --user 20ab42f4-9308-4297-a5f0-c0c07d1d189b",
    )
)
def token(
    albums: AlbumsArgument,
    can: Annotated[
        list[str],
        typer.Option(
            metavar="ABILITY",
            callback=_check_abilities,
            autocompletion=lambda: list(ABILITIES),
            help=f"What it lets its holder do; repeatable: {', '.join(ABILITIES)}.",
        ),
    ] = ["image_list"],  # noqa: B006 - typer copies it
    all_abilities: Annotated[
        bool, typer.Option("--all", help="It lets its holder do everything.")
    ] = False,
    expires_in: Annotated[
        timedelta,
        typer.Option(parser=_parse_duration, metavar="4h", help="For how long: s, m, h or d."),
    ] = "4h",  # type: ignore[assignment]  # typer parses the default too
    user: Annotated[UUID | None, typer.Option(help="Whom it is for; else somebody new.")] = None,
) -> None:
    """Print a token for one or more albums.

    Whoever has the secret can make tokens. This one is signed with IMAGEAPI_TOKEN_SECRET, or with
    the secret that was generated into the data directory.
    """
    commands.token.run(albums, ABILITIES if all_abilities else can, expires_in, user)


@app.command(epilog=_examples("imageapi purge", "imageapi purge --older-than 90d"))
def purge(
    older_than: Annotated[
        timedelta,
        typer.Option(parser=_parse_duration, metavar="30d", help="How long ago: s, m, h or d."),
    ] = "30d",  # type: ignore[assignment]  # typer parses the default too
) -> None:
    """Empty the trash of what is old.

    Images that were deleted so long ago are removed for good, and pictures without a record.
    """
    commands.purge.run(older_than)


@app.command(epilog=_examples("imageapi export holiday > holiday.json"))
def export(album: AlbumArgument) -> None:
    """Write an album to standard output.

    It is a JSON array in the documented shape; imported again, it comes back equal.
    """
    commands.export.run(album)


@app.command(epilog=_examples("imageapi migrate"))
def migrate() -> None:
    """Bring the database to the newest schema.

    `imageapi serve` does so at its start; this does only that.
    """
    commands.migrate.run()


@app.command(epilog=_examples("imageapi openapi > openapi.json"))
def openapi() -> None:
    """Write the OpenAPI document to standard output.

    It needs neither database nor settings. SDKs are generated from it.
    """
    commands.openapi.run()
