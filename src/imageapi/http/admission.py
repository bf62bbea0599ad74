"""Refuses requests before their bodies are read: too many at once, the wrong host, too often."""

from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.database.rate_limits import RateExceeded, RateLimiter
from imageapi.http.client_address import get_network
from imageapi.http.errors import MisdirectedRequest, Overloaded
from imageapi.http.problem_handlers import problem_for

#: Never refused: operators need these most when something is wrong. Probes ask with a pod's address
#: as Host, and often from one address for a whole network; what they are told must be the state.
ALWAYS_ADMITTED = {"/healthz", "/metrics", "/readyz"}


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
    name = host.lower()
    name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    return any(
        name == trusted or (trusted.startswith("*.") and name.endswith(trusted[1:]))
        for trusted in trusted_hosts
    )
