"""Answers the most frequent request, for a whole queue, without the framework.

The response is the same as the route's, from the same cache; a test compares them. Every request
that is unusual in any way goes to the route: one with a query, a token not seen before, an ability
that is missing, another host, a list too long for the cache, an error.
"""

import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from imageapi.api.dependencies import ALBUM_PATH, get_resources
from imageapi.api.guarded_route import find_guards
from imageapi.api.responses import json_text_response
from imageapi.api.untag import list_untagged_images, router
from imageapi.database.errors import DatabaseUnavailable
from imageapi.database.untagged_cache import CachedList
from imageapi.http.admission import is_trusted_host
from imageapi.http.cors import Cors
from imageapi.http.header_case import STATUS_OK, build_head
from imageapi.http.problem_handlers import problem_for
from imageapi.http.request_log import RequestLog, make_recorder
from imageapi.http.response_headers import (
    DocumentedHeaders,
    Header,
    add_documented_headers,
    get_request_id,
)
from imageapi.http.server_protocol import WHOLE_RESPONSE
from imageapi.records.ids import ALBUM_ID

(_ROUTE,) = [route for route in router.routes if isinstance(route, APIRoute)]
_PATH_PREFIX, _PATH_SUFFIX = (ALBUM_PATH + _ROUTE.path).split("{album_id}")
_ABILITY = find_guards(_ROUTE)[0].ability
_ROUTE_NAME = list_untagged_images.__name__

_MAX_ENCODINGS = 4
_RELEVANT_HEADERS = {b"authorization", b"accept-encoding", b"x-request-id", b"origin", b"host"}
_PLACEHOLDER = "{what differs}"
_RUNTIME = re.compile(rb"(?<=\r\nX-Runtime: )[0-9.]+")


class PreparedResponse:
    """A 200 response whose head and body are bytes, apart from three headers.

    ``X-token``, ``X-Request-Id`` and ``X-Runtime`` differ from request to request.
    """

    def __init__(self, headers: Iterable[Header], body: bytes) -> None:
        self.headers = list(headers)
        self.body = body
        head = build_head(
            STATUS_OK,
            add_documented_headers(self.headers, _PLACEHOLDER, _PLACEHOLDER, time.perf_counter()),
        )
        head = _RUNTIME.sub(_PLACEHOLDER.encode(), head)
        self._head_parts = tuple(head.split(_PLACEHOLDER.encode()))
        assert len(self._head_parts) == len(("token", "request id", "runtime")) + 1

    async def send(
        self, scope: Scope, send: Send, token: str, request_id: str, started: float
    ) -> None:
        """Send the response, head and body in one piece if the server supports that.

        ``started`` is the ``time.perf_counter()`` at the request's start.
        """
        send_whole = scope.get("extensions", {}).get(WHOLE_RESPONSE)
        if send_whole is None or not send_whole(
            self._build_head(token, request_id, started), self.body
        ):
            headers = add_documented_headers(self.headers, token, request_id, started)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.body})

    def _build_head(self, token: str, request_id: str, started: float) -> bytes:
        """Return the head of the response as HTTP/1.1 bytes."""
        before_token, before_id, before_runtime, end = self._head_parts
        runtime = time.perf_counter() - started
        return b"%b%b%b%b%b%.6f%b" % (
            *(before_token, token.encode(), before_id, request_id.encode()),
            *(before_runtime, runtime, end),
        )


