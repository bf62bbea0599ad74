"""The progress bar of an import, on a terminal only, and the list of refused files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from imageapi.terminal import make_printable


class Advance(Protocol):
    """Called with the amount of work that was done since the last call."""

    def __call__(self, amount: int = 1) -> object:
        """Advance the bar."""


class _PerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def show_bytes_read(files: Iterable[Path]) -> Iterator[Advance]:
    """Show a bar over the bytes of the files until the block ends."""
    sizes = [path.stat().st_size if path.is_file() else None for path in files]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    with _show_bar(total, DownloadColumn()) as advance:
        yield advance


@contextmanager
def show_pictures_done(count: int) -> Iterator[Advance]:
    """Show a bar over so many pictures, with their rate and the remaining time."""
    with _show_bar(count, MofNCompleteColumn(), _PerSecond()) as advance:
        yield advance


@contextmanager
def _show_bar(total: int | None, *columns: ProgressColumn) -> Iterator[Advance]:
    console = Console(stderr=True)
    all_columns = (TextColumn("importing"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*all_columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("importing", total=total)
        yield lambda amount=1: bar.update(task, advance=amount)


def show_refused(refused: Iterable[tuple[Path, str]]) -> None:
    """Print the refused files with their reasons: a table on a terminal, else a line for each."""
    rows = [(make_printable(str(path)), reason) for path, reason in refused]
    console = Console(stderr=True)
    if not rows:
        return
    if not console.is_terminal:
        for path, reason in rows:
            typer.echo(f"refused: {path}: {reason}", err=True)
        return
    table = Table("refused", "why")
    for path, reason in rows:
        table.add_row(Text(path, overflow="fold"), reason)
    console.print(table)
