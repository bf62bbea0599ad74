"""Errors of authentication and authorization.

::

    NotAllowed
    ├── TokenRefused        there is no valid token
    │   ├── TokenMissing        no header, or another scheme
    │   ├── TokenUnreadable     not a token in the accepted form
    │   ├── TokenForged         the signature is of another key or algorithm
    │   │   └── KeyUnknown          of a key that is not in the issuer's key set so far
    │   ├── TokenForElsewhere   of another issuer, or for another audience
    │   ├── TokenExpired        past its ``exp``
    │   └── TokenNotYetValid    before its ``nbf``
    └── AbilityMissing      a valid token that does not grant the ability

    IssuerUnavailable       the issuer's keys cannot be fetched
    InvalidSecret           the operator's secret cannot be used

The message of each is the sentence for the client. No message contains the token.
"""


class NotAllowed(Exception):
    """The client may not do this; ``str()`` is the sentence that it gets."""


class TokenRefused(NotAllowed):
    """There is no valid token."""


class TokenMissing(TokenRefused):
    """The request has no token."""


class TokenUnreadable(TokenRefused):
    """The token does not have the accepted form."""


class TokenForged(TokenRefused):
    """The signature is not of an accepted key and algorithm."""


class KeyUnknown(TokenForged):
    """The key is not in the issuer's key set as last fetched. A newer one may have it."""


class TokenForElsewhere(TokenRefused):
    """The token's ``aud`` or ``iss`` is not the one required."""


class TokenExpired(TokenRefused):
    """The token's ``exp`` is past."""


class TokenNotYetValid(TokenRefused):
    """The token's ``nbf`` is in the future."""


class AbilityMissing(NotAllowed):
    """The token is valid, but does not grant ``ability`` on ``album_id``."""

    def __init__(self, ability: str, album_id: str) -> None:
        super().__init__(f"The token does not grant {ability} on album {album_id}.")
        self.ability = ability
        self.album_id = album_id


class IssuerUnavailable(Exception):
    """The issuer's key set cannot be fetched; a later attempt may succeed."""

    def __init__(self) -> None:
        super().__init__("The issuer of tokens does not answer.")


class InvalidSecret(ValueError):
    """The configured secret cannot be used; ``str()`` says why, and does not contain it."""
