"""The address of a client: how it is written, which proxies may name it, what a rate counts.

An IPv4 address can also be written as IPv6 (``::ffff:192.0.2.1``, RFC 4291 §2.5.5.2). Sockets of
both families do so, and proxies with such sockets in ``X-Forwarded-For``. It is one address
wherever it comes from: `normalize_address` and `normalize_network` write it as IPv4.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

_MAPPED_IPV4 = IPv6Network("::ffff:0:0/96")
#: A single customer commonly has an IPv6 network of this many bits, and so all addresses in it.
_IPV6_NETWORK_BITS = 64
_SCHEMES = {"http", "https"}


def normalize_address(text: str) -> str:
    """Return the address in its only spelling, without an IPv6 zone; other text as it is."""
    address = _parse_address(text)
    return text if address is None else str(address)


def normalize_network(text: str) -> IPv4Network | IPv6Network:
    """Return the network of an address or network, IPv4 where it is mapped; raises ValueError."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED_IPV4):
        bits = network.prefixlen - _MAPPED_IPV4.prefixlen
        first = network.network_address.ipv4_mapped
        assert first is not None
        return IPv4Network((first, bits))
    return network


def get_network(address: str) -> str:
    """Return what a rate is counted by: an IPv4 address, or the network of an IPv6 address.

    Text that is no address, which a proxy's ``X-Forwarded-For`` may hold, is returned as it is.
    """
    ip = _parse_address(address)
    if ip is None:
        return address
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(IPv6Network((ip, _IPV6_NETWORK_BITS), strict=False))


def normalize_client(client: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return the client's address, normalized, and its port; None over a Unix socket."""
    if client is None:
        return None
    address, *rest = client
    return (_normalize_socket_address(address), *rest)


#: Every request comes from a socket, and few sockets have so many clients.
_normalize_socket_address = lru_cache(maxsize=4096)(normalize_address)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # a zone means something to its host only
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class ForwardedClient:
    """ASGI middleware that believes what trusted proxies say of their clients.

    ``X-Forwarded-For`` names the client in ``scope["client"]``, ``X-Forwarded-Proto`` the scheme.
    Each proxy adds the address that it was asked from, so the client is the last one that is no
    trusted proxy, or the first one where all are. ``proxies`` are addresses and networks; raises
    ValueError if one is neither.
    """

    def __init__(self, app: ASGIApp, proxies: Iterable[str]) -> None:
        self.app = app
        self._networks = [normalize_network(proxy) for proxy in proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the client that the proxies name."""
        client = scope.get("client")
        if client and self._is_trusted(client[0]):
            self._read_forwarded(scope)
        await self.app(scope, receive, send)

    def _read_forwarded(self, scope: Scope) -> None:
        forwarded: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded += filter(None, map(str.strip, value.decode("latin-1").split(",")))
            elif name == b"x-forwarded-proto":
                scheme = value.decode("latin-1").strip().lower()
                scope["scheme"] = scheme if scheme in _SCHEMES else scope["scheme"]
        for entry in reversed(forwarded):
            scope["client"] = client = _split_port(entry)
            if not self._is_trusted(client[0]):
                break

    def _is_trusted(self, address: str) -> bool:
        ip = _parse_address(address)
        return ip is not None and any(ip in network for network in self._networks)


def _split_port(entry: str) -> tuple[str, int]:
    """Return the address and the port of an entry of ``X-Forwarded-For``; 0 if it has no port.

    ``192.0.2.1:80``, ``[2001:db8::1]:80`` and ``[2001:db8::1]`` are known; any other text is taken
    as an address.
    """
    address, colon, port = entry.rpartition(":")
    if entry.startswith("[") and entry.endswith("]"):
        address, port = entry, "0"
    elif not colon or not port.isascii() or not port.isdigit() or len(port) > len("65535"):
        return normalize_address(entry), 0
    if address.startswith("[") and address.endswith("]"):
        return normalize_address(address[1:-1]), int(port)
    if ":" in address:  # IPv6 without brackets has no port
        return normalize_address(entry), 0
    return normalize_address(address), int(port)
