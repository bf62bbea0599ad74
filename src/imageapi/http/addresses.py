"""Refuses addresses that cannot be read, and other spellings of the paths of the service.

The server decodes a path before it is matched with the routes. A byte that is no UTF-8 would be
replaced, an encoded slash would divide the path, and a line end at its end would be overlooked (the
``$`` of a regular expression also matches before it). Then a proxy that guards a path would not see
that path, and a request could be for another image than its client meant.
"""

import re
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi.http.errors import NothingHere, UnreadableRequest
from imageapi.http.problem_handlers import problem_for

_OTHER_SPELLING = re.compile(rb"%(?:2f|[01][0-9a-f]|7f)", re.IGNORECASE)


class Addresses:
    """ASGI middleware that answers 400 for bytes that are no UTF-8, 404 for other spellings.

    Other spellings are paths with an encoded slash or control character, outside of the free text
    at their end. ``before_free_text`` matches the start of a path up to such text, in bytes as they
    were sent.
    """

    def __init__(self, app: ASGIApp, before_free_text: re.Pattern[bytes]) -> None:
        self.app = app
        self._before_free_text = before_free_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or send the problem response."""
        application = self.app
        if scope["type"] == "http":
            try:
                self._check(scope)
            except (UnreadableRequest, NothingHere) as error:
                application = problem_for(error, scope["state"]["request_id"])
        await application(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise UnreadableRequest, NothingHere where the address is not one of the service."""
        path = scope["raw_path"]
        if b"%" in scope["query_string"]:
            _check_utf8(scope["query_string"])
        if b"%" not in path:
            return
        _check_utf8(path)
        free_text = self._before_free_text.match(path)
        if _OTHER_SPELLING.search(path, 0, len(path) if free_text is None else free_text.end()):
            raise NothingHere("There is nothing at this address.")


def _check_utf8(encoded: bytes) -> None:
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise UnreadableRequest("The address has bytes that are no UTF-8.") from None
