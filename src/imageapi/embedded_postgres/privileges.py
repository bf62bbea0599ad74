"""Choose the user that PostgreSQL runs as, and end it with its supervisor.

PostgreSQL refuses to run as root. If root starts it, it runs as the owner of the data, or as
`nobody` if that is root. If that user cannot access the files (because they are in a folder of
root's with mode 0700, for example), the process keeps one of root's capabilities: to search and
read directories. See capabilities(7), prctl(2) and PR_SET_PDEATHSIG(2const).
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
_NOBODY_UID = 65534

_HAS_ACCESS, _HAS_NO_ACCESS, _CANNOT_SWITCH_USER = 0, 1, 2


class Account(NamedTuple):
    """A user to switch to, and the number of the capability to keep, if any."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capability: int | None = None

    def become(self) -> None:
        """Switch this process from root to the user, irrevocably."""
        if self.capability is not None:
            _keep_capabilities_on_setuid()
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)
        if self.capability is not None:
            _drop_other_capabilities(self.capability)


def choose_account(directory: DataDirectory, programs: Iterable[Path]) -> Account | None:
    """Return the user to run PostgreSQL as; None if we are not root and can run it ourselves.

    Raise `DataDirectoryError` if root cannot switch to that user here, or if that user cannot
    access the programs or the directory.
    """
    if os.geteuid() != 0:
        return None
    account = _get_account(_find_non_root_owner(directory))
    outcome = _check_access_as(account, directory, programs)
    if outcome == _HAS_ACCESS:
        return account
    name = get_user_name(account.uid)
    if outcome == _CANNOT_SWITCH_USER:
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


def interrupt_when_parent_ends(parent_pid: int) -> None:
    """Let the system send SIGINT to this process when its parent ends.

    Linux only: elsewhere a server continues to run if its supervisor is killed. Call this last: a
    change of user would undo it.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent_pid:  # it ended before the call: there will be no signal
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
        number = _NOBODY_UID if uid is None else uid
        return Account(number, number, (number,))
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_uid, entry.pw_gid, tuple(groups))


def _check_access_as(account: Account, directory: DataDirectory, programs: Iterable[Path]) -> int:
    """Return whether the account can access the programs and the directory (`_HAS_ACCESS`, …).

    A child process switches to the user and asks the system, so that no rule of the system (ACLs,
    security modules, mount options) has to be repeated here.
    """
    child_pid = os.fork()
    if child_pid == 0:
        outcome = _CANNOT_SWITCH_USER
        try:
            account.become()
            can_run = all(os.access(program, os.R_OK | os.X_OK) for program in programs)
            outcome = (
                _HAS_ACCESS if can_run and os.access(directory.path, os.X_OK) else _HAS_NO_ACCESS
            )
        finally:
            os._exit(outcome)
    return os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1])


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilitySets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    _raise_if_failed(_libc.prctl(option, *(ctypes.c_ulong(argument) for argument in padded)))


def _raise_if_failed(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _find_permitted_capability() -> int | None:
    """Return a capability of ours that opens directories: the weaker one if we have both.

    CAP_DAC_READ_SEARCH is enough; containers by default have CAP_DAC_OVERRIDE only.
    """
    if sys.platform == "linux":
        sets = (_CapabilitySets * 2)()
        _raise_if_failed(
            _libc.capget(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), sets)
        )
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            if sets[0].permitted & 1 << capability:
                return capability
    return None


def _keep_capabilities_on_setuid() -> None:
    """Keep this process's capabilities when it changes its user.

    access(2), by which PostgreSQL checks its own program, respects the capabilities of an ordinary
    user only with the second setting, SECBIT_NO_SETUID_FIXUP. That one needs CAP_SETPCAP. Without
    it the user must be able to access the programs without capabilities, but not the data.
    """
    _prctl(_PR_SET_KEEPCAPS, 1)
    with suppress(PermissionError):
        current = _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
        _prctl(_PR_SET_SECUREBITS, current | _SECBIT_NO_SETUID_FIXUP)


def _drop_other_capabilities(capability: int) -> None:
    """Drop all capabilities but one, which the programs that we start inherit (ambient set)."""
    sets = (_CapabilitySets * 2)()
    sets[0] = _CapabilitySets(1 << capability, 1 << capability, 1 << capability)
    _raise_if_failed(_libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), sets))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
