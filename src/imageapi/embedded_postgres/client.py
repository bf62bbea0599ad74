"""The embedded PostgreSQL, for those who use it: started by the first, stopped by the last.

`supervisor` is the process in between; `attendance` says how it knows who is there.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from imageapi.embedded_postgres import data_directory
from imageapi.embedded_postgres.connected_clients import CONTROL_SOCKET
from imageapi.embedded_postgres.data_directory import (
    PORT,
    DataDirectory,
    DataDirectoryError,
    Lock,
    read_holder,
)

__all__ = ["DataDirectoryError", "run_embedded_server"]

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.03
_SUPERVISOR_TIMEOUT_SECONDS = 60.0
"""How long to wait for a supervisor that neither answers nor ends: one that stops its server."""

_MAX_STARTS = 3
"""How many supervisors may end without a word, as those do that are killed, before we tell."""

_SUPERVISOR = "imageapi.embedded_postgres.supervisor"
_KEPT_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV"})
_KEPT_PREFIXES = ("PYTHON", "LD_", "DYLD_")
_MAX_PAUSE_SECONDS = 30.0


@contextmanager
def run_embedded_server(data_dir: Path) -> Iterator[str]:
    """Joins the embedded server of a data directory, or starts it, and leaves it at the end.

    Yields its address, which stays the same for as long as the directory does:
    `postgresql://imageapi@/imageapi?host=<folder of its socket>&port=5432`. It waits for a
    recovery for as long as that takes. Where nobody else uses the server, leaving returns when
    it has stopped. Should the supervisor be killed meanwhile, a thread joins anew: connections
    break, and new ones succeed after a moment.

    Raises `DataDirectoryError`. A process that forks keeps the server for its child as well.
    """
    membership = _Membership(DataDirectory.created(data_dir))
    try:
        yield membership.url
    finally:
        membership.leave()


class _Membership:
    """One use of a server: a connection to its supervisor, and a thread that minds it."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._leaving = threading.Event()
        self._mutex = threading.Lock()  # the connection changes while nobody leaves by it
        self._connection, sockets = _join(directory)
        self.url = f"postgresql://imageapi@/imageapi?host={quote(sockets)}&port={PORT}"
        self._thread = threading.Thread(target=self._mind, name="embedded-postgres", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Returns when others remain to use the server, or when it has stopped."""
        with self._mutex:
            self._leaving.set()
            _shut_down_writing(self._connection)
        self._thread.join()

    def _mind(self) -> None:
        while True:
            _read_to_end(self._connection)
            self._connection.close()
            if self._leaving.is_set() or not self._rejoin():
                return

    def _rejoin(self) -> bool:
        """Has a supervisor again that was killed; False when it is time to leave."""
        rest = _PAUSE_SECONDS
        while not self._leaving.wait(rest):
            try:
                self._replace(_join_again(self._directory))
            except (DataDirectoryError, OSError) as error:
                _log.warning("the embedded PostgreSQL does not start again: %s", error)
            else:
                return True
            rest = min(rest * 2, _MAX_PAUSE_SECONDS)
        return False

    def _replace(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connection = connection
            if self._leaving.is_set():
                _shut_down_writing(connection)


def _join(directory: DataDirectory) -> tuple[socket.socket, str]:
    """Returns a connection to the supervisor of a ready server, and the folder of its sockets."""
    patience = _StartAttempts(directory)
    while True:
        lock = Lock.take(directory)
        connection = _start(directory, lock) if lock else _connect(directory)
        if connection is not None:
            sockets = _await_ready(connection)
            if sockets is not None:
                return connection, sockets
        patience.pause(started=lock is not None)


def _join_again(directory: DataDirectory) -> socket.socket:
    """Joins a server that there was: data that was removed does not come back as an empty one."""
    if not (directory.cluster / "PG_VERSION").exists():
        raise DataDirectoryError(f"{directory.cluster} is gone")
    return _join(directory)[0]


class _StartAttempts:
    """How long to try again while no supervisor lets us in: another one may begin or end."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._first = read_holder(directory)
        self._starts = 0
        self._waited_seconds = 0.0

    def pause(self, *, started: bool) -> None:
        """Waits a moment; raises `DataDirectoryError` when there is nothing to wait for."""
        self._starts += started
        if self._starts >= _MAX_STARTS:
            raise DataDirectoryError(
                f"the supervisor of PostgreSQL was ended while it began: see {self._directory.log}"
            )
        last = read_holder(self._directory)
        if last.holder != self._first.holder:
            self._first = last
        elif last != self._first and last.holder and last.holder.elsewhere:
            raise DataDirectoryError(
                f"{self._directory.path} is in use by another machine: {last.holder}"
            )
        if self._waited_seconds > _SUPERVISOR_TIMEOUT_SECONDS:
            raise DataDirectoryError(
                f"{self._directory.path} is in use by {last.holder or 'a process'}, "
                "which does not answer"
            )
        time.sleep(_PAUSE_SECONDS)
        self._waited_seconds += _PAUSE_SECONDS


def _start(directory: DataDirectory, lock: Lock) -> socket.socket:
    """Starts a supervisor, which takes over the lock; returns our connection to it."""
    ours, theirs = socket.socketpair()
    try:
        command = [sys.executable, "-P", "-m", _SUPERVISOR, str(directory.path)]
        command += [str(theirs.fileno()), str(lock.descriptor), str(data_directory.BEAT_SECONDS)]
        # A session of its own: Ctrl-C in the terminal is for the service, which then has
        # requests to finish. This returns when the supervisor has detached itself.
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_get_environment(),
            pass_fds=[theirs.fileno(), lock.descriptor],
            start_new_session=True,
            check=True,
        )
    except BaseException as error:
        ours.close()
        if isinstance(error, OSError | subprocess.SubprocessError):
            reason = f"the supervisor of PostgreSQL cannot start: {error}"
            raise DataDirectoryError(reason) from error
        raise
    finally:
        theirs.close()
        os.close(lock.descriptor)
    return ours


def _get_environment() -> dict[str, str]:
    """What Python and PostgreSQL need of our environment: no secret stays in it for years."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }


def _connect(directory: DataDirectory) -> socket.socket | None:
    """Returns a connection to the supervisor that is there, or None where none answers."""
    holder = read_holder(directory).holder
    if holder is None or holder.elsewhere:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"{holder.sockets}/{CONTROL_SOCKET}")
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise DataDirectoryError(f"{directory.path} is in use by {holder}") from error
        return None
    return connection


def _await_ready(connection: socket.socket) -> str | None:
    """Waits for the supervisor's word; None where it ended without one."""
    try:
        word, _, rest = _read_line(connection).partition(" ")
    except BaseException:
        connection.close()  # whoever lost patience is no user
        raise
    if word == "ready":
        return rest
    connection.close()
    if word == "error":
        raise DataDirectoryError(rest)
    return None


def _read_line(connection: socket.socket) -> str:
    """Returns the line without its end; empty where the supervisor ended before it."""
    received = b""
    try:
        while not received.endswith(b"\n"):
            chunk = connection.recv(4096)
            if not chunk:
                return ""
            received += chunk
    except ConnectionError:
        return ""
    return os.fsdecode(received[:-1])


def _read_to_end(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(4096):
            pass


def _shut_down_writing(connection: socket.socket) -> None:
    with suppress(OSError):  # the supervisor may have been killed
        connection.shutdown(socket.SHUT_WR)
