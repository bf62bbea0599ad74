"""The supervisor: the process between the clients of the embedded PostgreSQL and its server.

    python -m imageapi.embedded_postgres.supervisor DATA_DIR CONNECTION LOCK HEARTBEAT_SECONDS

The first client starts it and passes two open descriptors: one end of a connection to itself, and
the locked lock file. The supervisor

- runs while at least one client is connected (see `connected_clients`);
- starts the server again if it ends by itself;
- stops the server cleanly after the last client has disconnected;
- ignores SIGINT, SIGTERM and SIGHUP: they are for the clients, and it ends after them.

If the supervisor is killed, the system sends SIGINT to the server, which then stops cleanly
(Linux).
"""

import contextlib
import math
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.cluster import Cluster, Log
from imageapi.embedded_postgres.connected_clients import ConnectedClients
from imageapi.embedded_postgres.data_directory import (
    DataDirectory,
    DataDirectoryError,
    Lock,
    get_user_name,
    read_lock_state,
)
from imageapi.embedded_postgres.privileges import Account, choose_account

_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.005, 0.1
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.05, 5.0
_STUCK_SECONDS = 5.0
"""How long a server may look stuck before it is killed."""

_MAX_QUIET_FAILURES = 6
"""How often a server that ran before, or was killed, may fail before waiting clients are refused.
"""


