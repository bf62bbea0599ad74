"""Several lines of a header that holds a list are one list (RFC 9110 §5.3)."""

from starlette.types import ASGIApp, Receive, Scope, Send

#: Those that are read here. What reads a header afterwards commonly reads its first line only.
_LIST_HEADERS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"access-control-request-headers",
        b"if-match",
        b"if-none-match",
        b"x-forwarded-for",
    }
)


class ListHeaders:
    """ASGI middleware that joins the lines of each list, in their order, into the first of them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with one line for each list."""
        if scope["type"] == "http":
            scope["headers"] = _join_lines(scope["headers"])
        await self.app(scope, receive, send)


def _join_lines(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    joined: list[tuple[bytes, bytes]] = []
    indices: dict[bytes, int] = {}
    for name, value in headers:
        if name in indices:
            joined[indices[name]] = (name, joined[indices[name]][1] + b", " + value)
            continue
        if name in _LIST_HEADERS:
            indices[name] = len(joined)
        joined.append((name, value))
    return joined
