"""The data directory of the embedded PostgreSQL: its places, its lock, and who holds it.

    DATA_DIR/postgres/       what PostgreSQL calls its data directory
    DATA_DIR/postgres.log    what the server says
    DATA_DIR/postgres.lock   locked (flock) while a server runs; its text names the holder
    DATA_DIR/run/            the sockets, readable by their owner only

A lock vanishes with the last process that has it open, so it is never stale; but on a network
share it may bind the processes of one machine only. That is what the text is for: the holder
touches it every few seconds, and another machine watches it before it takes over.
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

BEAT_SECONDS = 5.0
"""How often a holder touches its lock. Another machine's is watched for two and a half beats."""

PORT = 5432
"""PostgreSQL listens on no port, but its socket is named by one."""

_MAX_SOCKET_PATH_BYTES = 99
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./ ~+=-]+")


class DataDirectoryError(Exception):
    """The embedded PostgreSQL cannot be had; `str()` is one plain line for the operator."""


class DataDirectory(NamedTuple):
    """The places inside a data directory; `path` is absolute and holds no symbolic link."""

    path: Path

    @classmethod
    def created(cls, path: Path) -> Self:
        """Returns the directory, made for its owner alone where it was missing.

        Raises `DataDirectoryError` where it cannot be made or is no directory.
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
        """Where a new one is made, to be renamed when it is whole."""
        return self.path / "postgres.new"

    @property
    def lock(self) -> Path:
        """The file that is locked while a server runs."""
        return self.path / "postgres.lock"

    @property
    def log(self) -> Path:
        """What PostgreSQL says."""
        return self.path / "postgres.log"

    def sockets(self, uid: int) -> Path:
        """The folder of the sockets of a server that runs as `uid`.

        A socket's path has about 100 bytes, and some characters mean something in a database
        URL: where DATA_DIR does not allow for that, the folder is in the system's for such.
        """
        inside = self.path / "run"
        longest = inside / f".s.PGSQL.{PORT}"
        if len(os.fsencode(longest)) <= _MAX_SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(
            str(inside)
        ):
            return inside
        return _get_temporary_folder() / f"imageapi-{uid}-{_hash_path(self.path)}"

    def failure(self, error: OSError) -> DataDirectoryError:
        """What to tell the operator about an error of the system's in this directory."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DataDirectoryError(f"{self.path}: no space is left there")
        strangers = [_get_owner(path) for path in (self.path, self.lock)]
        owner = next((uid for uid in strangers if uid not in {os.geteuid(), 0}), None)
        if isinstance(error, PermissionError) and owner is not None:
            return DataDirectoryError(f"{self.path} belongs to user {get_user_name(owner)}")
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return DataDirectoryError(f"{self.path} cannot be written by user {get_user_name()}")
        return DataDirectoryError(f"{error.filename or self.path}: {error.strerror or error}")


class Holder(NamedTuple):
    """Who holds a data directory, as its lock file tells."""

    machine: str
    host: str
    pid: int
    user: str
    sockets: str

    @property
    def elsewhere(self) -> bool:
        """Whether that is another machine (or this one before it was started anew)."""
        return self.machine != identify_machine()

    def __str__(self) -> str:
        return f"process {self.pid} of user {self.user} on {self.host}"


class LockState(NamedTuple):
    """A lock file as it was at one moment: it changes with every beat of its holder."""

    text: str
    modified_ns: int

    @property
    def holder(self) -> Holder | None:
        """Who holds the directory; None after a clean stop, or while a server begins."""
        fields = dict(line.split(": ", 1) for line in self.text.splitlines() if ": " in line)
        try:
            pid = int(fields["pid"])
            return Holder(fields["machine"], fields["host"], pid, fields["user"], fields["sockets"])
        except (KeyError, ValueError):
            return None


class Lock:
    """The lock on a data directory, held for as long as any copy of its descriptor is open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._text = ""
        self._beats = 0

    @classmethod
    def take(cls, directory: DataDirectory) -> Self | None:
        """Returns the lock, or None where somebody has it. Raises `DataDirectoryError`."""
        try:
            descriptor = _open_lock(directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
        except OSError as error:
            raise directory.failure(error) from error
        return cls(descriptor)

    @property
    def is_claimed(self) -> bool:
        """Whether the file bears our name."""
        return bool(self._text)

    def claim(self, sockets: Path) -> None:
        """Writes our name into the file."""
        fields = {
            "machine": identify_machine(),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "user": get_user_name(),
            "sockets": sockets,
        }
        self._text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        os.ftruncate(self.descriptor, 0)
        self.beat()

    def beat(self) -> None:
        """Touches the file; by writing, because the descriptor may be another user's file."""
        self._beats += 1
        os.pwrite(self.descriptor, f"{self._text}beat: {self._beats:012}\n".encode(), 0)

    def release(self) -> None:
        """Takes our name out and gives the lock up."""
        if self.is_claimed:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def read_holder(directory: DataDirectory) -> LockState:
    """Reads the lock file; opened anew each time, since that is when a network share is asked."""
    try:
        with directory.lock.open(encoding="utf-8", errors="replace") as file:
            return LockState(file.read(4096), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return LockState("", 0)
    except OSError as error:
        raise directory.failure(error) from error


def identify_machine() -> str:
    """Tells this machine, since it was started, from others.

    Containers on one kernel are one machine here: a lock binds them all, whatever their names.
    """
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    else:  # noqa: RET505 - or the type checker calls it unreachable
        return os.uname().nodename


def get_user_name(uid: int | None = None) -> str:
    """The name of a user (by default of the one we run as), or the number where it has none."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _get_owner(path: Path) -> int:
    """Whose file it is; ours where there is none, or nobody may know."""
    try:
        return path.stat().st_uid
    except OSError:
        return os.geteuid()


def _open_lock(directory: DataDirectory) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory.lock, flags, 0o600)
    try:
        _give_to_owner(directory, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _give_to_owner(directory: DataDirectory, descriptor: int) -> None:
    """Sees to it that the lock is a file, and in a user's directory that user's, not root's."""
    owner, file = directory.path.stat(), os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        raise DataDirectoryError(f"{directory.lock} is not a file")
    if os.geteuid() != 0 or file.st_uid == owner.st_uid:
        return
    # A second name would mean that it is some other file, linked here to be given away.
    if file.st_uid != 0 or file.st_nlink != 1:
        raise DataDirectoryError(f"{directory.lock} belongs to user {get_user_name(file.st_uid)}")
    os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _get_temporary_folder() -> Path:
    """The system's folder for temporary files; the usual one first, for its name is short."""
    candidates = [Path("/tmp"), Path("/var/tmp"), Path(os.environ.get("TMPDIR", "/tmp"))]  # noqa: S108 - a folder in it is checked before it is used
    return next((path for path in candidates if os.access(path, os.W_OK | os.X_OK)), candidates[0])


def _hash_path(path: Path) -> str:
    """Sixteen characters that stand for a path (FNV-1a of 64 bits: hashlib loads OpenSSL)."""
    value = 0xCBF29CE484222325
    for byte in os.fsencode(path):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"