class Supervisor:
    """Runs the server of one data directory for its clients, and holds the directory's lock."""

    def __init__(
        self,
        directory: DataDirectory,
        lock: Lock,
        clients: ConnectedClients,
        heartbeat_seconds: float,
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._clients = clients
        self._heartbeat_seconds = heartbeat_seconds
        self._next_heartbeat = 0.0
        self._stuck_since = math.inf

    def run(self) -> None:
        """Run the server until the last client has disconnected, then stop it.

        Raise `DataDirectoryError` or `OSError` if it cannot run.
        """
        self._wait_for_other_machine()
        binaries = Binaries.locate()
        account = choose_account(self._directory, [binaries.postgres, binaries.initdb])
        if account and account.uid == self._directory.path.stat().st_uid:
            # Do nothing as root in a user's directory: a symbolic link there could trick us.
            account.become()
            account = None
        server_uid = account.uid if account else os.geteuid()
        self._socket_folder = self._directory.get_socket_folder(server_uid)
        self._log = Log(self._directory)
        os.dup2(self._log.descriptor, sys.stderr.fileno())
        self._cluster = Cluster(self._directory, binaries, self._lock.descriptor, self._log)
        try:
            self._prepare(account)
            self._run_server()
        finally:
            self._clean_up()

    def _wait_for_other_machine(self) -> None:
        """Return if the lock file names no holder on another machine, or one that is gone.

        Watch the file for two and a half heartbeats; raise `DataDirectoryError` if it changes.
        """
        first_state = read_lock_state(self._directory)
        if first_state.holder is None or not first_state.holder.is_on_other_machine:
            return
        deadline = time.monotonic() + 2.5 * self._heartbeat_seconds
        while self._clients and time.monotonic() < deadline:
            self._poll(self._heartbeat_seconds / 5)
            if read_lock_state(self._directory) != first_state:
                raise DataDirectoryError(
                    f"{self._directory.path} is in use by another machine: {first_state.holder}"
                )

    def _prepare(self, account: Account | None) -> None:
        """Create all that the server needs; then switch to the user that the server runs as."""
        _create_socket_folder(self._socket_folder, account)
        self._lock.write_holder(self._socket_folder)
        self._clients.listen(self._socket_folder)
        if not self._cluster.exists:
            self._cluster.create(account, self._wait_for_end)
        self._cluster.check_owner_and_version(account)
        if account:
            os.fchown(self._log.descriptor, account.uid, account.gid)
            account.become()

    def _run_server(self) -> None:
        failures, has_run, was_killed = 0, False, False
        while self._clients:
            server = self._cluster.start(self._socket_folder)
            try:
                if self._wait_until_ready(server):
                    failures, has_run = 0, True
                    self._clients.announce_ready(self._socket_folder)
                while self._clients and server.poll() is None:
                    self._poll()
                    self._kill_if_stuck(server)
            finally:
                self._clients.stop_announcing()
                self._stop_server(server)
            if self._clients:
                failures += 1
                was_killed = was_killed or server.returncode < 0
                self._back_off_or_raise(
                    server, failures, has_run=has_run, may_recover=has_run or was_killed
                )

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Wait without a time limit, since crash recovery can take long.

        Return False if the server ended, or all clients disconnected, before it was ready.
        """
        poll_seconds = _MIN_POLL_SECONDS
        while self._clients and server.poll() is None:
            if self._cluster.is_ready(server):
                return True
            self._poll(poll_seconds)
            poll_seconds = min(poll_seconds * 1.2, _MAX_POLL_SECONDS)
        return False

    def _kill_if_stuck(self, server: subprocess.Popen[bytes]) -> None:
        """Kill the server if it has been stuck for `_STUCK_SECONDS`; it is then started again."""
        if not self._cluster.is_stuck(server):
            self._stuck_since = math.inf
            return
        self._stuck_since = min(self._stuck_since, time.monotonic())
        if time.monotonic() - self._stuck_since > _STUCK_SECONDS:
            server.kill()
            self._wait_for_end(server)

    def _back_off_or_raise(
        self, server: subprocess.Popen[bytes], failures: int, *, has_run: bool, may_recover: bool
    ) -> None:
        """Pause before the server is started again; raise its error if another start cannot help.

        The pauses double. After several failures, clients that wait are refused with the error.
        """
        reason = self._cluster.explain_end(server)
        fails_repeatedly = failures > _MAX_QUIET_FAILURES
        if not may_recover or not self._cluster.exists or (fails_repeatedly and not has_run):
            raise reason
        if fails_repeatedly:
            self._clients.refuse(str(reason))
        # After a server was killed, its child processes need a moment to notice that and end.
        pause_seconds = min(_MIN_PAUSE_SECONDS * 2 ** min(failures - 1, 10), _MAX_PAUSE_SECONDS)
        deadline = time.monotonic() + pause_seconds
        while self._clients and time.monotonic() < deadline:
            self._poll(deadline - time.monotonic())

    def _stop_server(self, server: subprocess.Popen[bytes]) -> None:
        if server.poll() is None:
            self._clients.stop_listening()
            server.send_signal(signal.SIGINT)  # fast shutdown: end sessions, write data to disk
            self._wait_for_end(server)

    def _clean_up(self) -> None:
        self._clients.stop_listening()
        if self._socket_folder.parent != self._directory.path:
            with contextlib.suppress(OSError):  # not empty: a server that is not ours uses it
                self._socket_folder.rmdir()

    def _wait_for_end(self, program: subprocess.Popen[bytes]) -> int:
        while (status := program.poll()) is None:
            self._poll()
        return status

    def _poll(self, seconds: float = 60.0) -> None:
        """Wait for events of clients and children, and write the heartbeat when it is due."""
        if self._lock.names_us and time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + self._heartbeat_seconds
            with contextlib.suppress(OSError):  # the disk may be full now and have space later
                self._lock.write_heartbeat()
                self._log.empty_if_large()
                # Touch the folder: programs that clean /tmp delete what is old.
                os.utime(self._socket_folder)
        if self._lock.names_us:
            seconds = min(seconds, self._next_heartbeat - time.monotonic())
        self._clients.poll(seconds)


def _create_socket_folder(folder: Path, account: Account | None) -> None:
    """Create the folder of the sockets with mode 0700, or use one that exists.

    Raise `DataDirectoryError` if what exists is a link or a file, or belongs to another user.
    """
    owner_uid = account.uid if account else os.geteuid()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner_uid:
        raise DataDirectoryError(
            f"{folder} is not a folder of user {get_user_name(owner_uid)}: remove it"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def supervise(
    directory: DataDirectory, lock: Lock, first_client: socket.socket, heartbeat_seconds: float
) -> None:
    """Run the server for its clients; if it cannot run, send the reason to those that wait."""
    clients = ConnectedClients(first_client)
    try:
        Supervisor(directory, lock, clients, heartbeat_seconds).run()
    except DataDirectoryError as error:
        clients.refuse(str(error))
    except OSError as error:
        clients.refuse(str(directory.translate_os_error(error)))
    finally:
        lock.release()
        clients.close()


def main(arguments: list[str]) -> None:
    """Become a daemon and supervise: detach from the parent, its terminal and its directory."""
    data_dir, connection, lock, heartbeat_seconds = arguments
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, lambda *_: None)
    if os.fork() != 0:
        os._exit(0)  # the client waits for this process only; init will reap its child
    os.chdir("/")
    os.umask(0o077)
    os.dup2(sys.stdin.fileno(), sys.stderr.fileno())
    first_client = socket.socket(fileno=int(connection))
    supervise(
        DataDirectory(Path(data_dir)), Lock(int(lock)), first_client, float(heartbeat_seconds)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
