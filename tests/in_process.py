"""`imageapi` in the process of the tests: a process of its own takes a second to start."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile
from threading import Thread
from types import ModuleType
from unittest.mock import patch

from imageapi.cli import main


class InProcess:
    """Runs commands as `conftest.Command` does, and returns the same, without a new process.

    For what a command refuses or reads. What a command leaves in its process stays in that of the
    tests: a service that starts needs a process of its own.
    """

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder

    def __call__(
        self, *arguments: str, stdin: bytes = b"", **more: str
    ) -> "CompletedProcess[bytes]":
        """Run a command in a thread, since a test may have an event loop in its own."""
        status: list[object] = []

        def run() -> None:
            try:
                main()
            except SystemExit as end:
                status.append(end.code)

        environment = {**self.environment, **more}
        with self._surroundings(arguments, environment, stdin) as (stdout, stderr):
            thread = Thread(target=run)
            thread.start()
            thread.join()
            printed = stdout.getvalue(), stderr.getvalue()
        (code,) = status  # else it ended with an exception, which pytest reports
        assert isinstance(code, int)
        return CompletedProcess(["imageapi", *arguments], code, *printed)

    @contextmanager
    def _surroundings(
        self, arguments: tuple[str, ...], environment: dict[str, str], stdin: bytes
    ) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
        """What a process has of its own: arguments, environment, folder and standard streams."""
        stdout, stderr = io.BytesIO(), io.BytesIO()
        before = Path.cwd()
        with ExitStack() as surroundings:
            input_ = surroundings.enter_context(TemporaryFile("w+"))
            input_.buffer.write(stdin)
            input_.seek(0)
            for name, value in {
                "argv": ["imageapi", *arguments],
                "stdin": input_,
                "stdout": io.TextIOWrapper(stdout, write_through=True),
                "stderr": io.TextIOWrapper(stderr, write_through=True),
            }.items():
                surroundings.enter_context(patch.object(sys, name, value))
            # Help and hints name a program that was started as `python -m` so. This is not
            # patch.dict, which would forget the modules that the command imports.
            main_module = sys.modules["__main__"]
            surroundings.callback(sys.modules.__setitem__, "__main__", main_module)
            sys.modules["__main__"] = ModuleType("__main__")
            surroundings.enter_context(patch.dict(os.environ, environment, clear=True))
            os.chdir(self.folder)
            surroundings.callback(os.chdir, before)
            yield stdout, stderr
