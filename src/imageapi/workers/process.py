"""The parent's side: starts a worker process, sends it one job at a time, and may kill it."""

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
_INHERITED_PREFIXES = ("LD_LIBRARY_PATH", "DYLD_", "SYSTEMROOT")
_MALFORMED = (KeyError, TypeError, ValueError)


class WorkerDied(Exception):
    """The worker ended without a result, or what it sent is no result."""


class WorkerProcess:
    """A process that runs one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        #: How many jobs it was sent.
        self.job_count = 0

    @classmethod
    async def start(
        cls, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Start a process that runs the module. Raises OSError.

        It gets only those of our environment variables that Python needs to start, so no secrets.
        """
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-W", "ignore", "-m", module, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**(environment or {}), **_get_inherited_variables()},
                start_new_session=True,  # Ctrl-C at the terminal must reach only the parent
                limit=_BUFFER_BYTES,
            )
        )

    async def run(self, job: Mapping[str, Any], blob: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Send the job, and return the header and the blob of its result. Raises WorkerDied.

        After WorkerDied or a cancellation, kill the worker: it may still send that result.
        """
        self.job_count += 1
        try:
            self._stdin.write(frame_message(dict(job), blob))
            await self._stdin.drain()
            length = int.from_bytes(await self._read(4))
            header = json.loads(
                await self._read(length, MAX_HEADER_BYTES), parse_constant=_refuse_constant
            )
            return header, await self._read(header["blob"], MAX_BLOB_BYTES)
        except (EOFError, OSError, RuntimeError, *_MALFORMED):
            # RuntimeError: the JSON is nested too deeply, or uvloop found the worker's pipe closed.
            raise WorkerDied from None

    async def _read(self, length: int, limit: int = 4) -> bytes:
        """Read so many bytes. Raises ValueError beyond the limit, EOFError."""
        if not 0 <= length <= limit:
            raise ValueError("too long")
        return await self._stdout.readexactly(length)

    def kill(self) -> None:
        """Kill the process, whatever it is doing."""
        # `Process.kill` may reap a process that has just ended before asyncio does; asyncio then
        # prints to standard error that it does not know the process.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def wait_closed(self) -> None:
        """Wait for the process to exit, and close its pipes.

        Call `kill` first; no `run` may be pending.
        """
        self._stdin.close()
        with suppress(OSError):
            while await self._stdout.read(2**16):
                pass
        await self._process.wait()


def count_cores() -> int:
    """Return how many cores this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_constant(constant: str) -> None:
    """Raise ValueError for NaN and infinity, which JSON does not have."""
    raise ValueError(constant)


def _get_inherited_variables() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name.startswith(_INHERITED_PREFIXES)
    }
