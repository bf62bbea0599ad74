"""Who may come in now: asked before a body is read, and before memory grows."""

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers, State
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.database.rate_limits import RateExceeded
from imageapi.http.errors import Overloaded
from imageapi.http.problem_handlers import rate_limited
from imageapi.http.problem_types import (
    DATABASE_UNAVAILABLE,
    MISDIRECTED,
    OVERLOADED,
    SCHEMA_OUTDATED,
    problem_response,
)

#: Answered whatever else is under way: somebody wants to know what is wrong.
ALWAYS_ADMITTED = {"/healthz", "/metrics"}

_MAPPED_IPV4_PREFIX = "::ffff:"
_IPV6_NETWORK_BITS = 64  # of IPv6, which a single customer has many of


class ConcurrencyLimiter:
    """So many at once; whoever comes beyond is told to come back."""

    def __init__(self, most: int, of_what: str) -> None:
        self.most = most
        self._taken = 0
        self._of_what = of_what

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a turn for as long as the block lasts; raises Overloaded."""
        if self._taken >= self.most:
            raise Overloaded(f"Too many {self._of_what} are under way.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Admission:
    """ASGI middleware that turns away: too many at once, the wrong host, too often.

    ``scope["state"]`` has ``is_overloaded`` and ``request_id``; the application's ``state`` has
    the rates of addresses.
    """

    def __init__(self, app: ASGIApp, state: State, hosts: Sequence[str]) -> None:
        self.app = app
        self._state = state
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or turn away."""
        if scope["type"] != "http" or scope["path"] in ALWAYS_ADMITTED:
            await self.app(scope, receive, send)
            return
        answer = None
        id_ = scope["state"]["request_id"]
        if scope["state"]["is_overloaded"]:
            answer = problem_response(OVERLOADED, "Too many requests are under way.", id_)
        elif self._hosts and not is_trusted_host(Headers(scope=scope).get("host", ""), self._hosts):
            answer = problem_response(MISDIRECTED, "The request is for another host.", id_)
        elif (rates := self._state.address_rate_limiter) is not None and scope.get("client"):
            try:
                await rates.count(get_network(scope["client"][0]))
            except RateExceeded as error:
                answer = rate_limited(error, id_)
            except DatabaseUnavailable as error:
                answer = problem_response(DATABASE_UNAVAILABLE, str(error), id_)
            except SchemaOutdated as error:
                answer = problem_response(SCHEMA_OUTDATED, str(error), id_)
        await (answer or self.app)(scope, receive, send)


def is_trusted_host(host: str, hosts: Sequence[str]) -> bool:
    """Whether a ``Host`` header names one of these hosts."""
    name = host.rpartition("@")[2].lower()
    name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    return any(
        name == known or (known.startswith("*.") and name.endswith(known[1:])) for known in hosts
    )


def normalize_client(client: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Address and port of who asks; a socket for both calls IPv4 addresses ``::ffff:192.0.2.1``."""
    if client is None:
        return None
    address, *rest = client
    return (str(address).removeprefix(_MAPPED_IPV4_PREFIX), *rest)


def get_network(address: str) -> str:
    """The address, of IPv6 the network that its customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a proxy may say anything
        return address
    if ip.version == 4:  # noqa: PLR2004
        return address
    return str(ipaddress.ip_network((ip, _IPV6_NETWORK_BITS), strict=False))
