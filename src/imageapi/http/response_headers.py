"""The documented headers (docs/contract.md, section 1), put around every answer from outside.

An ASGI middleware around the whole application: one that is added with ``add_middleware`` would not
see the answer to an unhandled error.
"""

import random
import re
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Header = tuple[bytes, bytes]


CACHE_CONTROL = (
    b"cache-control",
    b"no-cache, no-store, must-revalidate, private, max-age=0",
)
FIXED = (
    (b"pragma", b"no-cache"),
    (b"expires", b"Fri, 01 Jan 1990 00:00:00 GMT"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"1; mode=block"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-download-options", b"noopen"),
    (b"x-permitted-cross-domain-policies", b"none"),
)
P3P = (b"p3p", b'CP="NOI ADM DEV PSAi COM NAV OUR OTRo STP IND DEM"')

_VERSION_MASK = (1 << 128) - 1 & ~(0xF << 76) & ~(0x3 << 62)
_VERSION_4 = 0x4 << 76 | 0x2 << 62
_MAX_REQUEST_ID_CHARACTERS = 255
_NOT_IN_REQUEST_ID = re.compile(rb"[^A-Za-z0-9\-_.@]")


def request_id(given: bytes | None) -> str:
    """The request's own id without what may not be in one, or a new UUID if nothing is left."""
    if given:
        kept = _NOT_IN_REQUEST_ID.sub(b"", given)[:_MAX_REQUEST_ID_CHARACTERS]
        if kept:
            return kept.decode()
    return generate_uuid()


def generate_uuid() -> str:
    """A random UUID (RFC 9562, version 4), not secret; ``uuid.uuid4`` takes three times as long."""
    bits = random.getrandbits(128)
    text = f"{bits & _VERSION_MASK | _VERSION_4:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def add_documented_headers(
    answer: Iterable[Header], token: str | None, id_: str, started: float
) -> list[Header]:
    """The headers of an answer in the documented order, its own further ones behind them.

    ``started`` is a ``time.perf_counter()``; ``X-Runtime`` is in seconds. An answer's own
    ``Cache-Control`` stands. What could be compressed always varies by ``Accept-Encoding``.
    """
    own = dict(answer)
    headers = [(CACHE_CONTROL[0], own.pop(b"cache-control", CACHE_CONTROL[1])), *FIXED]
    if token is not None:
        headers.append((b"x-token", token.encode()))
    if (content_type := own.pop(b"content-type", None)) is not None:
        headers.append((b"content-type", content_type))
        if content_type.startswith(b"application/"):
            own.setdefault(b"vary", b"Accept-Encoding")
    if (vary := own.pop(b"vary", None)) is not None:
        headers.append((b"vary", vary))
    headers += (
        P3P,
        (b"x-request-id", id_.encode()),
        (b"x-runtime", b"%.6f" % (time.perf_counter() - started)),
    )
    if (content_length := own.pop(b"content-length", None)) is not None:
        headers.append((b"content-length", content_length))
    return headers + list(own.items())


class DocumentedHeaders:
    """ASGI middleware: gives every request its id, and every answer the documented headers.

    ``scope["state"]`` bears ``request_id`` for those within, and takes ``verified_token`` (the
    text) from whoever verified one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the documented headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        state = scope.setdefault("state", {})
        started = state.setdefault("started", time.perf_counter())
        state["request_id"] = request_id(given)

        async def send_documented(message: Message) -> None:
            if message["type"] == "http.response.start":
                token = state.get("verified_token")
                message["headers"] = add_documented_headers(
                    message["headers"], token, state["request_id"], started
                )
            await send(message)

        await self.app(scope, receive, send_documented)
