"""The data directory of the embedded PostgreSQL: its paths, its lock and the lock's holder.

    DATA_DIR/postgres/       PostgreSQL's own data directory
    DATA_DIR/postgres.log    the log of the server
    DATA_DIR/postgres.lock   locked (flock) while a server runs; its text names the holder
    DATA_DIR/run/            the sockets, accessible to their owner only

The system releases a lock when the last process that has the file open ends, so a lock is never
stale. But on a network share a lock may exclude only processes of the same machine. The file's text
covers that case: the holder rewrites it every few seconds, and another machine watches it for
changes before it takes over. Versions of Image API read each other's text: it must not change.
"""

import errno
import fcntl
import os
import pwd
import re
import stat
import sys
from pathlib import Path
from typing import NamedTuple, Self

HEARTBEAT_SECONDS = 5.0
"""How often a holder rewrites its lock file. Another machine watches it 2.5 times as long."""

PORT = 5432
"""PostgreSQL does not listen on it, but the name of its socket contains it."""

_MAX_SOCKET_PATH_BYTES = 99
_URL_SAFE_PATH = re.compile(r"[A-Za-z0-9_./ ~+=-]+")


class DataDirectoryError(Exception):
    """The embedded PostgreSQL is unavailable; `str()` is one line for the operator."""


class DataDirectory(NamedTuple):
    """The paths inside a data directory; `path` is absolute and has no symbolic link in it."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """Return the directory; create it with mode 0700 if it does not exist.

        Raise `DataDirectoryError` if it cannot be created or is not a directory.
        """
        try:
            resolved = path.resolve()
            if not resolved.is_dir():
                resolved.parent.mkdir(parents=True, exist_ok=True)
                resolved.mkdir(mode=0o700, exist_ok=True)
        except (OSError, RuntimeError) as error:
            if isinstance(error, FileExistsError | NotADirectoryError):
                raise DataDirectoryError(f"{path} is not a directory") from error
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataDirectoryError(f"{path} cannot be created: {reason}") from error
        return cls(resolved)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.path / "postgres"

    @property
    def unfinished_cluster(self) -> Path:
        """Where a new cluster is created; it is renamed to `cluster` when it is complete."""
        return self.path / "postgres.new"

    @property
    def lock(self) -> Path:
        """The file that is locked while a server runs."""
        return self.path / "postgres.lock"

    @property
    def log(self) -> Path:
        """The log of the server and of `initdb`."""
        return self.path / "postgres.log"

    def get_socket_folder(self, uid: int) -> Path:
        """Return the folder of the sockets of a server that runs as `uid`.

        The path of a socket may have about 100 bytes, and some characters have a meaning in a
        database URL. If `run` inside the data directory does not satisfy both, the folder is in the
        system's folder for temporary files.
        """
        folder = self.path / "run"
        path_bytes = len(os.fsencode(folder / f".s.PGSQL.{PORT}"))
        if path_bytes <= _MAX_SOCKET_PATH_BYTES and _URL_SAFE_PATH.fullmatch(str(folder)):
            return folder
        return _get_temporary_folder() / f"imageapi-{uid}-{_hash_path(self.path)}"

    def translate_os_error(self, error: OSError) -> DataDirectoryError:
        """Return the error to show the operator for an OSError in this directory."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DataDirectoryError(f"{self.path}: no space is left there")
        owners = [_get_owner(path) for path in (self.path, self.lock)]
        other_owner = next((uid for uid in owners if uid not in {os.geteuid(), 0}), None)
        if isinstance(error, PermissionError) and other_owner is not None:
            return DataDirectoryError(f"{self.path} belongs to user {get_user_name(other_owner)}")
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return DataDirectoryError(f"{self.path} cannot be written by user {get_user_name()}")
        return DataDirectoryError(f"{error.filename or self.path}: {error.strerror or error}")


class LockHolder(NamedTuple):
    """The supervisor that holds a data directory, as written in the lock file."""

    machine: str
    host: str
    pid: int
    user: str
    socket_folder: str

    @property
    def is_on_other_machine(self) -> bool:
        """Whether it runs on another machine, or ran on this one before its last boot."""
        return self.machine != get_machine_id()

    def __str__(self) -> str:
        return f"process {self.pid} of user {self.user} on {self.host}"


