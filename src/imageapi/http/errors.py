"""Errors of HTTP itself: requests that are refused whatever the albums hold.

``str()`` of each is the sentence for the client, its ``detail``. What else belongs into the
response is an attribute of the error; `problem_handlers.problem_for` reads it.
"""

from collections.abc import Sequence


class NothingHere(Exception):
    """There is nothing at this address."""


class MethodNotAllowed(Exception):
    """The address has other methods; ``methods`` names them, for ``Allow``."""

    def __init__(self, methods: Sequence[str]) -> None:
        self.methods = ", ".join(methods)
        super().__init__(f"This address knows {self.methods}.")


class MisdirectedRequest(Exception):
    """The request is for a host that is not one of ours (RFC 9110 §15.5.20)."""

    def __init__(self) -> None:
        super().__init__("The request is for another host.")


class OriginRefused(Exception):
    """No page of the origin may call (CORS)."""

    def __init__(self, origin: str) -> None:
        super().__init__(f"IMAGEAPI_CORS_ORIGINS does not name the origin {origin}.")


class BodyTooLarge(Exception):
    """The body is larger than what is read."""


class BodyTooSlow(Exception):
    """The rest of the body did not come in time."""


class Overloaded(Exception):
    """More is under way than the service has room for."""


class UnreadableRequest(Exception):
    """The request ends too early, or is not in the format that it names."""


class NotMultipart(Exception):
    """The body has another media type than a form with a file."""


class InvalidParameter(ValueError):
    """A parameter can be read, but not used.

    ``pointer`` says where it stands, as ``/query/limit``; ``str()`` is the reason, which follows
    the pointer in a sentence.
    """

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer = pointer
