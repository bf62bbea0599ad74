"""The documented response headers (docs/contract.md, section 1), added to every response.

The middleware wraps the whole application: one that is added with ``add_middleware`` would not see
the response to an unhandled error.
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
#: What `CACHE_CONTROL` says, for HTTP/1.0. A browser obeys Pragma whatever Cache-Control allows.
NOT_CACHED = (
    (b"pragma", b"no-cache"),
    (b"expires", b"Fri, 01 Jan 1990 00:00:00 GMT"),
)
FIXED = (
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"1; mode=block"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-download-options", b"noopen"),
    (b"x-permitted-cross-domain-policies", b"none"),
)
P3P = (b"p3p", b'CP="NOI ADM DEV PSAi COM NAV OUR OTRo STP IND DEM"')

# The bits of a UUID that its version and variant leave free, and those of version 4.
_FREE_BITS = (1 << 128) - 1 & ~(0xF << 76) & ~(0x3 << 62)
_VERSION_4 = 0x4 << 76 | 0x2 << 62
_MAX_REQUEST_ID_CHARACTERS = 255
_NOT_IN_REQUEST_ID = re.compile(rb"[^A-Za-z0-9\-_.@]")


def get_request_id(header: bytes | None) -> str:
    """Return the request's own id without invalid characters, or a new UUID if nothing is left."""
    if header:
        valid = _NOT_IN_REQUEST_ID.sub(b"", header)[:_MAX_REQUEST_ID_CHARACTERS]
        if valid:
            return valid.decode()
    return generate_uuid()


def generate_uuid() -> str:
    """Return a random UUID (RFC 9562, version 4), not a secret one.

    ``uuid.uuid4`` takes three times as long.
    """
    bits = random.getrandbits(128)
    text = f"{bits & _FREE_BITS | _VERSION_4:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def add_documented_headers(
    headers: Iterable[Header], token: str | None, request_id: str, started: float
) -> list[Header]:
    """Return a response's headers with the documented ones, in the documented order.

    The response's further headers come last. Its own ``Cache-Control``, which a picture has, stands
    in the place of all that forbids to keep it. A response that may be compressed always varies by
    ``Accept-Encoding``. ``started`` is a ``time.perf_counter()``, for ``X-Runtime``, in seconds.
    """
    own = dict(headers)
    cache_control = own.pop(b"cache-control", None)
    if cache_control is None:
        documented = [CACHE_CONTROL, *NOT_CACHED, *FIXED]
    else:
        documented = [(CACHE_CONTROL[0], cache_control), *FIXED]
    if token is not None:
        documented.append((b"x-token", token.encode()))
    if (content_type := own.pop(b"content-type", None)) is not None:
        documented.append((b"content-type", content_type))
        if content_type.startswith(b"application/"):
            own[b"vary"] = _add_accept_encoding(own.get(b"vary"))
    if (vary := own.pop(b"vary", None)) is not None:
        documented.append((b"vary", vary))
    documented += (
        P3P,
        (b"x-request-id", request_id.encode()),
        (b"x-runtime", b"%.6f" % (time.perf_counter() - started)),
    )
    if (content_length := own.pop(b"content-length", None)) is not None:
        documented.append((b"content-length", content_length))
    return documented + list(own.items())


def _add_accept_encoding(vary: bytes | None) -> bytes:
    """Return the value of ``Vary`` with ``Accept-Encoding`` in it."""
    if vary is None:
        return b"Accept-Encoding"
    is_named = b"accept-encoding" in map(bytes.strip, vary.lower().split(b","))
    return vary if is_named else b"Accept-Encoding, " + vary


class DocumentedHeaders:
    """ASGI middleware that gives each request an id, and each response the documented headers.

    It sets ``scope["state"]["request_id"]``, and reads ``verified_token`` there: the text of the
    token, which the application sets once it has verified one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response with the documented headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        state = scope.setdefault("state", {})
        started = state.setdefault("started", time.perf_counter())
        state["request_id"] = get_request_id(header)

        async def send_documented(message: Message) -> None:
            if message["type"] == "http.response.start":
                token = state.get("verified_token")
                message["headers"] = add_documented_headers(
                    message["headers"], token, state["request_id"], started
                )
            await send(message)

        await self.app(scope, receive, send_documented)
