"""The Authorization header, as the original framework reads it."""

import pytest

from imageapi.auth.authorization import find_token
from imageapi.auth.errors import TokenMissing


@pytest.mark.parametrize(
    "header",
    [
        'Token token="abc.def.ghi"',
        "Token token=abc.def.ghi",
        "token token=abc.def.ghi",
        "TOKEN   token=abc.def.ghi",
        'Bearer token="abc.def.ghi"',
        "Bearer abc.def.ghi",
        "bearer abc.def.ghi",
        "Token abc.def.ghi",
        'Token "abc.def.ghi"',
        'Token token="abc.def.ghi", nonce="x"',
        'Token token="abc.def.ghi"; nonce="x"',
        'Token token="abc.def.ghi"\tnonce="x"',
        'Token nonce="x", token="abc.def.ghi"',
        'Token nonce="x";token=abc.def.ghi , other=y',
        "Token abc.def.ghi, nonce=x",
        '  Token   token="abc.def.ghi"  ',
    ],
)
def test_token_is_found(header: str) -> None:
    assert find_token(header) == "abc.def.ghi"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Token",
        "Token ",
        "Bearer",
        "Token token=",
        'Token token=""',
        "Token ,;\t",
        'Token nonce="x"',
        "Basic YTpi",
        "Digest token=abc.def.ghi",
        "abc.def.ghi",
        'token="abc.def.ghi"',
        "TokenX token=abc.def.ghi",
        "Token\u00a0",
    ],
)
def test_no_token_is_missing(header: str | None) -> None:
    with pytest.raises(TokenMissing):
        find_token(header)
