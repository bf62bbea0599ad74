"""One log line and one count for each request, and a line for each unexpected error.

A line names the route, never the path or the query, which may hold anything (a token in the query,
for example); and of an error it has the class, never the message, which may quote the request or an
SQL statement.
"""

import time
from collections.abc import Callable
from functools import lru_cache

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imageapi import metrics
from imageapi.logging import RequestContext, locate_error, make_request_writer

Recorder = Callable[[str, str | None, int, float, RequestContext], None]
_NO_ROUTE = "none"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def make_recorder() -> Recorder:
    """Return a function that logs and counts a request: method, route, status, start, context.

    The start is a ``time.perf_counter()``.
    """
    write = make_request_writer()

    def record(
        method: str, route: str | None, status: int, started: float, context: RequestContext
    ) -> None:
        seconds = time.perf_counter() - started
        requests, request_seconds = _get_metrics(route or _NO_ROUTE, status)
        requests.inc()
        request_seconds.observe(seconds)
        write(method, route, status, seconds, context)

    return record


@lru_cache(maxsize=1024)
def _get_metrics(route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(route, status), metrics.REQUEST_SECONDS.labels(route)


class RequestLog:
    """ASGI middleware that records each request; the outermost: no exception leaves it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._record = make_recorder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then log and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            status = int(message.get("status", status))
            await send(message)

        state = scope.setdefault("state", {})
        started = state.setdefault("started", time.perf_counter())
        if (span := trace.get_current_span().get_span_context()).is_valid:
            state["trace_id"] = f"{span.trace_id:032x}"
        try:
            await self.app(scope, receive, send_noting_status)
        except Exception as error:  # noqa: BLE001 - the response is sent within; here it is logged
            log.error(  # noqa: TRY400 - a traceback could quote local values
                "unexpected error",
                error=type(error).__name__,
                at=locate_error(error),
                request_id=state.get("request_id"),
            )
        route = getattr(scope.get("endpoint"), "__name__", None)
        self._record(scope["method"], route, status, started, state)
