"""Processes around the embedded server: users of it, those who run it, their accounts."""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from imageapi.embedded_postgres.binaries import Binaries
from imageapi.embedded_postgres.data_directory import DataDirectory, read_lock_state
from imageapi.embedded_postgres.privileges import (
    _HAS_ACCESS,
    Account,
    _check_access_as,
    _find_permitted_capability,
    _prctl,
)

PROGRAMS = Binaries.locate()
IS_ROOT = os.geteuid() == 0
_SCRIPT = Path(__file__).with_name("embedded_user.py")
_MOST_SECONDS = 60.0


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until it holds; fails after a minute."""
    deadline = time.monotonic() + _MOST_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def ordinary(which: int) -> Account:
    """An account that is neither root's nor nobody's, able to run what the tests run."""
    others = sorted(p.pw_uid for p in pwd.getpwall() if p.pw_uid and p.pw_name != "nobody")
    entry = pwd.getpwuid(others[which])
    account = Account(entry.pw_uid, entry.pw_gid, (entry.pw_gid,))
    needed = [Path(sys.executable), PROGRAMS.postgres, PROGRAMS.initdb]
    if _check_access_as(account, DataDirectory(Path.cwd()), needed) == _HAS_ACCESS:
        return account
    return account._replace(capability=_find_permitted_capability())


class ContainersRoot:
    """Root with the capabilities that container engines leave it by default."""

    _KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
    _PR_CAPBSET_DROP = 24

    def become(self) -> None:
        """Drops the other ones, from the next program on."""
        for capability in range(64):
            if capability not in self._KEPT:
                with suppress(OSError):  # there are not as many
                    _prctl(self._PR_CAPBSET_DROP, capability)


class User:
    """A process that uses the server of a data directory."""

    def __init__(
        self, data_dir: Path, account: Account | ContainersRoot | None = None, times: int = 1
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, _SCRIPT, data_dir, str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=account.become if account else None,  # noqa: PLW1509
        )

    def says(self) -> tuple[str, str]:
        """Returns its next line: `ready` and the URL, or `refused` and the reason."""
        word, _, rest = self.process.stdout.readline().strip().partition(" ")
        return word, rest

    @property
    def url(self) -> str:
        """Return the supervisor's line, which must say that the server is ready."""
        word, url = self.says()
        assert word == "ready", (word, url)
        return url

    @property
    def refusal(self) -> str:
        """Return the supervisor's line, which must say why there is no server."""
        word, reason = self.says()
        assert word == "refused", (word, reason)
        return reason

    def leave(self) -> str:
        """Has it leave; returns the rest of what it says."""
        return self.process.communicate(timeout=_MOST_SECONDS)[0].strip()

    def kill(self) -> None:
        """Ends it as the system does that has no memory left."""
        self.process.kill()
        if not self.process.stdout.closed:
            self.process.communicate(timeout=_MOST_SECONDS)


def sql(url: str, *statements: str) -> str:
    """Runs statements in one session; returns what they say, without decoration."""
    command = [PROGRAMS.postgres.with_name("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", url]
    for statement in statements:
        command += ["-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def answers(url: str) -> bool:
    with suppress(subprocess.CalledProcessError):
        return sql(url, "select 1") == "1"
    return False


def supervisor_pid(data_dir: Path) -> int:
    holder = read_lock_state(DataDirectory(data_dir)).holder
    assert holder is not None
    return holder.pid


def has_new_supervisor(data_dir: Path, old_pid: int) -> bool:
    holder = read_lock_state(DataDirectory(data_dir)).holder
    return holder is not None and holder.pid != old_pid


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
