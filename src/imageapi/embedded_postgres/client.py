"""The client of the embedded PostgreSQL: the first one starts the server, the last one stops it.

A `supervisor` process runs the server; `connected_clients` describes the protocol with it.

During an upgrade a supervisor of an older version may still run. This client works with it: the
text of the lock file and the lines on the control socket are the same. Older versions have the
supervisor at `imageapi.database.embedded.supervisor`. Only older clients start it by that path, so
this version does not need it. An older client whose supervisor is killed after the upgrade cannot
start another one: it logs a warning and retries until a client of this version has started one.
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
    read_lock_state,
)

__all__ = ["DataDirectoryError", "run_embedded_server"]

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.03
_MAX_RETRY_SECONDS = 30.0
_SUPERVISOR_TIMEOUT_SECONDS = 60.0
"""How long to wait for a supervisor that neither answers nor ends, such as one that stops its
server."""

_MAX_STARTS = 3
"""How many supervisors may end without a line, as killed ones do, before an error is raised."""

_SUPERVISOR = "imageapi.embedded_postgres.supervisor"
_PASSED_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV"})
_PASSED_PREFIXES = ("PYTHON", "LD_", "DYLD_")


@contextmanager
def run_embedded_server(data_dir: Path) -> Iterator[str]:
    """Connect to the embedded server of a data directory, start it if needed; disconnect at exit.

    Yield its URL, `postgresql://imageapi@/imageapi?host=<folder of its socket>&port=5432`, which is
    always the same for the same directory. Entering waits for crash recovery without a time limit.
    If no other client uses the server, leaving returns when the server has stopped.

    If the supervisor is killed meanwhile, a thread starts another one: open database connections
    break, and new ones succeed after a moment. A process that forks keeps the server running until
    its child has ended too.

    Raise `DataDirectoryError` if there is no server to be had; its text is for the operator.
    """
    client = _Client(DataDirectory.create(data_dir))
    try:
        yield client.url
    finally:
        client.close()


class _Client:
    """A connection to the supervisor of a server, and a thread that replaces it if it breaks."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._closing = threading.Event()
        self._mutex = threading.Lock()  # `close` must not shut down a connection being replaced
        self._connection, socket_folder = _connect_or_start(directory)
        self.url = f"postgresql://imageapi@/imageapi?host={quote(socket_folder)}&port={PORT}"
        self._thread = threading.Thread(
            target=self._stay_connected, name="embedded-postgres", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Disconnect; return at once if other clients remain, else when the server has stopped."""
        with self._mutex:
            self._closing.set()
            _shut_down_writing(self._connection)
        self._thread.join()

    def _stay_connected(self) -> None:
        while True:
            _read_to_end(self._connection)
            self._connection.close()
            if self._closing.is_set() or not self._reconnect():
                return

    def _reconnect(self) -> bool:
        """Connect to another supervisor after ours was killed; return False if `close` came first.

        Retry without a time limit, with pauses that double.
        """
        pause_seconds = _RETRY_SECONDS
        while not self._closing.wait(pause_seconds):
            try:
                self._replace_connection(_connect_to_existing_data(self._directory))
            except (DataDirectoryError, OSError) as error:
                _log.warning("the embedded PostgreSQL does not start again: %s", error)
            else:
                return True
            pause_seconds = min(pause_seconds * 2, _MAX_RETRY_SECONDS)
        return False

    def _replace_connection(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connection = connection
            if self._closing.is_set():
                _shut_down_writing(connection)


def _connect_or_start(directory: DataDirectory) -> tuple[socket.socket, str]:
    """Return a connection to the supervisor of a ready server, and the folder of its sockets."""
    retries = _Retries(directory)
    while True:
        lock = Lock.try_acquire(directory)
        connection = _start_supervisor(directory, lock) if lock else _connect(directory)
        if connection is not None:
            socket_folder = _wait_until_ready(connection)
            if socket_folder is not None:
                return connection, socket_folder
        retries.wait_or_raise(started=lock is not None)


def _connect_to_existing_data(directory: DataDirectory) -> socket.socket:
    """Connect as `_connect_or_start` does; raise `DataDirectoryError` if the data is gone.

    Without this check, data that was removed would come back as an empty database.
    """
    if not (directory.cluster / "PG_VERSION").exists():
        raise DataDirectoryError(f"{directory.cluster} is gone")
    return _connect_or_start(directory)[0]


class _Retries:
    """Decides how long to retry while no supervisor accepts us: one may be starting or ending."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._first_state = read_lock_state(directory)
        self._starts = 0
        self._waited_seconds = 0.0

    def wait_or_raise(self, *, started: bool) -> None:
        """Wait for a moment; raise `DataDirectoryError` if waiting longer cannot help.

        `started` says that the attempt before started a supervisor.
        """
        self._starts += started
        if self._starts >= _MAX_STARTS:
            raise DataDirectoryError(
                f"the supervisor of PostgreSQL was ended while it began: see {self._directory.log}"
            )
        state = read_lock_state(self._directory)
        if state.holder != self._first_state.holder:
            self._first_state = state
        elif state != self._first_state and state.holder and state.holder.is_on_other_machine:
            raise DataDirectoryError(
                f"{self._directory.path} is in use by another machine: {state.holder}"
            )
        if self._waited_seconds > _SUPERVISOR_TIMEOUT_SECONDS:
            raise DataDirectoryError(
                f"{self._directory.path} is in use by {state.holder or 'a process'}, "
                "which does not answer"
            )
        time.sleep(_RETRY_SECONDS)
        self._waited_seconds += _RETRY_SECONDS


def _start_supervisor(directory: DataDirectory, lock: Lock) -> socket.socket:
    """Start a supervisor, which takes over the lock; return our connection to it.

    Return when the supervisor runs as a daemon. Raise `DataDirectoryError` if it cannot start.
    """
    ours, theirs = socket.socketpair()
    try:
        command = [sys.executable, "-P", "-m", _SUPERVISOR, str(directory.path)]
        command += [str(theirs.fileno()), str(lock.descriptor)]
        command += [str(data_directory.HEARTBEAT_SECONDS)]
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_build_environment(),
            pass_fds=[theirs.fileno(), lock.descriptor],
            # Ctrl-C in the terminal is for the service only, which still finishes its requests.
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


def _build_environment() -> dict[str, str]:
    """Return the variables that Python and PostgreSQL need.

    Secrets are left out: the supervisor may run for years, and its environment is readable.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_VARIABLES or name.startswith(_PASSED_PREFIXES)
    }


def _connect(directory: DataDirectory) -> socket.socket | None:
    """Return a connection to the running supervisor, or None if none accepts it.

    Raise `DataDirectoryError` if the supervisor's socket belongs to another user.
    """
    holder = read_lock_state(directory).holder
    if holder is None or holder.is_on_other_machine:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"{holder.socket_folder}/{CONTROL_SOCKET}")
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise DataDirectoryError(f"{directory.path} is in use by {holder}") from error
        return None
    return connection


def _wait_until_ready(connection: socket.socket) -> str | None:
    """Wait for the supervisor's line; return the folder of the sockets.

    Return None if the supervisor ended without a line. Raise `DataDirectoryError` if it reports an
    error. The connection stays open only if a folder is returned.
    """
    try:
        status, _, text = _read_line(connection).partition(" ")
    except BaseException:
        connection.close()  # after Ctrl-C too: the supervisor must not count us as a client
        raise
    if status == "ready":
        return text
    connection.close()
    if status == "error":
        raise DataDirectoryError(text)
    return None


def _read_line(connection: socket.socket) -> str:
    """Return one line without its end; an empty string if the supervisor ended before it."""
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
