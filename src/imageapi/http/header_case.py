"""An answer as it goes over the wire, with the contract's headers in the contract's case."""

import time

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from imageapi.http.problem_types import ProblemType, problem_response
from imageapi.http.response_headers import add_documented_headers, request_id

STATUS_OK = STATUS_LINE[200]


class _CasedName(bytes):
    """A header's name that uvicorn, which asks for its lower case, sends as it is."""

    __slots__ = ()

    def lower(self) -> bytes:
        return self


class _ContentLength(_CasedName):
    """The one of them that uvicorn must know, lest it think that the answer is chunked."""

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
    """The headers with their names in the case of the contract."""
    return [(_CASED_NAMES.get(name, name), value) for name, value in headers]


def build_head(status_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in with_header_case(headers))
    return b"%b%b\r\n" % (status_line, lines)


def build_refusal(kind: ProblemType) -> bytes:
    """The problem, with the documented headers, as the last answer of a connection."""
    id_ = request_id(None)
    answer = problem_response(kind, kind.title + ".", id_)
    headers = add_documented_headers(answer.raw_headers, None, id_, time.perf_counter())
    headers.append((b"connection", b"close"))
    return build_head(STATUS_LINE[answer.status_code], headers) + bytes(answer.body)
