"""The process between those who use the embedded PostgreSQL and the server itself.

`python -m imageapi.embedded_postgres.supervisor DATA_DIR CONNECTION LOCK BEAT_SECONDS` is started
by the first user, who hands over the locked lock file and one end of a connection (numbers of open
descriptors). It stays for as long as there are users (`attendance` says how they are counted),
starts the server again where it ends by itself, and stops it cleanly when the last has left.
Signals that ask a process to end are for its users: they leave, and it follows. Where it is
killed outright the system interrupts the server, which stops cleanly (Linux).
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
    read_holder,
)
from imageapi.embedded_postgres.privileges import Account, choose_account

_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.005, 0.1
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.05, 5.0
_STUCK_SECONDS = 5.0
_MAX_QUIET_FAILURES = 6
"""So often a server that ran, or was killed, may fail before those who wait are told so."""


class Supervisor:
    """Runs the server of one data directory, whose lock it holds, for its users."""

    def __init__(
        self, directory: DataDirectory, lock: Lock, users: ConnectedClients, beat_seconds: float
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._users = users
        self._beat_seconds = beat_seconds
        self._next_beat = 0.0
        self._stuck_since = math.inf

    def run(self) -> None:
        """Serves until the last user has left. Raises `DataDirectoryError`, `OSError`."""
        self._wait_for_other_machine()
        programs = Binaries.found()
        account = choose_account(self._directory, [programs.postgres, programs.initdb])
        if account and account.uid == self._directory.path.stat().st_uid:
            # In a user's directory nothing is done as root, nor can a link there lure us.
            account.become()
            account = None
        self._sockets = self._directory.sockets(account.uid if account else os.geteuid())
        self._log = Log(self._directory)
        os.dup2(self._log.descriptor, sys.stderr.fileno())
        self._cluster = Cluster(self._directory, programs, self._lock.descriptor, self._log)
        try:
            self._settle(account)
            self._serve()
        finally:
            self._clean_up()

    def _wait_for_other_machine(self) -> None:
        """Makes sure that a holder named in the file, on another machine, is gone."""
        first = read_holder(self._directory)
        if first.holder is None or not first.holder.elsewhere:
            return
        deadline = time.monotonic() + 2.5 * self._beat_seconds
        while self._users and time.monotonic() < deadline:
            self._poll(self._beat_seconds / 5)
            if read_holder(self._directory) != first:
                raise DataDirectoryError(
                    f"{self._directory.path} is in use by another machine: {first.holder}"
                )

    def _settle(self, account: Account | None) -> None:
        """Readies all that the server needs; from then on we are whoever it runs as."""
        _make_private(self._sockets, account)
        self._lock.claim(self._sockets)
        self._users.listen(self._sockets)
        if not self._cluster.exists:
            self._cluster.make(account, self._wait)
        self._cluster.check(account)
        if account:
            os.fchown(self._log.descriptor, account.uid, account.gid)
            account.become()

    def _serve(self) -> None:
        failures, has_run, was_killed = 0, False, False
        while self._users:
            server = self._cluster.start(self._sockets)
            try:
                if self._await_ready(server):
                    failures, has_run = 0, True
                    self._users.announce_ready(self._sockets)
                while self._users and server.poll() is None:
                    self._poll()
                    self._end_if_stuck(server)
            finally:
                self._users.stop_announcing()
                self._stop(server)
            if self._users:
                failures += 1
                was_killed = was_killed or server.returncode < 0
                self._back_off_or_raise(
                    server, failures, has_run=has_run, may_recover=has_run or was_killed
                )

    def _await_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Waits for as long as a recovery takes; False where the server or all users went."""
        look = _MIN_POLL_SECONDS
        while self._users and server.poll() is None:
            if self._cluster.is_ready(server):
                return True
            self._poll(look)
            look = min(look * 1.2, _MAX_POLL_SECONDS)
        return False

    def _end_if_stuck(self, server: subprocess.Popen[bytes]) -> None:
        """Kill the server where it has been stuck for so long that it will not get on."""
        if not self._cluster.is_stuck(server):
            self._stuck_since = math.inf
            return
        self._stuck_since = min(self._stuck_since, time.monotonic())
        if time.monotonic() - self._stuck_since > _STUCK_SECONDS:
            server.kill()
            self._wait(server)

    def _back_off_or_raise(
        self, server: subprocess.Popen[bytes], failures: int, *, has_run: bool, may_recover: bool
    ) -> None:
        """Pauses before the server is started again, or raises where that cannot help."""
        reason = self._cluster.explain_end(server)
        is_stubborn = failures > _MAX_QUIET_FAILURES
        if not may_recover or not self._cluster.exists or (is_stubborn and not has_run):
            raise reason
        if is_stubborn:
            self._users.refuse(str(reason))
        # Processes of a server that was killed may take a moment to notice and end.
        pause = min(_MIN_PAUSE_SECONDS * 2 ** min(failures - 1, 10), _MAX_PAUSE_SECONDS)
        deadline = time.monotonic() + pause
        while self._users and time.monotonic() < deadline:
            self._poll(deadline - time.monotonic())

    def _stop(self, server: subprocess.Popen[bytes]) -> None:
        if server.poll() is None:
            self._users.stop_listening()
            server.send_signal(signal.SIGINT)  # a fast shutdown: sessions end, data is written
            self._wait(server)

    def _clean_up(self) -> None:
        self._users.stop_listening()
        if self._sockets.parent != self._directory.path:
            with contextlib.suppress(OSError):  # not empty: a server of somebody else's is there
                self._sockets.rmdir()

    def _wait(self, program: subprocess.Popen[bytes]) -> int:
        while (status := program.poll()) is None:
            self._poll()
        return status

    def _poll(self, seconds: float = 60.0) -> None:
        """Attends to the users, and keeps telling other machines that we are here."""
        if self._lock.is_claimed and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._beat_seconds
            with contextlib.suppress(OSError):  # a disk that is full may have room again later
                self._lock.beat()
                self._log.shorten()
                os.utime(self._sockets)  # lest a cleaner of temporary files takes it for old
        until_beat = self._next_beat - time.monotonic() if self._lock.is_claimed else seconds
        self._users.poll(min(seconds, until_beat))