class LockState(NamedTuple):
    """The content of a lock file at one moment; it changes with each heartbeat of the holder."""

    text: str
    modified_ns: int

    @property
    def holder(self) -> LockHolder | None:
        """The holder; None after a clean stop, or while a supervisor is starting."""
        fields = dict(line.split(": ", 1) for line in self.text.splitlines() if ": " in line)
        try:
            return LockHolder(
                machine=fields["machine"],
                host=fields["host"],
                pid=int(fields["pid"]),
                user=fields["user"],
                socket_folder=fields["sockets"],
            )
        except (KeyError, ValueError):
            return None


class Lock:
    """The lock on a data directory; it is held while any copy of its descriptor is open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._holder_text = ""
        self._heartbeats = 0

    @classmethod
    def try_acquire(cls, directory: DataDirectory) -> Self | None:
        """Return the lock, or None if another process holds it; do not wait.

        Raise `DataDirectoryError` if the file cannot be opened.
        """
        try:
            descriptor = _open_lock(directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
        except OSError as error:
            raise directory.translate_os_error(error) from error
        return cls(descriptor)

    @property
    def names_us(self) -> bool:
        """Whether `write_holder` has written this process into the file."""
        return bool(self._holder_text)

    def write_holder(self, socket_folder: Path) -> None:
        """Write this process into the file as the holder."""
        fields = {
            "machine": get_machine_id(),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "user": get_user_name(),
            "sockets": socket_folder,
        }
        self._holder_text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        os.ftruncate(self.descriptor, 0)
        self.write_heartbeat()

    def write_heartbeat(self) -> None:
        """Rewrite the file with another number, so that its text and its time change.

        The file may belong to another user; then setting its time (utime) is not permitted, but
        writing to the open descriptor is.
        """
        self._heartbeats += 1
        text = f"{self._holder_text}beat: {self._heartbeats:012}\n"
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Empty the file if this process is written in it; release the lock."""
        if self.names_us:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def read_lock_state(directory: DataDirectory) -> LockState:
    """Read the lock file; return an empty state if there is none. Raise `DataDirectoryError`.

    The file is opened for each read: that is when a network share fetches its current content.
    """
    try:
        with directory.lock.open(encoding="utf-8", errors="replace") as file:
            return LockState(file.read(4096), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return LockState("", 0)
    except OSError as error:
        raise directory.translate_os_error(error) from error


def get_machine_id() -> str:
    """Return an id of this machine that changes with each boot (Linux), else its host name.

    Containers on one kernel have the same id: a lock works between them, even if their host names
    differ.
    """
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    else:  # noqa: RET505 - without it the type checker reports unreachable code
        return os.uname().nodename


def get_user_name(uid: int | None = None) -> str:
    """Return the name of a user, by default of the effective one; its number if it has no name."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _get_owner(path: Path) -> int:
    """Return the owner's user id; our own if the file is missing or cannot be examined."""
    try:
        return path.stat().st_uid
    except OSError:
        return os.geteuid()


def _open_lock(directory: DataDirectory) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory.lock, flags, 0o600)
    try:
        _give_to_directory_owner(directory, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _give_to_directory_owner(directory: DataDirectory, descriptor: int) -> None:
    """Change the owner of a lock file that root just made to the owner of the directory.

    Otherwise that user could not open the file later. Raise `DataDirectoryError` if the path is not
    a regular file, or is a file that root must not give away.
    """
    folder, file = directory.path.stat(), os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        raise DataDirectoryError(f"{directory.lock} is not a file")
    if os.geteuid() != 0 or file.st_uid == folder.st_uid:
        return
    # More than one link: some other file of root's may be hard-linked here to change its owner.
    if file.st_uid != 0 or file.st_nlink != 1:
        raise DataDirectoryError(f"{directory.lock} belongs to user {get_user_name(file.st_uid)}")
    os.fchown(descriptor, folder.st_uid, folder.st_gid)


def _get_temporary_folder() -> Path:
    """Return the system's folder for temporary files; prefer /tmp, because its path is short."""
    candidates = [Path("/tmp"), Path("/var/tmp"), Path(os.environ.get("TMPDIR", "/tmp"))]  # noqa: S108 - the supervisor checks the owner and mode of its folder in there
    return next((path for path in candidates if os.access(path, os.W_OK | os.X_OK)), candidates[0])


def _hash_path(path: Path) -> str:
    """Return a hash of a path as 16 hexadecimal digits (64-bit FNV-1a; hashlib loads OpenSSL)."""
    value = 0xCBF29CE484222325
    for byte in os.fsencode(path):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"
