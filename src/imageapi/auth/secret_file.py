"""The secret that tokens are signed with: configured, or generated once.

A process of root may work in a folder of another user, who can lay links in it. So the folder is
opened once, everything in it is named relative to that, and no link is followed: root neither
reads, changes nor gives away a file elsewhere.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MAX_BYTES = 64 * 1024


def load_secret(configured: str | None, path: Path) -> str:
    """Return the configured secret, or the generated one, which is in the file at ``path``.

    If there is no file, a secret of 256 bits is generated into it, readable by its owner only.
    Several processes that do this at once get the same secret. A process of root gives the file to
    the owner of its folder, who may start the service next. Raises OSError if the file cannot be
    read or created, and for root also if it is a link.
    """
    return configured if configured is not None else _read_or_create(path)


def _read_or_create(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _open_folder(path.parent) as folder, _name_in_errors(path):
        with suppress(FileNotFoundError):
            return _read(path.name, folder)
        _create(path.name, folder, secrets.token_urlsafe(32))
        return _read(path.name, folder)


@contextmanager
def _open_folder(path: Path) -> Iterator[int]:
    """Yield a descriptor of the folder, which stays the same folder whatever is renamed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Let errors of the system name the whole path, not what is relative to the folder."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _read(name: str, folder: int) -> str:
    # Not to wait for a writer, if it is a pipe.
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if os.geteuid() == 0 else 0)
    with os.fdopen(os.open(name, flags, dir_fd=folder), encoding="ascii") as file:
        return file.read(_MAX_BYTES).strip()


def _create(name: str, folder: int, secret: str) -> None:
    """Create the file with the secret, unless another process creates it at the same time."""
    temporary = f"{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "w") as file:
        try:
            file.write(secret + "\n")
            file.flush()
            if os.geteuid() == 0:
                owner = os.fstat(folder)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
            # The file appears whole or not at all. Unlike a rename, a link fails if another process
            # has created it meanwhile.
            with suppress(FileExistsError):
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.unlink(temporary, dir_fd=folder)
