"""A server of the S3 protocol, moto's, as a process of its own on 127.0.0.1.

As a program it prints its port, and ends with the process that started it.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


class Bucket:
    """A bucket on a running server, looked at without the code under test."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self._ask("PUT", f"/{name}")

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client to the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def unfinished(self) -> int:
        """How many uploads in parts were begun and neither completed nor aborted."""
        return self._ask("GET", f"/{self.name}?uploads").text.count("<UploadId>")

    def is_of_parts(self, key: str) -> bool:
        """Whether the object was sent in parts, which shows in its entity tag."""
        listing = self._ask("GET", f"/{self.name}?prefix={key}").text
        etag = listing.partition("<ETag>")[2].partition("</ETag>")[0]
        assert etag, listing
        return "-" in etag

    def _ask(self, method: str, path: str) -> httpx.Response:
        answer = httpx.request(method, f"{self.endpoint}{path}", trust_env=False, timeout=60)
        return answer.raise_for_status()


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that has nothing, gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def serve() -> None:
    import logging  # noqa: PLC0415  # not needed by who starts it

    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    logging.disable()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    serve()
