"""Create and check PostgreSQL's own data directory, and start the server on it.

Each program inherits a copy of the lock's descriptor. So the directory stays locked until the last
process that can write to it has ended, even if the supervisor was killed before.
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
from imageapi.embedded_postgres.privileges import Account, interrupt_when_parent_ends

DATABASE_NAME = "imageapi"
"""The name of the database and of its superuser."""

_LOG_LIMIT_BYTES = 8_000_000
_PASSED_VARIABLES = ("PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_match_child_title = re.compile(rb"postgres: (.*: )?(\w+)").match  # group 1: cluster_name, if set
_STATUS_LINE = 7  # of postmaster.pid, counted from 0; `pg_ctl --wait` reads it too


class Log:
    """The log file of PostgreSQL's programs.

    It is opened once, while the supervisor may have root's rights, and stays open.
    """

    def __init__(self, directory: DataDirectory) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(directory.log, flags, 0o600)
        self._section_start = 0

    def start_section(self) -> None:
        """Start the section that `read_last_error` reads; first empty a log that is too large."""
        self.empty_if_large()
        self._section_start = os.fstat(self.descriptor).st_size

    def empty_if_large(self) -> None:
        """Empty the log if it is larger than 8 MB."""
        if os.fstat(self.descriptor).st_size > _LOG_LIMIT_BYTES:
            os.ftruncate(self.descriptor, 0)

    def read_last_error(self) -> str:
        """Return the last error of the current section: why a program has ended."""
        text = os.pread(self.descriptor, 1_000_000, self._section_start).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        for severity in ("FATAL:", "PANIC:", "error:"):
            for line in reversed(lines):
                # "the database system is starting up" and the like answer clients: no reason.
                if severity in line and "the database system is" not in line:
                    return line.split(severity, 1)[1].strip()
        return lines[-1].strip() if lines else "it said nothing"


class Cluster:
    """PostgreSQL's own data directory; the caller holds the lock on the directory around it."""

    def __init__(
        self, directory: DataDirectory, binaries: Binaries, lock_descriptor: int, log: Log
    ) -> None:
        self._directory = directory
        self._binaries = binaries
        self._lock_descriptor = lock_descriptor
        self._log = log

    @property
    def exists(self) -> bool:
        """Whether there is a complete data directory."""
        return (self._directory.cluster / "PG_VERSION").exists()

    def check_owner_and_version(self, account: Account | None) -> None:
        """Raise `DataDirectoryError` if another user or another major version created it."""
        path = self._directory.cluster
        owner_uid, server_uid = path.stat().st_uid, account.uid if account else os.geteuid()
        if owner_uid != server_uid:
            raise DataDirectoryError(
                f"{path} belongs to user {get_user_name(owner_uid)}, "
                f"not to {get_user_name(server_uid)}"
            )
        data_major = (path / "PG_VERSION").read_text(encoding="utf-8").strip()
        if data_major != str(self._binaries.major):
            raise DataDirectoryError(
                f"{path} was made by PostgreSQL {data_major} and the installed one is "
                f"{self._binaries.major}: use the version of Image API that made it, export the "
                "albums with that, and import them into a new data directory"
            )

    def create(
        self, account: Account | None, wait: Callable[[subprocess.Popen[bytes]], int]
    ) -> None:
        """Create the data directory and the database in it; `wait` waits for a program to end.

        It is built under another name and renamed when it is complete, so that an interruption
        never leaves half of one. Raise `DataDirectoryError` if a program fails.
        """
        server_uid = account.uid if account else os.geteuid()
        if get_user_name(server_uid) == str(server_uid):
            raise DataDirectoryError(
                f"{self._directory.path}: PostgreSQL wants a name for the user it runs as, and "
                f"number {server_uid} has none here: add it to /etc/passwd"
            )
        unfinished = self._directory.unfinished_cluster
        if unfinished.exists():
            shutil.rmtree(unfinished)  # left by a run that was killed: we hold the lock
        unfinished.mkdir(mode=0o700)
        if account:
            os.chown(unfinished, account.uid, account.gid)
        initdb = self._build_initdb_command(unfinished)
        create_database = self._build_single_user_command(unfinished)
        sql = f"CREATE DATABASE {DATABASE_NAME};\n".encode()
        for command, stdin in ((initdb, b""), (create_database, sql)):
            self._log.start_section()
            program = self._launch(command, account, stdin)
            if wait(program) != 0:
                raise DataDirectoryError(f"{self._directory.path}: {self._log.read_last_error()}")
        self._move_into_place(unfinished)

    def start(self, socket_folder: Path) -> subprocess.Popen[bytes]:
        """Start the server and return its process; poll `is_ready` until it is up or has ended."""
        self._remove_stale_socket(socket_folder)
        self._log.start_section()
        settings = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": f'"{socket_folder}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_checkpoints": "off",
            "log_destination": "stderr",
        }
        command = [str(self._binaries.postgres), "-D", str(self._directory.cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return self._launch(command, None)

    def is_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Whether this server accepts connections, and not another one on the same data."""
        lines = _read_lines(self._directory.cluster / "postmaster.pid")
        ready = len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready"
        return ready and lines[0] == str(server.pid)

    def is_stuck(self, server: subprocess.Popen[bytes]) -> bool:
        """Whether this server hangs after crash recovery (Linux; elsewhere always False).

        It runs a checkpointer but neither a startup process, which recovers, nor a WAL writer, and
        it is not stopping. PostgreSQL 18 sometimes hangs like this after crash recovery on a full
        disk: it waits for a startup process that has already exited.
        """
        lines = _read_lines(self._directory.cluster / "postmaster.pid")
        if len(lines) <= _STATUS_LINE or lines[_STATUS_LINE].strip() == "stopping":
            return False
        names = {
            match[2]
            for title in _read_child_titles(server.pid)
            if (match := _match_child_title(title))
        }
        return b"checkpointer" in names and names.isdisjoint({b"startup", b"walwriter"})

    def explain_end(self, server: subprocess.Popen[bytes]) -> DataDirectoryError:
        """Return the error to show the operator after the server ended by itself."""
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

    def _build_initdb_command(self, unfinished: Path) -> list[str]:
        command = [str(self._binaries.initdb), "-D", str(unfinished), "--username", DATABASE_NAME]
        command += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # Only the owner can enter the folder of the sockets: no password is needed besides.
        command += ["--auth-local=trust", "--auth-host=reject"]
        return command

    def _build_single_user_command(self, unfinished: Path) -> list[str]:
        command = [str(self._binaries.postgres), "--single", "-D", str(unfinished)]
        command += ["-c", "log_checkpoints=off", "-c", "exit_on_error=on", "postgres"]
        return command

    def _move_into_place(self, unfinished: Path) -> None:
        try:
            unfinished.rename(self._directory.cluster)
        except OSError as error:
            raise DataDirectoryError(
                f"{self._directory.cluster} is there already, and is no data directory of "
                f"PostgreSQL's: {error.strerror}"
            ) from error
        descriptor = os.open(self._directory.path, os.O_RDONLY)
        os.fsync(descriptor)  # make the rename durable
        os.close(descriptor)

    def _launch(
        self, command: list[str], account: Account | None, stdin: bytes = b""
    ) -> subprocess.Popen[bytes]:
        supervisor_pid = os.getpid()

        def prepare_child() -> None:
            if account:
                account.become()
            interrupt_when_parent_ends(supervisor_pid)

        program = subprocess.Popen(
            command,
            cwd="/",
            env=self._build_environment(),
            stdin=subprocess.PIPE,
            stdout=self._log.descriptor,
            stderr=self._log.descriptor,
            pass_fds=[self._lock_descriptor],
            start_new_session=True,
            preexec_fn=prepare_child,  # noqa: PLW1509 - the supervisor has one thread
        )
        if program.stdin is not None:
            program.stdin.write(stdin)  # does not block: one line fits into the pipe's buffer
            program.stdin.close()
        return program

    def _build_environment(self) -> dict[str, str]:
        """Return the variables for PostgreSQL: no secret, and none of its own (PGPORT, …)."""
        passed = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        # The pid in a postmaster.pid that was left behind may now belong to another process, and
        # PostgreSQL would refuse to start. That process cannot be a server of ours, which would
        # hold the lock. PostgreSQL ignores the pid of its grandparent, so we pass the stale one as
        # that. It still checks whether the shared memory is in use, so a server that somebody
        # started by hand is safe.
        stale_pid = _read_pid(self._directory.cluster / "postmaster.pid")
        grandparent = {"PG_GRANDPARENT_PID": stale_pid} if stale_pid else {}
        return passed | {"LC_ALL": "C"} | grandparent

    def _remove_stale_socket(self, socket_folder: Path) -> None:
        """Remove a socket, and its lock file, whose pid is not the one in postmaster.pid."""
        socket_lock = socket_folder / f".s.PGSQL.{PORT}.lock"
        if _read_pid(socket_lock) != _read_pid(self._directory.cluster / "postmaster.pid"):
            socket_lock.unlink(missing_ok=True)
            (socket_folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _read_child_titles(pid: int) -> list[bytes]:
    """Return the titles of a process's children; an empty list on systems without /proc."""
    titles = []
    for child in _read_lines(Path(f"/proc/{pid}/task/{pid}/children")):
        for number in child.split():
            with contextlib.suppress(OSError):  # this child has ended meanwhile
                titles.append(Path(f"/proc/{number}/cmdline").read_bytes())
    return titles


def _read_pid(path: Path) -> str | None:
    """Return the pid in the first line, without the minus sign of single-user mode; else None."""
    pid = next(iter(_read_lines(path)), "").strip().lstrip("-")
    return pid if pid.isdigit() else None
