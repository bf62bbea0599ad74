"""What only HTTP knows to be wrong: an address or a parameter that leads nowhere."""


class NothingHere(Exception):
    """There is nothing at this address; ``str()`` is the public sentence."""


class BodyTooLarge(Exception):
    """More came than is read; ``str()`` is the public sentence."""


class BodyTooSlow(Exception):
    """The rest of a body does not come; ``str()`` is the public sentence."""


class Overloaded(Exception):
    """More of it is under way than there is room for; ``str()`` is the public sentence."""


class UnreadableRequest(Exception):
    """The request ends too early, or is not what it says it is; ``str()`` is public."""


class NotMultipart(Exception):
    """The body is of another media type than a form with a file; ``str()`` is public."""


class InvalidParameter(ValueError):
    """A parameter can be read, but not used: where it stands, and why it cannot."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer = pointer
