"""`imageapi serve`, with a tenth of the service's deadlines, so that tests need not wait.

There is no setting for deadlines. `Command(environment, folder, PROGRAM).serving(...)` is how tests
get a service that has others.
"""

import argparse
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI

from imageapi.app import from_environment
from imageapi.commands import serve
from imageapi.deadlines import Deadlines
from imageapi.http.connection_limits import ConnectionDeadlines
from imageapi.http.server_protocol import DocumentedProtocol

PROGRAM = (sys.executable, Path(__file__))

T = TypeVar("T")


def a_tenth_of(deadlines: T) -> T:
    """The same deadlines, each of them a tenth."""

    def tenth(value: Any) -> Any:
        return a_tenth_of(value) if is_dataclass(value) else value / 10

    shorter = {each.name: tenth(getattr(deadlines, each.name)) for each in fields(deadlines)}
    return replace(deadlines, **shorter)


A_TENTH = a_tenth_of(Deadlines())


class ImpatientProtocol(DocumentedProtocol):
    """The protocol of the service, which waits for a second or two."""

    deadlines = ConnectionDeadlines(head_seconds=1, unread_seconds=2, linger_seconds=1)


def application() -> FastAPI:
    return from_environment(A_TENTH)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    serve.run(
        "127.0.0.1",
        given.port,
        given.workers,
        None,
        application="short_deadlines:application",
        protocol="short_deadlines:ImpatientProtocol",
    )


if __name__ == "__main__":
    main()
