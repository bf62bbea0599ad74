"""PostgreSQL's data directory: made, checked, and the server on it started.

Every program is started with a copy of the lock's descriptor, so that the directory stays locked
until the last process that may write to it has ended, whatever became of the supervisor.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.data_directory import (
    PORT,
    DataDirectory,
    DataDirectoryError,
    get_user_name,
)
from imageapi.embedded_postgres.privileges import Account, die_with

NAME = "imageapi"
"""The database, and its superuser."""

_LOG_LIMIT_BYTES = 8_000_000
_KEPT_VARIABLES = ("PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_CHILD = re.compile(rb"postgres: (.*: )?(\w+)").match  # with the cluster's name, if it has one
_STATUS_LINE = 7  # of postmaster.pid, counted from 0: where `pg_ctl --wait` looks too


class Log:
    """The file that the server writes to, opened by whoever may, and kept open."""

    def __init__(self, directory: DataDirectory) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(directory.log, flags, 0o600)
        self._marked = 0

    def mark(self) -> None:
        """Begins what `read_last_error` looks at; empties a log that has become long."""
        self.shorten()
        self._marked = os.fstat(self.descriptor).st_size

    def shorten(self) -> None:
        """Empties a log that has become long."""
        if os.fstat(self.descriptor).st_size > _LOG_LIMIT_BYTES:
            os.ftruncate(self.descriptor, 0)

    def read_last_error(self) -> str:
        """Why a program has ended, as the last complaint since `mark` tells it."""
        text = os.pread(self.descriptor, 1_000_000, self._marked).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        for sign in ("FATAL:", "PANIC:", "error:"):
            for line in reversed(lines):
                # What it tells clients who come while it starts or stops is no reason.
                if sign in line and "the database system is" not in line:
                    return line.split(sign, 1)[1].strip()
        return lines[-1].strip() if lines else "it said nothing"


class Cluster:
    """One data directory of PostgreSQL's, under a lock that the caller holds."""

    def __init__(self, directory: DataDirectory, programs: Binaries, lock: int, log: Log) -> None:
        self._directory = directory
        self._programs = programs
        self._lock = lock
        self._log = log

    @property
    def exists(self) -> bool:
        """Whether there is a whole data directory."""
        return (self._directory.cluster / "PG_VERSION").exists()

    def check(self, account: Account | None) -> None:
        """Raises `DataDirectoryError` where it is another user's or another version's."""
        path = self._directory.cluster
        owner, runs_as = path.stat().st_uid, account.uid if account else os.geteuid()
        if owner != runs_as:
            raise DataDirectoryError(
                f"{path} belongs to user {get_user_name(owner)}, not to {get_user_name(runs_as)}"
            )
        made_by = (path / "PG_VERSION").read_text(encoding="utf-8").strip()
        if made_by != str(self._programs.major):
            raise DataDirectoryError(
                f"{path} was made by PostgreSQL {made_by} and the installed one is "
                f"{self._programs.major}: use the version of Image API that made it, export the "
                "albums with that, and import them into a new data directory"
            )

    def make(self, account: Account | None, wait: Callable[[subprocess.Popen[bytes]], int]) -> None:
        """Makes it, aside, and moves it to its place when it is whole; `wait` awaits a program.

        Raises `DataDirectoryError`.
        """
        runs_as = account.uid if account else os.geteuid()
        if get_user_name(runs_as) == str(runs_as):
            raise DataDirectoryError(
                f"{self._directory.path}: PostgreSQL wants a name for the user it runs as, and "
                f"number {runs_as} has none here: add it to /etc/passwd"
            )
        unfinished = self._directory.unfinished_cluster
        if unfinished.exists():
            shutil.rmtree(unfinished)  # of a run that was killed: we hold the lock
        unfinished.mkdir(mode=0o700)
        if account:
            os.chown(unfinished, account.uid, account.gid)
        for command, said in (self._initdb(unfinished), self._create_database(unfinished)):
            self._log.mark()
            program = self._launch(command, account, said)
            if wait(program) != 0:
                raise DataDirectoryError(f"{self._directory.path}: {self._log.read_last_error()}")
        self._move_into_place(unfinished)

    def start(self, sockets: Path) -> subprocess.Popen[bytes]:
        """Starts the server; it is up when `is_ready` says so, or has ended."""
        self._forget_stale_socket(sockets)
        self._log.mark()
        settings = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": f'"{sockets}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_checkpoints": "off",
            "log_destination": "stderr",
        }
        command = [str(self._programs.postgres), "-D", str(self._directory.cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return self._launch(command, None)

    def is_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Whether this server, and no other, accepts connections."""
        lines = _read_lines(self._directory.cluster / "postmaster.pid")
        ready = len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready"
        return ready and lines[0] == str(server.pid)

    def is_stuck(self, server: subprocess.Popen[bytes]) -> bool:
        """Whether this server neither recovers nor writes, nor is it being stopped (Linux).

        PostgreSQL 18 stays so now and then where its disk is full when it recovers from a crash:
        it waits for a recovery that has ended.
        """
        lines = _read_lines(self._directory.cluster / "postmaster.pid")
        if len(lines) <= _STATUS_LINE or lines[_STATUS_LINE].strip() == "stopping":
            return False
        names = {match[2] for title in _read_child_titles(server.pid) if (match := _CHILD(title))}
        return b"checkpointer" in names and names.isdisjoint({b"startup", b"walwriter"})

    def explain_end(self, server: subprocess.Popen[bytes]) -> DataDirectoryError:
        """What to tell the operator after the server ended unasked."""
        reason = self._log.read_last_error()
        if server.returncode < 0:
            reason = f"signal {-server.returncode} ended it"
        if "pre-existing shared memory block" in reason or "already exists" in reason:
            return DataDirectoryError(
                f"another PostgreSQL server, not started by Image API, runs on "
                f"{self._directory.cluster}: stop it first"
            )
        return DataDirectoryError(
            f"PostgreSQL does not start on {self._directory.cluster}: {reason}"
        )

    def _initdb(self, unfinished: Path) -> tuple[list[str], bytes]:
        command = [str(self._programs.initdb), "-D", str(unfinished), "--username", NAME]
        command += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # The folder of the sockets is its owner's alone: that is the guard.
        command += ["--auth-local=trust", "--auth-host=reject"]
        return command, b""

    def _create_database(self, unfinished: Path) -> tuple[list[str], bytes]:
        command = [str(self._programs.postgres), "--single", "-D", str(unfinished)]
        command += ["-c", "log_checkpoints=off", "-c", "exit_on_error=on", "postgres"]
        return command, f"CREATE DATABASE {NAME};\n".encode()

    def _move_into_place(self, unfinished: Path) -> None:
        try:
            unfinished.rename(self._directory.cluster)
        except OSError as error:
            raise DataDirectoryError(
                f"{self._directory.cluster} is there already, and is no data directory of "
                f"PostgreSQL's: {error.strerror}"
            ) from error
        descriptor = os.open(self._directory.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _launch(
        self, command: list[str], account: Account | None, said: bytes = b""
    ) -> subprocess.Popen[bytes]:
        supervisor = os.getpid()

        def enter() -> None:
            if account:
                account.become()
            die_with(supervisor)

        program = subprocess.Popen(
            command,
            cwd="/",
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=self._log.descriptor,
            stderr=self._log.descriptor,
            pass_fds=[self._lock],
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509 - the supervisor has one thread
        )
        if program.stdin is not None:
            program.stdin.write(said)  # a line: a pipe takes more than that without a reader
            program.stdin.close()
        return program

    def _environment(self) -> dict[str, str]:
        """What PostgreSQL is told of ours: no secret, none of its own variables (PGPORT, …)."""
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        # A pid file left behind may bear a number that is some other process's by now, and
        # PostgreSQL would not start. A server of ours would hold the lock, so that process is
        # none. PostgreSQL passes over the number of its grandparent, and still looks whether
        # its shared memory is in use: a server that was started by hand stays safe.
        stale = _read_pid(self._directory.cluster / "postmaster.pid")
        return kept | {"LC_ALL": "C"} | ({"PG_GRANDPARENT_PID": stale} if stale else {})

    def _forget_stale_socket(self, sockets: Path) -> None:
        """Removes the socket of a server whose data directory knows nothing of it any more."""
        lock = sockets / f".s.PGSQL.{PORT}.lock"
        if _read_pid(lock) != _read_pid(self._directory.cluster / "postmaster.pid"):
            lock.unlink(missing_ok=True)
            (sockets / f".s.PGSQL.{PORT}").unlink(missing_ok=True)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _read_child_titles(pid: int) -> list[bytes]:
    """What the children of a process call themselves; nothing where the system does not tell."""
    titles = []
    for child in _read_lines(Path(f"/proc/{pid}/task/{pid}/children")):
        for number in child.split():
            with contextlib.suppress(OSError):  # it has ended
                titles.append(Path(f"/proc/{number}/cmdline").read_bytes())
    return titles


def _read_pid(path: Path) -> str | None:
    first = next(iter(_read_lines(path)), "").strip().lstrip("-")
    return first if first.isdigit() else None
