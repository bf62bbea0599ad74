"""One log line for each request, and one for each error that nobody expected.

A line names the route, never the address as sent, which may hold anything (a token in the query,
say), nor an error's own words, which may quote what was asked, or a statement.
"""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imageapi.logs import place_of, request_writer

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Journal:
    """ASGI middleware, the outermost: no exception leaves it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._write = request_writer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and write down how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            status = int(message.get("status", status))
            await send(message)

        state = scope.setdefault("state", {})
        try:
            await self.app(scope, receive, send_noting_status)
        except Exception as error:  # noqa: BLE001 - answered within; here it is only written down
            log.error(  # noqa: TRY400 - a stack quotes what was in its hands
                "unexpected error",
                error=type(error).__name__,
                at=place_of(error),
                request_id=state.get("request_id"),
            )
        route = getattr(scope.get("endpoint"), "__name__", None)
        self._write(scope["method"], route, status, started, state.get("request_id"))
