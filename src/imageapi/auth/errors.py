"""What can be wrong with who asks.

::

    NotAllowed
    ├── TokenRefused        there is no valid token
    │   ├── TokenMissing        no header, or another scheme
    │   ├── TokenUnreadable     not a token of the form that is read here
    │   ├── TokenForged         signed by someone else, or in another way
    │   │   └── KeyUnknown          with a key that the issuer has not named so far
    │   ├── TokenForElsewhere   of another issuer, or for another audience
    │   ├── TokenExpired        past its ``exp``
    │   └── TokenNotYetValid    before its ``nbf``
    └── AbilityMissing      a valid token that does not grant what was asked

    IssuerUnavailable              nobody says with which keys tokens are signed now
    InvalidSecret             the operator's secret cannot be one

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
    """The signature is of no key and algorithm that are taken."""


class KeyUnknown(TokenForged):
    """The issuer, as far as it was asked, names no such key."""


class TokenForElsewhere(TokenRefused):
    """The token's ``aud`` or ``iss`` is another than wanted."""


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


class IssuerUnavailable(Exception):
    """The issuer does not say which keys it signs with; asking again may help."""

    def __init__(self) -> None:
        super().__init__("The issuer of tokens does not answer.")


class InvalidSecret(ValueError):
    """The configured secret cannot serve; ``str()`` says why without repeating it."""
