"""The ``Authorization`` header, read as the original framework reads it.

Source: Rails, ``ActionController::HttpAuthentication::Token``: the scheme ``Token`` or ``Bearer``,
then parameters separated by ``,`` ``;`` or a tab, ``token`` among them; or the bare token.
"""

import re

from imageapi.auth.errors import TokenMissing, TokenUnreadable

_SCHEME = re.compile(r"\s*(?:Token|Bearer)\s+", re.IGNORECASE)
_DELIMITER = re.compile(r"[,;\t]")
#: A longer value is refused before it is looked at, in characters.
MAX_HEADER_CHARACTERS = 8192


def find_token(authorization: str | None) -> str:
    """The token text of an ``Authorization`` header's value; still to be verified.

    Raises ``TokenMissing`` where there is no header, another scheme, or nothing behind the scheme,
    ``TokenUnreadable`` where it is too long.
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
    for position, parameter in enumerate(parameters):
        name, equals, value = parameter.partition("=")
        if equals and name == "token" and (token := _unquote(value)):
            return token
        if not equals and position == 0:
            return _unquote(parameter)
    raise TokenMissing("The Authorization header holds no token.")


def _unquote(value: str) -> str:
    return value.removeprefix('"').removesuffix('"')
