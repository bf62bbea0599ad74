"""Refuses requests before their bodies are read: too many at once, the wrong host, too often."""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.database.rate_limits import RateExceeded, RateLimiter
from imageapi.http.errors import MisdirectedRequest, Overloaded
from imageapi.http.problem_handlers import problem_for

#: Never refused: operators need these most when something is wrong.
ALWAYS_ADMITTED = {"/healthz", "/metrics"}

_MAPPED_IPV4_PREFIX = "::ffff:"
#: A single customer commonly has an IPv6 network of this many bits, and so all addresses in it.
_IPV6_NETWORK_BITS = 64


class Admission:
    """ASGI middleware that refuses requests: too many at once, for the wrong host, too often.

    ``scope["state"]`` has ``is_overloaded`` and ``request_id``. ``get_rate_limiter`` returns the
    limiter of requests by address, if any; it is called with each request, because the limiter
    is opened after the middleware is built.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        get_rate_limiter: Callable[[], RateLimiter | None],
    ) -> None:
        self.app = app
        self._hosts = hosts
        self._get_rate_limiter = get_rate_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or send the problem response."""
        if scope["type"] != "http" or scope["path"] in ALWAYS_ADMITTED:
            await self.app(scope, receive, send)
            return
        application = self.app
        try:
            await self._check(scope)
        except (
            Overloaded,
            MisdirectedRequest,
            RateExceeded,
            DatabaseUnavailable,
            SchemaOutdated,
        ) as error:
            application = problem_for(error, scope["state"]["request_id"])
        await application(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raise where the request is not to be answered.

        Raises Overloaded, MisdirectedRequest, RateExceeded, and what the database raises where
        the rate is counted.
        """
        if scope["state"]["is_overloaded"]:
            raise Overloaded("Too many requests are under way.")
        if self._hosts and not is_trusted_host(Headers(scope=scope).get("host", ""), self._hosts):
            raise MisdirectedRequest
        rate_limiter = self._get_rate_limiter()
        if rate_limiter is not None and scope.get("client"):
            await rate_limiter.count_request(get_network(scope["client"][0]))


def is_trusted_host(host: str, trusted_hosts: Sequence[str]) -> bool:
    """Return whether a ``Host`` header names a trusted host; ``*.`` stands for any subdomain."""
    name = host.rpartition("@")[2].lower()
    name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    return any(
        name == trusted or (trusted.startswith("*.") and name.endswith(trusted[1:]))
        for trusted in trusted_hosts
    )


def normalize_client(client: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return the client's address and port, an IPv4 address in its own form.

    A socket that listens for both families has IPv4 addresses as ``::ffff:192.0.2.1``.
    """
    if client is None:
        return None
    address, *rest = client
    return (str(address).removeprefix(_MAPPED_IPV4_PREFIX), *rest)


def get_network(address: str) -> str:
    """Return what a rate is counted by: an IPv4 address, or the network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a proxy's X-Forwarded-For may hold any text
        return address
    if ip.version == 4:  # noqa: PLR2004
        return address
    return str(ipaddress.ip_network((ip, _IPV6_NETWORK_BITS), strict=False))
