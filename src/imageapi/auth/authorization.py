"""Parses the ``Authorization`` header as the framework of the original API does.

The source is Rails, ``ActionController::HttpAuthentication::Token``. The scheme is ``Token`` or
``Bearer``. Parameters follow, separated by ``,`` ``;`` or a tab, and one of them is ``token``; or
the token alone follows.
"""

import re

from imageapi.auth.errors import TokenMissing, TokenUnreadable

_SCHEME = re.compile(r"\s*(?:Token|Bearer)\s+", re.IGNORECASE)
_DELIMITER = re.compile(r"[,;\t]")
#: A longer header is refused before it is parsed.
MAX_HEADER_CHARACTERS = 8192


def find_token(authorization: str | None) -> str:
    """Return the token's text from the header's value. The token is not verified yet.

    Raises ``TokenMissing`` if there is no header, if its scheme is another one, or if nothing
    follows the scheme, and ``TokenUnreadable`` if the header is too long.
    """
    if authorization is None:
        raise TokenMissing('A token is required: Authorization: Token token="…".')
    if len(authorization) > MAX_HEADER_CHARACTERS:
        raise TokenUnreadable(f"The header is longer than {MAX_HEADER_CHARACTERS} characters.")
    scheme = _SCHEME.match(authorization)
    if scheme is None:
        raise TokenMissing("The Authorization header must be of the scheme Token or Bearer.")
    parts = map(str.strip, _DELIMITER.split(authorization[scheme.end() :]))
    parameters = [part for part in parts if part]
    for index, parameter in enumerate(parameters):
        name, equals, value = parameter.partition("=")
        if equals and name == "token" and (token := _unquote(value)):
            return token
        if not equals and index == 0:
            return _unquote(parameter)
    raise TokenMissing("The Authorization header holds no token.")


def _unquote(value: str) -> str:
    return value.removeprefix('"').removesuffix('"')
