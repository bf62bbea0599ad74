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

from imageapi.api.admission import is_known
from imageapi.api.headers import DocumentedHeaders, Header, documented, request_id
from imageapi.api.journal import Journal, recorder
from imageapi.api.problems import DATABASE_AWAY, problem
from imageapi.api.protocol import WHOLE_ANSWER
from imageapi.api.untag import list_untagged_images
from imageapi.api.wire import STATUS_OK, wire_head
from imageapi.database.errors import DatabaseAway
from imageapi.database.queue import KeptList, UntaggedLists
from imageapi.records.ids import ALBUM_ID

_BEFORE = "/api/v1/albums/"
_BEHIND = "/images/untag"
_CONTENT_TYPE = (b"content-type", b"application/json; charset=utf-8")
_MOST_ENCODINGS = 4
_COUNTING = {b"authorization", b"accept-encoding", b"x-request-id", b"origin", b"host"}
_MARK = "{what differs}"
_RUNTIME = re.compile(rb"(?<=\r\nX-Runtime: )[0-9.]+")


class Answer:
    """A 200 with the documented headers, of which three differ from request to request."""

    def __init__(self, headers: Iterable[Header], body: bytes) -> None:
        self.headers = list(headers)
        self.body = body
        head = wire_head(STATUS_OK, documented(self.headers, _MARK, _MARK, time.perf_counter()))
        head = _RUNTIME.sub(_MARK.encode(), head)
        self._parts = tuple(head.split(_MARK.encode()))
        assert len(self._parts) == len(("token", "request id", "runtime")) + 1

    async def send(self, scope: Scope, send: Send, token: str, id_: str, started: float) -> None:
        """Send it, in one piece where the server can."""
        whole = scope.get("extensions", {}).get(WHOLE_ANSWER)
        if whole is None or not whole(self._head(token, id_, started), self.body):
            headers = documented(self.headers, token, id_, started)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.body})

    def _head(self, token: str, id_: str, started: float) -> bytes:
        """The answer's head as it goes over the wire."""
        before_token, before_id, before_runtime, end = self._parts
        runtime = time.perf_counter() - started
        return b"%b%b%b%b%b%.6f%b" % (
            *(before_token, token.encode(), before_id, id_.encode(), before_runtime, runtime, end),
        )


class LeanQueue:
    """ASGI middleware: ``state`` holds the tokens and the lists once the service has begun.

    It answers for these hosts; where none are given, for any.
    """

    def __init__(self, app: ASGIApp, state: State, hosts: Sequence[str] = ()) -> None:
        self.app = app
        self._state = state
        self._hosts = hosts
        self._record = recorder()
        self._away = Journal(DocumentedHeaders(_say_away))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if (
            scope["type"] != "http"
            or scope["query_string"]
            or scope["method"] != "GET"
            or not scope["path"].endswith(_BEHIND)
            or not scope["path"].startswith(_BEFORE)
            or not await self._answered(scope, receive, send)
        ):
            await self.app(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        # Whoever answers in the end, the time that is spent here is part of it.
        started = scope.setdefault("state", {})["started"] = time.perf_counter()
        asked = _ordinary(scope)
        token = asked and self._state.tokens.remembered(asked.authorization)
        if asked is None or token is None or not self._is_for_us(asked.host):
            return False
        if "image_list" not in token.abilities.get(asked.album_id, ()):
            return False
        lists: UntaggedLists = self._state.untagged
        try:
            kept = await lists.get(asked.album_id)
        except DatabaseAway as error:
            known = {"album_id": asked.album_id, "user_id": token.user_id}
            scope["state"].update(known, verified_token=token.text, away=error)
            scope["endpoint"] = list_untagged_images
            await self._away(scope, receive, send)
            return True
        except Exception:  # noqa: BLE001 - nothing is sent yet: the route meets it, and says so
            return False
        if kept is None:
            return False
        answer = await _encoded(kept, asked.accept_encoding)
        id_ = request_id(asked.request_id)
        await answer.send(scope, send, token.text, id_, started)
        known = {"request_id": id_, "album_id": asked.album_id, "user_id": token.user_id}
        self._record("GET", list_untagged_images.__name__, 200, started, known)
        return True

    def _is_for_us(self, host: bytes) -> bool:
        return not self._hosts or is_known(host.decode("latin-1"), self._hosts)


async def _say_away(scope: Scope, receive: Receive, send: Send) -> None:
    """The route would ask the database once more, and wait as long again."""
    state = scope["state"]
    await problem(DATABASE_AWAY, str(state["away"]), state["request_id"])(scope, receive, send)


class _Ordinary(NamedTuple):
    album_id: str
    authorization: bytes
    host: bytes
    accept_encoding: bytes
    request_id: bytes | None


def _ordinary(scope: Scope) -> _Ordinary | None:
    """What is asked, where no header that counts comes twice, and a token is there."""
    counting: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _COUNTING:
            if name in counting:
                return None
            counting[name] = value
    authorization = counting.get(b"authorization")
    album_id = scope["path"][len(_BEFORE) : -len(_BEHIND)]
    if authorization is None or b"origin" in counting or ALBUM_ID.fullmatch(album_id) is None:
        return None
    return _Ordinary(
        album_id,
        authorization,
        counting.get(b"host", b""),
        counting.get(b"accept-encoding", b""),
        counting.get(b"x-request-id"),
    )


async def _encoded(kept: KeptList, accept_encoding: bytes) -> Answer:
    """Headers and body as the compressing middleware sends the list to who accepts this."""
    answer = kept.encoded.get(accept_encoding)
    if answer is None:
        answer = await _compressed(kept.text, accept_encoding)
        if len(kept.encoded) < _MOST_ENCODINGS:
            kept.encoded[accept_encoding] = answer
    return answer


async def _compressed(text: bytes, accept_encoding: bytes) -> Answer:
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
    return Answer(start["headers"], b"".join(part.get("body", b"") for part in parts))
