"""How much of a request's body is read."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Of a body that is JSON; a route that takes more raises ``request.state.limit_bytes``.
JSON_BYTES = 1024 * 1024


class BodyLimit:
    """ASGI middleware: reading more of a body than ``scope["state"]["limit_bytes"]`` is a 413."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the request with a body that ends at its limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["limit_bytes"] = JSON_BYTES
        read_bytes = 0

        async def receive_limited() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > state["limit_bytes"]:
                # FastAPI passes on no other exception while it reads a body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self.app(scope, receive_limited, send)