class UntaggedFastPath:
    """ASGI middleware that answers requests for a whole queue, and passes on all others.

    ``state`` is the application's. Without ``hosts`` the host of a request does not matter.
    Responses say whether they depend on ``Origin``: they do where pages of ``origins`` may call.
    """

    def __init__(
        self, app: ASGIApp, state: State, hosts: Sequence[str] = (), origins: Sequence[str] = ()
    ) -> None:
        self.app = app
        self._origins = origins
        self._state = state
        self._hosts = hosts
        self._record = make_recorder()
        self._respond_error = RequestLog(DocumentedHeaders(self._add_cors(_respond_error)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if (
            scope["type"] != "http"
            or scope["query_string"]
            or b"%" in scope["raw_path"]
            or scope["method"] != "GET"
            or not scope["path"].endswith(_PATH_SUFFIX)
            or not scope["path"].startswith(_PATH_PREFIX)
            or not await self._try_respond(scope, receive, send)
        ):
            await self.app(scope, receive, send)

    async def _try_respond(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer the request if it is a usual one; return whether it is answered."""
        # The route's X-Runtime includes the time that is spent here on a request passed on.
        started = scope.setdefault("state", {})["started"] = time.perf_counter()
        request = _parse_request(scope)
        if request is None or not self._is_for_us(request.host):
            return False
        resources = get_resources(self._state)
        token = resources.tokens.find_remembered(request.authorization)
        if token is None or _ABILITY not in token.abilities.get(request.album_id, ()):
            return False
        try:
            cached = await resources.untagged_cache.find_list(request.album_id)
        except DatabaseUnavailable as error:
            context = {"album_id": request.album_id, "user_id": token.user_id}
            scope["state"].update(context, verified_token=token.text, error=error)
            scope["endpoint"] = list_untagged_images
            await self._respond_error(scope, receive, send)
            return True
        except Exception:  # noqa: BLE001 - nothing is sent yet: the route meets the error, too
            return False
        if cached is None:
            return False
        response = await self._get_encoded(cached, request.accept_encoding)
        request_id = get_request_id(request.request_id)
        await response.send(scope, send, token.text, request_id, started)
        context = {"album_id": request.album_id, "user_id": token.user_id}
        self._record("GET", _ROUTE_NAME, 200, started, {"request_id": request_id, **context})
        return True

    async def _get_encoded(self, cached: CachedList, accept_encoding: bytes) -> PreparedResponse:
        """Return the list's response in the encoding that the middleware picks for this header.

        The first `_MAX_ENCODINGS` different headers of a list have their responses cached with it.
        """
        response: PreparedResponse | None = cached.encoded.get(accept_encoding)
        if response is None:
            application = self._add_cors(json_text_response(cached.text))
            response = await _compress(application, accept_encoding)
            if len(cached.encoded) < _MAX_ENCODINGS:
                cached.encoded[accept_encoding] = response
        return response

    def _add_cors(self, app: ASGIApp) -> ASGIApp:
        return Cors(app, self._origins) if self._origins else app

    def _is_for_us(self, host: bytes) -> bool:
        return not self._hosts or is_trusted_host(host.decode("latin-1"), self._hosts)


async def _respond_error(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the problem response of ``state["error"]``.

    Passing the request on would wait for the database timeout a second time.
    """
    state = scope["state"]
    await problem_for(state["error"], state["request_id"])(scope, receive, send)


class _Request(NamedTuple):
    album_id: str
    authorization: bytes
    host: bytes
    accept_encoding: bytes
    request_id: bytes | None


def _parse_request(scope: Scope) -> _Request | None:
    """Return what matters of the request; None if it has no token or is unusual.

    Unusual are a header that matters and comes twice, an ``Origin``, and an album's id that
    cannot be one.
    """
    relevant: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _RELEVANT_HEADERS:
            if name in relevant:
                return None
            relevant[name] = value
    authorization = relevant.get(b"authorization")
    album_id = scope["path"][len(_PATH_PREFIX) : -len(_PATH_SUFFIX)]
    if authorization is None or b"origin" in relevant or ALBUM_ID.fullmatch(album_id) is None:
        return None
    return _Request(
        album_id,
        authorization,
        relevant.get(b"host", b""),
        relevant.get(b"accept-encoding", b""),
        relevant.get(b"x-request-id"),
    )


async def _compress(app: ASGIApp, accept_encoding: bytes) -> PreparedResponse:
    """Send the application's response through the compressing middleware; prepare the result."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def collect(message: Message) -> None:
        messages.append(message)

    headers = [(b"accept-encoding", accept_encoding)]
    scope = {"type": "http", "method": "GET", "headers": headers}
    await CompressMiddleware(app)(scope, receive, collect)
    start, *parts = messages
    return PreparedResponse(start["headers"], b"".join(part.get("body", b"") for part in parts))
