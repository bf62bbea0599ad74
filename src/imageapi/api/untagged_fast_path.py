"""The ordinary request for the queue, answered without the framework's machinery.

It gives the same answer as the route, which a test compares; what is unusual in any way (a query,
a token not seen before, a missing ability, another host, a list too long, an error) is left to it.
"""

import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from imageapi.api.untag import list_untagged_images
from imageapi.database.errors import DatabaseUnavailable
from imageapi.database.untagged_cache import CachedList, UntaggedCache
from imageapi.http.admission import is_trusted_host
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

_PATH_PREFIX = "/api/v1/albums/"
_PATH_SUFFIX = "/images/untag"
_CONTENT_TYPE = (b"content-type", b"application/json; charset=utf-8")
_MAX_ENCODINGS = 4
_RELEVANT_HEADERS = {b"authorization", b"accept-encoding", b"x-request-id", b"origin", b"host"}
_PLACEHOLDER = "{what differs}"
_RUNTIME = re.compile(rb"(?<=\r\nX-Runtime: )[0-9.]+")


class PreparedResponse:
    """A 200 with the documented headers, of which three differ from request to request."""

    def __init__(self, headers: Iterable[Header], body: bytes) -> None:
        self.headers = list(headers)
        self.body = body
        head = build_head(
            STATUS_OK,
            add_documented_headers(self.headers, _PLACEHOLDER, _PLACEHOLDER, time.perf_counter()),
        )
        head = _RUNTIME.sub(_PLACEHOLDER.encode(), head)
        self._parts = tuple(head.split(_PLACEHOLDER.encode()))
        assert len(self._parts) == len(("token", "request id", "runtime")) + 1

    async def send(self, scope: Scope, send: Send, token: str, id_: str, started: float) -> None:
        """Send it, in one piece where the server can."""
        whole = scope.get("extensions", {}).get(WHOLE_RESPONSE)
        if whole is None or not whole(self._head(token, id_, started), self.body):
            headers = add_documented_headers(self.headers, token, id_, started)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.body})

    def _head(self, token: str, id_: str, started: float) -> bytes:
        """The answer's head as it goes over the wire."""
        before_token, before_id, before_runtime, end = self._parts
        runtime = time.perf_counter() - started
        return b"%b%b%b%b%b%.6f%b" % (
            *(before_token, token.encode(), before_id, id_.encode(), before_runtime, runtime, end),
        )


class UntaggedFastPath:
    """ASGI middleware: ``state`` holds the tokens and the lists once the service has begun.

    It answers for these hosts; where none are given, for any.
    """

    def __init__(self, app: ASGIApp, state: State, hosts: Sequence[str] = ()) -> None:
        self.app = app
        self._state = state
        self._hosts = hosts
        self._record = make_recorder()
        self._respond_error = RequestLog(DocumentedHeaders(_respond_error))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if (
            scope["type"] != "http"
            or scope["query_string"]
            or scope["method"] != "GET"
            or not scope["path"].endswith(_PATH_SUFFIX)
            or not scope["path"].startswith(_PATH_PREFIX)
            or not await self._answered(scope, receive, send)
        ):
            await self.app(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        # Whoever answers in the end, the time that is spent here is part of it.
        started = scope.setdefault("state", {})["started"] = time.perf_counter()
        asked = _parse_plain_request(scope)
        token = asked and self._state.tokens.find_remembered(asked.authorization)
        if asked is None or token is None or not self._is_for_us(asked.host):
            return False
        if "image_list" not in token.abilities.get(asked.album_id, ()):
            return False
        lists: UntaggedCache = self._state.untagged
        try:
            kept = await lists.find_list(asked.album_id)
        except DatabaseUnavailable as error:
            known = {"album_id": asked.album_id, "user_id": token.user_id}
            scope["state"].update(known, verified_token=token.text, error=error)
            scope["endpoint"] = list_untagged_images
            await self._respond_error(scope, receive, send)
            return True
        except Exception:  # noqa: BLE001 - nothing is sent yet: the route meets it, and says so
            return False
        if kept is None:
            return False
        answer = await _get_encoded(kept, asked.accept_encoding)
        id_ = get_request_id(asked.request_id)
        await answer.send(scope, send, token.text, id_, started)
        known = {"request_id": id_, "album_id": asked.album_id, "user_id": token.user_id}
        self._record("GET", list_untagged_images.__name__, 200, started, known)
        return True

    def _is_for_us(self, host: bytes) -> bool:
        return not self._hosts or is_trusted_host(host.decode("latin-1"), self._hosts)


async def _respond_error(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the problem response of ``state["error"]``.

    Passing the request on would wait for the database timeout a second time.
    """
    state = scope["state"]
    await problem_for(state["error"], state["request_id"])(scope, receive, send)


class _PlainRequest(NamedTuple):
    album_id: str
    authorization: bytes
    host: bytes
    accept_encoding: bytes
    request_id: bytes | None


def _parse_plain_request(scope: Scope) -> _PlainRequest | None:
    """What is asked, where no header that counts comes twice, and a token is there."""
    counting: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _RELEVANT_HEADERS:
            if name in counting:
                return None
            counting[name] = value
    authorization = counting.get(b"authorization")
    album_id = scope["path"][len(_PATH_PREFIX) : -len(_PATH_SUFFIX)]
    if authorization is None or b"origin" in counting or ALBUM_ID.fullmatch(album_id) is None:
        return None
    return _PlainRequest(
        album_id,
        authorization,
        counting.get(b"host", b""),
        counting.get(b"accept-encoding", b""),
        counting.get(b"x-request-id"),
    )


async def _get_encoded(kept: CachedList, accept_encoding: bytes) -> PreparedResponse:
    """Headers and body as the compressing middleware sends the list to who accepts this."""
    answer = kept.encoded.get(accept_encoding)
    if answer is None:
        answer = await _compress(kept.text, accept_encoding)
        if len(kept.encoded) < _MAX_ENCODINGS:
            kept.encoded[accept_encoding] = answer
    return answer


async def _compress(text: bytes, accept_encoding: bytes) -> PreparedResponse:
    sent: list[Message] = []

    async def plain(_: Scope, __: Receive, send: Send) -> None:
        headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def note(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "headers": [(b"accept-encoding", accept_encoding)]}
    await CompressMiddleware(plain)(scope, nothing, note)
    start, *parts = sent
    return PreparedResponse(start["headers"], b"".join(part.get("body", b"") for part in parts))
