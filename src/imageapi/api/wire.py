"""An answer as it goes over the wire, with the contract's headers in the contract's case."""

import time

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from imageapi.api.headers import documented, request_id
from imageapi.api.problems import Kind, problem

STATUS_OK = STATUS_LINE[200]


class _AsWritten(bytes):
    """A header's name that uvicorn, which asks for its lower case, sends as it is."""

    __slots__ = ()

    def lower(self) -> bytes:
        return self


class _ContentLength(_AsWritten):
    """The one of them that uvicorn must know, lest it think that the answer is chunked."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == b"content-length"

    def __hash__(self) -> int:
        return hash(b"content-length")


_AS_WRITTEN = {
    name.lower(): _AsWritten(name)
    for name in (
        b"Cache-Control",
        b"Pragma",
        b"Expires",
        b"X-Frame-Options",
        b"X-XSS-Protection",
        b"X-Content-Type-Options",
        b"X-Download-Options",
        b"X-Permitted-Cross-Domain-Policies",
        b"X-token",
        b"Content-Type",
        b"Vary",
        b"P3P",
        b"X-Request-Id",
        b"X-Runtime",
        b"Link",
        b"X-Total-Count",
        b"Allow",
        b"Retry-After",
        b"WWW-Authenticate",
        b"Content-Encoding",
        b"ETag",
        b"Location",
    )
} | {b"content-length": _ContentLength(b"Content-Length")}


def as_written(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with their names in the case of the contract."""
    return [(_AS_WRITTEN.get(name, name), value) for name, value in headers]


def wire_head(status_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in as_written(headers))
    return b"%b%b\r\n" % (status_line, lines)


def refusal(kind: Kind) -> bytes:
    """The problem, with the documented headers, as the last answer of a connection."""
    id_ = request_id(None)
    answer = problem(kind, kind.title + ".", id_)
    headers = documented(answer.raw_headers, None, id_, time.perf_counter())
    headers.append((b"connection", b"close"))
    return wire_head(STATUS_LINE[answer.status_code], headers) + bytes(answer.body)
