"""Limits of request bodies: their size, and the time that they may take to arrive."""

import asyncio
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The limit of a JSON body. A route that takes larger ones raises ``request.state.limit_bytes``.
MAX_JSON_BYTES = 512 * 1024
#: A body may take the seconds that `BodyLimit` has, and one more for each so many bytes.
MIN_BYTES_PER_SECOND = 4 * 1024


class BodyLimit:
    """ASGI middleware that refuses bodies which are too large (413) or arrive too slowly (408).

    The limit in bytes is ``scope["state"]["limit_bytes"]``, as it is when a chunk arrives. Only the
    time spent waiting for the client counts, not the time that the service takes between chunks.
    """

    def __init__(self, app: ASGIApp, body_seconds: float) -> None:
        self.app = app
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a ``receive`` that raises HTTPException at a limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["limit_bytes"] = MAX_JSON_BYTES
        read_bytes = 0
        waited_seconds = 0.0
        has_ended = False

        async def receive_limited() -> Message:
            nonlocal read_bytes, waited_seconds, has_ended
            if has_ended:  # now `receive` only reports a disconnect, which has no deadline
                return await receive()
            started = time.perf_counter()
            left_seconds = self._body_seconds + read_bytes / MIN_BYTES_PER_SECOND - waited_seconds
            try:
                async with asyncio.timeout(left_seconds):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from None
            waited_seconds += time.perf_counter() - started
            has_ended = not message.get("more_body", False)
            read_bytes += len(message.get("body", b""))
            if read_bytes > state["limit_bytes"]:
                # FastAPI lets no other exception pass while it reads a body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self.app(scope, receive_limited, send)
