"""Header names in the documented case, on the wire.

ASGI and uvicorn have header names in lower case.
"""

import time

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from imageapi.http.problem_types import ProblemType, problem_response
from imageapi.http.response_headers import add_documented_headers, get_request_id

STATUS_OK = STATUS_LINE[200]


class _CasedName(bytes):
    """A header's name that uvicorn sends as it is, because ``lower()`` does not change it."""

    __slots__ = ()

    def lower(self) -> bytes:
        return self


class _ContentLength(_CasedName):
    """``Content-Length``, equal to its lower case.

    uvicorn must find it among the headers: without it, the body would be sent in chunks.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == b"content-length"

    def __hash__(self) -> int:
        return hash(b"content-length")


_CASED_NAMES = {
    name.lower(): _CasedName(name)
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


def with_header_case(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers with their names in the documented case."""
    return [(_CASED_NAMES.get(name, name), value) for name, value in headers]


def build_head(status_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a response as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in with_header_case(headers))
    return b"%b%b\r\n" % (status_line, lines)


def build_refusal(problem_type: ProblemType) -> bytes:
    """Return a problem response, head and body, as the last one of a connection.

    For what is no request, so that no application sees it.
    """
    request_id = get_request_id(None)
    response = problem_response(problem_type, problem_type.title + ".", request_id)
    headers = add_documented_headers(response.raw_headers, None, request_id, time.perf_counter())
    headers.append((b"connection", b"close"))
    return build_head(STATUS_LINE[response.status_code], headers) + bytes(response.body)
