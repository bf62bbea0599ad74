"""The temporary folder in which the workers of one service count together."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imageapi.metrics import SHARED

_PREFIX = "imageapi-metrics-"
#: A file in the folder. The service holds a lock on it until it ends, however it ends.
_LOCK_NAME = "service.lock"
#: A service may have made its folder and not locked it yet.
_MIN_AGE_SECONDS = 60


@contextmanager
def share_between_workers() -> Iterator[None]:
    """Let the processes that are started in the block count together.

    Folders of services that were killed are removed first.
    """
    remove_dead_folders(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    os.environ[SHARED] = str(folder)
    try:
        with (folder / _LOCK_NAME).open("x") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    finally:
        os.environ.pop(SHARED, None)
        shutil.rmtree(folder, ignore_errors=True)


def remove_dead_folders(parent: Path) -> None:
    """Remove the folders of this user's services that have ended; leave all others alone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        # Others may write to the temporary directory, or remove the same folder now.
        with suppress(OSError):
            if _is_dead(folder):
                shutil.rmtree(folder)


def _is_dead(folder: Path) -> bool:
    """Return whether no service holds the folder's lock. May raise OSError."""
    status = folder.lstat()
    is_own = status.st_uid == os.geteuid() and not folder.is_symlink() and folder.is_dir()
    if not is_own or time.time() - status.st_mtime < _MIN_AGE_SECONDS:
        return False
    try:
        descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # made by an older version, or killed before it had the lock
        return time.time() - status.st_mtime > 24 * 3600
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
