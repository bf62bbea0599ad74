"""What can be wrong with who asks.

::

    NotAllowed
    ├── TokenRefused        there is no valid token
    │   ├── TokenMissing        no header, or another scheme
    │   ├── TokenUnreadable     not a token of the form that is read here
    │   ├── TokenForged         signed by someone else, or in another way
    │   ├── TokenExpired        past its ``exp``
    │   └── TokenNotYetValid    before its ``nbf``
    └── AbilityMissing      a valid token that does not grant what was asked

    UnfitSecret             the operator's secret cannot be one

Each bears the sentence for the caller; none bears the token.
"""


class NotAllowed(Exception):
    """The caller may not do what was asked; ``str()`` is the public sentence."""


class TokenRefused(NotAllowed):
    """There is no valid token."""


class TokenMissing(TokenRefused):
    """The request bears no token at all."""


class TokenUnreadable(TokenRefused):
    """What was sent is not a token of the form that is read here."""


class TokenForged(TokenRefused):
    """The signature is not that of the configured secret and algorithm."""


class TokenExpired(TokenRefused):
    """The token's ``exp`` has come."""


class TokenNotYetValid(TokenRefused):
    """The token's ``nbf`` has not come yet."""


class AbilityMissing(NotAllowed):
    """The token is valid, but does not grant ``ability`` on ``album_id``."""

    def __init__(self, ability: str, album_id: str) -> None:
        super().__init__(f"The token does not grant {ability} on album {album_id}.")
        self.ability = ability
        self.album_id = album_id


class UnfitSecret(ValueError):
    """The configured secret cannot serve; ``str()`` says why without repeating it."""
