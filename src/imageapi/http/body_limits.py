"""How much of a request's body is read, and how long it may take to come."""

import asyncio
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Of a body that is JSON; a route that takes more raises ``request.state.limit_bytes``.
MAX_JSON_BYTES = 512 * 1024
#: A body may take a second for each so many bytes, beside the seconds that `BodyLimit` is given.
MIN_BYTES_PER_SECOND = 4 * 1024


class BodyLimit:
    """ASGI middleware: reading more of a body than ``scope["state"]["limit_bytes"]`` is a 413.

    So is it a 408 to wait for one that comes too slowly; what the service takes itself is not
    counted.
    """

    def __init__(self, app: ASGIApp, body_seconds: float) -> None:
        self.app = app
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the request with a body that ends at its limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["limit_bytes"] = MAX_JSON_BYTES
        read_bytes = 0
        waited_seconds = 0.0
        is_over = False

        async def receive_limited() -> Message:
            nonlocal read_bytes, waited_seconds, is_over
            if is_over:  # what comes next is that the client leaves, however late
                return await receive()
            started = time.perf_counter()
            patience = self._body_seconds + read_bytes / MIN_BYTES_PER_SECOND - waited_seconds
            try:
                async with asyncio.timeout(patience):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from None
            waited_seconds += time.perf_counter() - started
            is_over = not message.get("more_body", False)
            read_bytes += len(message.get("body", b""))
            if read_bytes > state["limit_bytes"]:
                # FastAPI passes on no other exception while it reads a body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self.app(scope, receive_limited, send)