def _make_private(sockets: Path, account: Account | None) -> None:
    """Makes the folder of the sockets, or takes the one that is there if it is safe to."""
    owner = account.uid if account else os.geteuid()
    with contextlib.suppress(FileExistsError):
        sockets.mkdir(mode=0o700)
        if account:
            os.chown(sockets, account.uid, account.gid, follow_symlinks=False)
    found = sockets.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise DataDirectoryError(
            f"{sockets} is not a folder of user {get_user_name(owner)}: remove it"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        sockets.chmod(0o700)


def supervise(directory: DataDirectory, lock: Lock, first: socket.socket, beat: float) -> None:
    """Runs the server for its users and tells those who wait why it cannot be, if it cannot."""
    users = ConnectedClients(first)
    try:
        Supervisor(directory, lock, users, beat).run()
    except DataDirectoryError as error:
        users.refuse(str(error))
    except OSError as error:
        users.refuse(str(directory.failure(error)))
    finally:
        lock.release()
        users.close()


def main(arguments: list[str]) -> None:
    """Leaves the process that started us, its terminal and its directory, and supervises."""
    data_dir, connection, lock, beat_seconds = arguments
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: None)
    if os.fork() != 0:
        os._exit(0)  # our parent waits for this process alone, and init for the other one
    os.chdir("/")
    os.umask(0o077)
    os.dup2(sys.stdin.fileno(), sys.stderr.fileno())
    first = socket.socket(fileno=int(connection))
    supervise(DataDirectory(Path(data_dir)), Lock(int(lock)), first, float(beat_seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
