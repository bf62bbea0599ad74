"""Who PostgreSQL runs as, and that it does not outlive its supervisor.

PostgreSQL refuses to run as root. Started by root it runs as the user whose data it is, else
as `nobody`; where that user cannot reach the files (all of them under root's own 0700 folder,
say) it keeps one of root's capabilities, the one to search and read directories.
capabilities(7), prctl(2) and PR_SET_PDEATHSIG(2const) say how.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from imageapi.embedded_postgres.data_directory import (
    DataDirectory,
    DataDirectoryError,
    get_user_name,
)

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_GET_SECUREBITS, _PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 27, 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534

_REACHED, _NOT_REACHED, _NOT_ALLOWED = 0, 1, 2


class Account(NamedTuple):
    """A user to become, and the capability (its number) to keep on the way, if any."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capability: int | None = None

    def become(self) -> None:
        """Turns this process, which is root's, into this user's for good."""
        if self.capability is not None:
            _keep_capabilities_on_setuid()
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)
        if self.capability is not None:
            _keep_only(self.capability)


def choose_account(directory: DataDirectory, programs: Iterable[Path]) -> Account | None:
    """Whom PostgreSQL has to run as; None: as whoever we are, which is not root.

    Raises `DataDirectoryError` where root can become nobody else, or that user cannot reach
    the programs or the directory.
    """
    if os.geteuid() != 0:
        return None
    account = _get_account(_find_non_root_owner(directory))
    outcome = _try_to_reach(account, directory, programs)
    if outcome == _REACHED:
        return account
    name = get_user_name(account.uid)
    if outcome == _NOT_ALLOWED:
        raise DataDirectoryError(
            f"PostgreSQL does not run as root, and root cannot become user {name} here: "
            "start imageapi as an ordinary user"
        )
    capability = _find_permitted_capability()
    if capability is None:
        raise DataDirectoryError(
            f"PostgreSQL does not run as root, and user {name}, whom it would run as, cannot "
            f"reach {directory.path} or the programs: start imageapi as an ordinary user"
        )
    return account._replace(capability=capability)


def die_with(supervisor: int) -> None:
    """Has this process, a child of `supervisor`, interrupted (SIGINT) when that ends.

    Linux only; elsewhere a server whose supervisor was killed goes on. To be called last:
    a change of user would undo it.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != supervisor:  # it had ended before we asked
            os._exit(1)


def _find_non_root_owner(directory: DataDirectory) -> int | None:
    for path in (directory.path, directory.cluster):
        if path.exists() and path.stat().st_uid != 0:
            return path.stat().st_uid
    return None


def _get_account(uid: int | None) -> Account:
    try:
        entry = pwd.getpwnam("nobody") if uid is None else pwd.getpwuid(uid)
    except KeyError:
        number = _NOBODY if uid is None else uid
        return Account(number, number, (number,))
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_uid, entry.pw_gid, tuple(groups))


def _try_to_reach(account: Account, directory: DataDirectory, programs: Iterable[Path]) -> int:
    """Asks the system itself, by a child that becomes the user: no rule of its is guessed."""
    child = os.fork()
    if child == 0:
        outcome = _NOT_ALLOWED
        try:
            account.become()
            runs = all(os.access(program, os.R_OK | os.X_OK) for program in programs)
            outcome = _REACHED if runs and os.access(directory.path, os.X_OK) else _NOT_REACHED
        finally:
            os._exit(outcome)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    _check(_libc.prctl(option, *(ctypes.c_ulong(argument) for argument in padded)))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _find_permitted_capability() -> int | None:
    """The weaker of the two that open directories; default containers have the stronger only."""
    if sys.platform == "linux":
        sets = (_Sets * 2)()
        _check(_libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            if sets[0].permitted & 1 << capability:
                return capability
    return None


def _keep_capabilities_on_setuid() -> None:
    """Has the coming change of user leave our capabilities alone.

    access(2), which PostgreSQL asks about its own program, heeds an ordinary user's capabilities
    with the second setting only; where that is forbidden (it takes CAP_SETPCAP) the programs
    must be within reach without them, the data need not.
    """
    _prctl(_PR_SET_KEEPCAPS, 1)
    with suppress(PermissionError):
        current = _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
        _prctl(_PR_SET_SECUREBITS, current | _SECBIT_NO_SETUID_FIXUP)


def _keep_only(capability: int) -> None:
    """Leaves this process, and the programs that it starts, one capability."""
    sets = (_Sets * 2)()
    sets[0] = _Sets(1 << capability, 1 << capability, 1 << capability)
    _check(_libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
