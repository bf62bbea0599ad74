"""Section 1 of the contract, byte by byte, from a raw socket."""

import re
from uuid import UUID

import pytest

from conftest import Service
from factories import DOCUMENTED_BODY

EXPECTED = """HTTP/1.1 200 OK
Cache-Control: no-cache, no-store, must-revalidate, private, max-age=0
Pragma: no-cache
Expires: Fri, 01 Jan 1990 00:00:00 GMT
X-Frame-Options: DENY
X-XSS-Protection: 1; mode=block
X-Content-Type-Options: nosniff
X-Download-Options: noopen
X-Permitted-Cross-Domain-Policies: none
X-token: {token}
Content-Type: application/json; charset=utf-8
Vary: Accept-Encoding
P3P: CP="NOI ADM DEV PSAi COM NAV OUR OTRo STP IND DEM"
X-Request-Id: {request_id}
X-Runtime: {runtime}
Content-Length: 723
"""


def request(token: str, method: str = "GET", extra: str = "") -> bytes:
    return (
        f"{method} /api/v1/albums/00324000005TXjIAAW/images/untag HTTP/1.1\r\n"
        "Host: example.org\r\n"
        f'Authorization: Token token="{token}"\r\n'
        f"Cookie:\r\n{extra}\r\n"
    ).encode()


def expected(answer: bytes, token: str) -> bytes:
    """The documented answer, with the two values that no two answers share."""
    request_id = re.search(rb"\r\nX-Request-Id: (\S+)\r\n", answer)
    runtime = re.search(rb"\r\nX-Runtime: (\d+\.\d{6})\r\n", answer)
    assert request_id is not None
    assert runtime is not None
    UUID(request_id[1].decode())
    head = EXPECTED.format(
        token=token, request_id=request_id[1].decode(), runtime=runtime[1].decode()
    )
    return head.replace("\n", "\r\n").encode() + b"\r\n"


@pytest.mark.every_way
async def test_answer_is_the_documented_one_to_the_byte(
    service: Service, documented_token: str
) -> None:
    answer = await service.exchange(request(documented_token))
    assert answer == expected(answer, documented_token) + DOCUMENTED_BODY
    assert len(DOCUMENTED_BODY) == 723


async def test_head_is_the_same_without_the_body(service: Service, documented_token: str) -> None:
    answer = await service.exchange(request(documented_token, "HEAD"))
    assert answer == expected(answer, documented_token)


async def test_request_id_of_the_request_comes_back(
    service: Service, documented_token: str
) -> None:
    extra = "X-Request-Id: a<b>c.d_e-f@1 2\r\n"
    answer = await service.exchange(request(documented_token, extra=extra))
    assert b"\r\nX-Request-Id: abc.d_e-f@12\r\n" in answer


async def test_what_is_no_http_is_a_problem_with_the_documented_headers(service: Service) -> None:
    answer = await service.raw(b"this is no HTTP\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nCache-Control: no-cache, no-store")
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert b'P3P: CP="NOI' in head
    assert b'"type":"urn:imageapi:problem:unreadable-request"' in body
