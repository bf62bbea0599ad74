"""``HEAD`` for every address that has ``GET``: the same headers, no body (RFC 9110 §9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """ASGI middleware that passes HEAD on as GET, and sends the response without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; without its body where the request is a HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope.setdefault("state", {})["is_head"] = True  # a route need not read what is not sent
        get_scope = {**scope, "method": "GET"}  # a copy: the server reads the method of its own
        try:
            await self.app(get_scope, receive, send_without_body)
        finally:
            scope["endpoint"] = get_scope.get("endpoint")
