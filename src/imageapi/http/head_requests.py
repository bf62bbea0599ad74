"""``HEAD`` for whatever answers ``GET``: the same headers, no body (RFC 9110 §9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """ASGI middleware: asks the application for GET, and keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HEAD as GET without its body."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope.setdefault("state", {})["is_head"] = True  # for who need not read what is not sent
        asked = {**scope, "method": "GET"}  # the server's own scope stays a HEAD's
        try:
            await self.app(asked, receive, send_without_body)
        finally:
            scope["endpoint"] = asked.get("endpoint")
