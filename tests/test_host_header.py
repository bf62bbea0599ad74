"""Which hosts a request may name, and that it names one (RFC 9112 §3.2)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Service
from imageapi.http.host_header import add_missing_path, is_for_one_host, is_valid_host

VALID = [
    *(b"example.org", b"EXAMPLE.org", b"example.org:8000", b"example.org:", b"localhost"),
    *(b"192.0.2.1", b"192.0.2.1:80", b"[::1]", b"[2001:DB8::1]:8000", b"[::ffff:192.0.2.1]"),
    *(b"my_container:8000", b"xn--bcher-kva.example", b"a%20b", b"a,b", b"a..b", b"", b"*"),
]
INVALID = [
    *(b"user@example.org", b"user:pass@example.org", b"example.org/", b"example.org/path"),
    *(b"a b", b"a, b", b"a\tb", b"a?b", b"a#b", b"a\\b", b"<a>", b'"a"', b"a|b", b"{a}", b"a^b"),
    *(b":80", b"a:b", b"a:80:80", b"a:-1", b"a:+80", b"a:\xd9\xa3", b"a%", b"a%zz", b"a%2"),
    *(b"::1", b"[::1", b"::1]", b"[]", b"[:]", b"[a]", b"[::1]x", b"x[::1]", b"[::1%25eth0]"),
    *(b"[1.2.3.4]", b"[::1:2:3:4:5:6:7:8:9]", b"[v1.x]", b"http://a", "é".encode(), b"\xff", b"\0"),
]


@pytest.mark.parametrize("value", VALID)
def test_host_of_the_grammar_is_valid(value: bytes) -> None:
    assert is_valid_host(value)


@pytest.mark.parametrize("value", INVALID)
def test_any_other_host_is_not(value: bytes) -> None:
    assert not is_valid_host(value)


@pytest.mark.parametrize(
    ("target", "hosts", "version", "is_one"),
    [
        (b"/a", [], "1.1", False),
        (b"/a", [], "1.0", True),
        (b"/a", [b"a", b"b"], "1.1", False),
        (b"/a", [b"a", b"a"], "1.1", False),
        (b"/a", [b"a", b"a"], "1.0", False),
        (b"/a", [b"a b"], "1.0", False),
        (b"/http://b/", [b"a"], "1.1", True),
        (b"*", [b"a"], "1.1", True),
        (b"http://a/", [b"a"], "1.1", True),
        (b"http://A/", [b"a"], "1.1", True),
        (b"HTTPS://a?x", [b"A"], "1.1", True),
        (b"http://a:80/", [b"a"], "1.1", True),
        (b"http://a/", [b"a:80"], "1.1", True),
        (b"https://a:443/", [b"a:"], "1.1", True),
        (b"https://a:80/", [b"a"], "1.1", False),
        (b"http://a:81/", [b"a"], "1.1", False),
        (b"http://b/", [b"a"], "1.1", False),
        (b"http://b/", [], "1.0", False),
        (b"http:///", [b"a"], "1.1", False),
        (b"http://b@a/", [b"a"], "1.1", False),
        (b"http://a@b/", [b"a"], "1.1", False),
        (b"ftp://a/", [b"a"], "1.1", False),
    ],
)
def test_request_is_for_one_host(
    target: bytes, hosts: list[bytes], version: str, is_one: bool
) -> None:
    headers = [(b"x", b"y"), *((b"host", host) for host in hosts)]
    assert is_for_one_host(target, headers, version) == is_one


@pytest.mark.parametrize(
    ("target", "whole"),
    [
        (b"http://a", b"http://a/"),
        (b"http://a?b", b"http://a/?b"),
        *((same, same) for same in (b"http://a/b", b"/a", b"*", b"/a?http://b")),
    ],
)
def test_target_in_absolute_form_has_a_path(target: bytes, whole: bytes) -> None:
    assert add_missing_path(target) == whole


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_is_sent_is_a_host_or_none(host: bytes, target: bytes) -> None:
    """And a valid host begins and ends where a proxy believes that it does."""
    is_for_one_host(b"http://" + target, [(b"host", host)], "1.1")
    if is_valid_host(host):
        assert not set(host) & set(b' \t\r\n\0/?#@\\<>"')


def head(lines: bytes, target: bytes = b"/healthz", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%bConnection: close\r\n\r\n" % (target, version, lines)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head(b""), 400),
        (head(b"", version=b"1.0"), 200),
        (head(b"Host: a\r\nHost: b\r\n"), 400),
        (head(b"Host: a\r\nHost: a\r\n"), 400),
        (head(b"Host: user@a\r\n"), 400),
        (head(b"Host: user@a\r\n", version=b"1.0"), 400),
        (head(b"Host: a\r\n"), 200),
        (head(b"Host:   a  \r\n"), 200),
        (head(b"Host:\r\n"), 200),
        (head(b"Host: a\r\n", b"http://a:80/healthz"), 200),
        (head(b"Host: a\r\n", b"http://b/healthz"), 400),
        (head(b"Host: a\r\n", b"http://a"), 307),
        (head(b"Host: a\r\n", b"/healthz#b"), 400),
        (head(b"Host: a\r\n", version=b"0.9"), 400),
        (head(b"Host: a\r\n", version=b"2.0"), 400),
    ],
)
async def test_head_that_names_no_single_host_is_400(
    service: Service, request_: bytes, status: int
) -> None:
    answer = await service.raw(request_)
    assert re.findall(rb"^HTTP/1.1 (\d+) ", answer) == [str(status).encode()]
    if status == 400:
        assert b"urn:imageapi:problem:unreadable-request" in answer
