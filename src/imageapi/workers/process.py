"""The parent's side: a child process that does jobs, one at a time, and may die of them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from imageapi.workers.job_loop import frame_message

MAX_HEADER_BYTES = 1024**2
MAX_BLOB_BYTES = 64 * 1024**2

_BUFFER_BYTES = 1024**2
_KEPT_PREFIXES = ("LD_LIBRARY_PATH", "DYLD_", "SYSTEMROOT")
_MALFORMED = (KeyError, TypeError, ValueError)


class WorkerDied(Exception):
    """The child ended without an answer, or its answer is none."""


class WorkerProcess:
    """A process that does one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self.jobs = 0

    @classmethod
    async def start(
        cls, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Start the module, with no more of this process's environment than it takes to start.

        Raises OSError.
        """
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-W", "ignore", "-m", module, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**(environment or {}), **_get_kept_variables()},
                start_new_session=True,  # Ctrl-C at the terminal is for the parent
                limit=_BUFFER_BYTES,
            )
        )

    async def ask(self, job: Mapping[str, Any], blob: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer's header and blob. Raises Died."""
        self.jobs += 1
        try:
            self._stdin.write(frame_message(dict(job), blob))
            await self._stdin.drain()
            length = int.from_bytes(await self._read(4))
            header = json.loads(
                await self._read(length, MAX_HEADER_BYTES), parse_constant=_refuse_constant
            )
            return header, await self._read(header["blob"], MAX_BLOB_BYTES)
        except (EOFError, OSError, RuntimeError, *_MALFORMED):
            # RuntimeError: nested too deeply, or uvloop's for the pipe of a child that ended.
            raise WorkerDied from None

    async def _read(self, length: int, limit: int = 4) -> bytes:
        if not 0 <= length <= limit:
            raise ValueError("too long")
        return await self._stdout.readexactly(length)

    def kill(self) -> None:
        """End it, whatever it does."""
        # Not by `Process.kill`: that may reap a child that has ended before asyncio does, which
        # then says on standard error that it knows no such process.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Return when it is gone and its pipes are closed: killed before, and asked by nobody."""
        self._stdin.close()
        with suppress(OSError):
            while await self._stdout.read(2**16):
                pass
        await self._process.wait()


def count_cores() -> int:
    """How many cores this process may use, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def _get_kept_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_KEPT_PREFIXES)}
