"""A client's address is one address, however it is written and wherever it is written."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from exchanges import service
from imageapi.database.engine import Database
from imageapi.http.client_address import (
    ForwardedClient,
    get_network,
    normalize_address,
    normalize_client,
    normalize_network,
)

PATH = "/assets/blank.jpg"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("2001:0db8:0000::0001", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.007", "192.0.2.007"),  # octal for some readers: no address (RFC 6943 §3.1.1)
        *((text, text) for text in ("unknown", "_hidden", "", "::ffff:192.0.2.300", "1.2.3")),
    ],
)
def test_address_has_one_spelling(text: str, address: str) -> None:
    assert normalize_address(text) == address
    assert normalize_client((text, 80)) == (address, 80)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_network_has_one_spelling(text: str, network: str) -> None:
    if text == "::ffff:0:0/95":  # not within the mapped addresses, and not even a network
        with pytest.raises(ValueError, match="host bits"):
            normalize_network(text)
    else:
        assert str(normalize_network(text)) == network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("hunter2", "hunter2"),
    ],
)
def test_rate_counts_an_address_or_a_network(address: str, network: str) -> None:
    assert get_network(address) == network


async def find_client(
    proxies: list[str], socket: str | None, *lines: str, **more: str
) -> tuple[Any, str]:
    """The client and the scheme that the application sees."""
    seen: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    client = None if socket is None else (socket, 1234)
    scope = {"type": "http", "scheme": "http", "client": client, "headers": headers}
    await ForwardedClient(note, proxies)(scope, None, None)  # type: ignore[arg-type]
    return seen[0]["client"], seen[0]["scheme"]


PROXIES = ["127.0.0.1", "::ffff:10.0.0.0/104", "2001:db8:f::/48"]


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["192.0.2.1"], ("192.0.2.1", 0)),
        (["::ffff:192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1:443"], ("192.0.2.1", 443)),
        (["[::ffff:192.0.2.1]:443"], ("192.0.2.1", 443)),
        (["[2001:db8::1]"], ("2001:db8::1", 0)),
        (["[2001:DB8::1]:443"], ("2001:db8::1", 443)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["198.51.100.1, 192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1, 10.0.0.1"], ("192.0.2.1", 0)),
        (["192.0.2.1, ::ffff:10.0.0.1"], ("192.0.2.1", 0)),
        (["192.0.2.1, [::ffff:10.0.0.1]:81"], ("192.0.2.1", 0)),
        (["192.0.2.1, 2001:DB8:F::1"], ("192.0.2.1", 0)),
        (["192.0.2.1", "10.0.0.1"], ("192.0.2.1", 0)),  # lines of one list
        (["192.0.2.1, , 10.0.0.1,"], ("192.0.2.1", 0)),  # empty elements are none
        (["10.0.0.3, 10.0.0.1"], ("10.0.0.3", 0)),
        (["unknown, 10.0.0.1"], ("unknown", 0)),
        (["192.0.2.1:port"], ("192.0.2.1:port", 0)),
        (["[192.0.2.1"], ("[192.0.2.1", 0)),
        ([""], ("127.0.0.1", 1234)),
        ([], ("127.0.0.1", 1234)),
    ],
)
async def test_client_is_the_last_that_is_no_proxy(lines: list[str], client: Any) -> None:
    assert (await find_client(PROXIES, "127.0.0.1", *lines))[0] == client


@pytest.mark.parametrize("socket", ["192.0.2.9", "::1", None])
async def test_stranger_cannot_name_another_client(socket: str | None) -> None:
    seen = await find_client(PROXIES, socket, "192.0.2.1", x_forwarded_proto="https")
    assert seen == (None if socket is None else (socket, 1234), "http")


async def test_proxy_on_an_address_with_a_zone_is_known() -> None:
    client, _ = await find_client(["fe80::/64"], "fe80::1%eth0", "192.0.2.1")
    assert client == ("192.0.2.1", 0)


@pytest.mark.parametrize(("said", "scheme"), [("https", "https"), ("HTTP", "http"), ("x", "http")])
async def test_proxy_names_the_scheme(said: str, scheme: str) -> None:
    assert (await find_client(PROXIES, "127.0.0.1", x_forwarded_proto=said))[1] == scheme


async def ask(client: httpx.AsyncClient, *addresses: str) -> list[int]:
    return [
        (await client.get(PATH, headers={"X-Forwarded-For": address})).status_code
        for address in addresses
    ]


async def test_mapped_addresses_have_their_own_rates(
    server: str, database: Database, tmp_path: Path
) -> None:
    """And the same rate as when they are written as IPv4."""
    settings = {"address_rate_limit": "2/hour", "trusted_proxies": "127.0.0.1, 10.0.0.0/8"}
    async with service(server, tmp_path, **settings) as client:
        mapped = [f"::ffff:198.51.100.{each}" for each in range(4)]
        assert await ask(client, *mapped) == [200] * 4
        behind = [f"198.51.101.{each}, ::ffff:10.0.0.1" for each in range(4)]
        assert await ask(client, *behind) == [200] * 4
        same = ["198.51.102.1", "::ffff:198.51.102.1", "[::FFFF:c633:6601]:80"]
        assert await ask(client, *same) == [200, 200, 429]


async def test_proxies_may_be_written_as_mapped_addresses(
    server: str, database: Database, tmp_path: Path
) -> None:
    settings = {"address_rate_limit": "1/hour", "trusted_proxies": "::ffff:127.0.0.0/104"}
    async with service(server, tmp_path, **settings) as client:
        assert await ask(client, "198.51.103.1", "198.51.103.2, ::ffff:127.0.0.9") == [200, 200]


async def test_readiness_is_told_whatever_the_rate_and_the_hosts(
    server: str, database: Database, tmp_path: Path
) -> None:
    settings = {"address_rate_limit": "1/hour", "trusted_hosts": "photos.example.org"}
    async with service(server, tmp_path, max_requests=1, **settings) as client:
        for path in ("/readyz", "/healthz", "/metrics"):
            for _ in range(3):
                assert (
                    await client.get(path, headers={"Host": "10.1.2.3:8000"})
                ).status_code == 200
        assert (await client.get(PATH, headers={"Host": "10.1.2.3:8000"})).status_code == 421


@given(st.text(max_size=60), st.text(max_size=60))
async def test_whatever_a_proxy_writes_is_some_client(text: str, socket: str) -> None:
    line = text.encode("utf-8", "surrogatepass").decode("latin-1")
    client, scheme = await find_client([*PROXIES, "::/0"], "::1", line, x_forwarded_proto="x")
    assert isinstance(client[0], str)
    assert isinstance(client[1], int)
    assert scheme == "http"
    assert normalize_address(normalize_address(socket)) == normalize_address(socket)
    assert get_network(get_network(client[0])) == get_network(client[0])
