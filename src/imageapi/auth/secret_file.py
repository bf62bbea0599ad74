"""The secret of the installation: configured, or made by itself, once."""

import os
import secrets
from pathlib import Path


def load_secret(configured: str | None, kept_in: Path) -> str:
    """Return the configured secret, else the one generated into the file.

    The generated one has 256 bits and is readable by its owner only. Several processes may ask at
    once: all get the same. As root the file goes to its folder's owner, who may start the service
    next. Raises OSError where the file cannot be read or made.
    """
    return configured if configured is not None else _read_or_create(kept_in)


def _read_or_create(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def _create(path: Path, secret: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    try:
        os.link(fresh, path)  # whole or not at all, and never over one that is there
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
