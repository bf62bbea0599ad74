"""The secret that tokens are signed with: configured, or generated once."""

import os
import secrets
from pathlib import Path


def load_secret(configured: str | None, path: Path) -> str:
    """Return the configured secret, or the generated one, which is in the file at ``path``.

    If there is no file, a secret of 256 bits is generated into it, readable by its owner only.
    Several processes that do this at once get the same secret. A process of root gives the file to
    the owner of its folder, who may start the service next. Raises OSError if the file cannot be
    read or created.
    """
    return configured if configured is not None else _read_or_create(path)


def _read_or_create(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def _create(path: Path, secret: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(temporary, owner.st_uid, owner.st_gid)
    try:
        # The file appears whole or not at all. Unlike a rename, a link fails if another process
        # has created it meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
