"""Which tokens are taken, what they grant, and why each of the others is refused."""

import base64
import hmac
import json
import string
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jose import jwe, jwt
from jose.backends import ECKey

from factories import HEADER, SECRET, claims, part, signed
from imageapi.auth import tokens as tokens_module
from imageapi.auth.errors import (
    AbilityMissing,
    InvalidSecret,
    TokenExpired,
    TokenForElsewhere,
    TokenForged,
    TokenNotYetValid,
    TokenRefused,
    TokenUnreadable,
)
from imageapi.auth.tokens import MAX_TOKEN_CHARACTERS, Tokens

ALBUM = "an-album"
TOKENS = Tokens(SECRET)


def token(
    header: Any = HEADER, *, secret: str = SECRET, digest: str = "sha256", **changes: Any
) -> str:
    return signed(header, claims(ALBUM, "image_list", **changes), secret, digest)


def without(*names: str) -> str:
    kept = {name: value for name, value in claims(ALBUM, "image_list").items() if name not in names}
    return signed(HEADER, kept)


def nested(levels: int) -> Any:
    value: Any = True
    for _ in range(levels):
        value = {"a": value}
    return value


def public_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


DEEP_HEADER = b'{"a":' * 360 + b"1" + b"}" * 360
DEEP_LIST = b"[" * 1400 + b"]" * 1400

REFUSED = {
    "empty": ("", TokenUnreadable),
    "garbage": ("garbage", TokenUnreadable),
    "two parts": ("abc.def", TokenUnreadable),
    "not base64": ("!!.!!.!!", TokenUnreadable),
    "header that is no JSON": (signed(b"{", {}), TokenUnreadable),
    "header that is no object": (signed(["HS256"], {}), TokenUnreadable),
    "header that is no UTF-8": (signed(b'{"alg":"\xff"}', {}), TokenUnreadable),
    "expired": (token(exp=int(time.time()) - 1), TokenExpired),
    "expiring this very second": (token(exp=time.time()), TokenExpired),
    "not yet valid": (token(nbf=int(time.time()) + 3600), TokenNotYetValid),
    "nbf that is no number": (token(nbf="0"), TokenUnreadable),
    "no exp": (without("exp"), TokenUnreadable),
    "exp null": (token(exp=None), TokenUnreadable),
    "exp text": (token(exp="9999999999"), TokenUnreadable),
    "exp true": (token(exp=True), TokenUnreadable),
    "exp list": (token(exp=[9999999999]), TokenUnreadable),
    "exp infinite": (token(exp=float("inf")), TokenUnreadable),
    "exp NaN": (token(exp=float("nan")), TokenUnreadable),
    "exp beyond all numbers": (signed(HEADER, b'{"exp":1e999,"abilities":{}}'), TokenUnreadable),
    "exp of 400 digits": (token(exp=10**400), TokenUnreadable),
    "other secret": (token(secret=SECRET + "."), TokenForged),
    "no signature": (token().rpartition(".")[0] + ".", TokenUnreadable),
    "cut signature": (token()[:-2], TokenUnreadable),  # no bytes have 41 characters
    "signature cut by bytes": (token()[:-3], TokenForged),
    "alg missing": (token({"typ": "JWT"}), TokenForged),
    "alg null": (token({"alg": None}), TokenForged),
    "alg list": (token({"alg": ["HS256"]}), TokenUnreadable),
    **{
        f"alg {spelling}": (signed({"alg": spelling}, claims(ALBUM, "image_list")), TokenForged)
        for spelling in ("none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "RS256", "ES256")
    },
    "alg none, unsigned": (f"{part({'alg': 'none'})}.{part(claims(ALBUM))}.", TokenUnreadable),
    "HS384": (token({"alg": "HS384"}, digest="sha384"), TokenForged),
    "HS512": (token({"alg": "HS512"}, digest="sha512"), TokenForged),
    "RSA public key as secret": (token(secret=public_key()), TokenForged),
    "JWE": (
        jwe.encrypt(
            json.dumps(claims(ALBUM)), SECRET[:32].encode(), algorithm="dir", encryption="A256GCM"
        ).decode(),
        TokenUnreadable,
    ),
    "compressed": (token(HEADER | {"zip": "DEF"}), TokenUnreadable),
    "crit": (token(HEADER | {"crit": ["exp"]}), TokenUnreadable),
    "crit text": (token(HEADER | {"crit": "exp"}), TokenUnreadable),
    "unencoded payload": (token(HEADER | {"b64": False}), TokenUnreadable),
    "key of the sender's": (token(HEADER | {"jwk": {"kty": "oct", "k": "YQ"}}), TokenUnreadable),
    "payload list": (signed(HEADER, [claims(ALBUM)]), TokenForged),
    "payload text": (signed(HEADER, "claims"), TokenForged),
    "payload null": (signed(HEADER, None), TokenForged),
    "payload that is no JSON": (signed(HEADER, b"{"), TokenForged),
    "payload that is no UTF-8": (signed(HEADER, b'{"exp":"\xff"}'), TokenForged),
    "no abilities": (without("abilities"), TokenUnreadable),
    **{
        f"abilities {value!r}": (token(abilities=value), TokenUnreadable)
        for value in (None, [], "all", True, 1, {ALBUM: True}, {ALBUM: []}, {ALBUM: {"Access": []}})
    },
    "abilities too deep": (token(abilities=nested(10)), TokenUnreadable),
    "abilities a hundred deep": (token(abilities=nested(100)), TokenUnreadable),
    "payload 1,500 deep": (signed(HEADER, b"[" * 1500 + b"]" * 1500), TokenForged),
    "audience of another": (token(aud="another"), TokenForElsewhere),
    "user_id that is no text": (token(user_id=7), TokenUnreadable),
    "over 4 KB": (token(padding="x" * MAX_TOKEN_CHARACTERS), TokenUnreadable),
    "header nested a thousand deep": (
        f"{part(DEEP_HEADER)}.{part({})}.{part(b's' * 32)}",
        TokenUnreadable,
    ),
    "header of a thousand brackets": (
        f"{part(DEEP_LIST)}.{part({})}.{part(b's' * 32)}",
        TokenUnreadable,
    ),
    "header value nested deep": (
        token(HEADER | {"x": json.loads("[" * 300 + "]" * 300)}),
        TokenUnreadable,
    ),
}


@pytest.mark.parametrize(("refused", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_token_is_refused(refused: str, why: type[TokenRefused]) -> None:
    with pytest.raises(why) as error:
        TOKENS.verify(refused)
    assert refused == "" or refused not in str(error.value)


@pytest.mark.parametrize("refused", [each for each, _ in REFUSED.values()], ids=REFUSED.keys())
async def test_refused_token_is_401_and_not_repeated(
    client: httpx.AsyncClient, refused: str
) -> None:
    answer = await client.get(
        f"/api/v1/albums/{ALBUM}/images/untag",
        headers={"Authorization": f'Token token="{refused}"'},
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Token realm="Image API"'
    assert "X-token" not in answer.headers
    assert len(refused) < 8 or refused not in answer.text


def test_long_token_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("imageapi.auth.tokens.json.loads", parsed)
    monkeypatch.setattr("imageapi.auth.tokens.jwt.decode", parsed)
    with pytest.raises(TokenUnreadable, match="4096"):
        TOKENS.verify("a" * (MAX_TOKEN_CHARACTERS - 3) + ".b.c")


@given(st.text(max_size=300) | st.from_regex(r"[\w-]+\.[\w-]+\.[\w-]+", fullmatch=True))
def test_whatever_is_sent_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.verify(text)


def test_good_token_grants_what_it_says() -> None:
    verified = TOKENS.verify(token(nbf=0))
    verified.require("image_list", ALBUM)
    assert verified.user_id == "20ab42f4-9308-4297-a5f0-c0c07d1d189b"


@pytest.mark.parametrize("value", [None, 42, True, "text", "2026-01-01", [1], {"a": 1}, -1.5])
@pytest.mark.parametrize(
    "claim", ["at_hash", "c_hash", "sub", "jti", "iat", "azp", "nonce", "email"]
)
def test_claim_that_is_not_asked_for_decides_nothing(claim: str, value: object) -> None:
    TOKENS.verify(token(**{claim: value})).require("image_list", ALBUM)


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("value", [None, "2026-01-01", "9999999999", True, [1], {"a": 1}])
def test_time_that_is_asked_for_must_be_a_number(claim: str, value: object) -> None:
    with pytest.raises(TokenUnreadable):
        TOKENS.verify(token(**{claim: value}))


def spellings(text: str) -> list[str]:
    """The other base64url texts of the same bytes, as a lenient decoder reads them."""
    alphabet = string.ascii_letters + string.digits + "-_"
    decoded = _decoded(text)
    others = [text[:-1] + last for last in alphabet if last != text[-1]]
    return [other for other in others if _decoded(other) == decoded]


@pytest.mark.parametrize("index", range(3), ids=["header", "payload", "signature"])
@pytest.mark.parametrize("padding", ["", "x", "xx"])
def test_token_has_one_spelling(index: int, padding: str) -> None:
    """Also one that was signed in another spelling: else a lenient signer's token had several."""
    good = token(HEADER | {"x": padding}, x=padding)
    TOKENS.verify(good)
    parts = good.split(".")
    for other in spellings(parts[index]):
        parts[index] = other
        text = ".".join(parts[:2])
        again = part(hmac.digest(SECRET.encode(), text.encode(), "sha256"))
        for signature in {parts[2], again}:
            with pytest.raises(TokenUnreadable):
                TOKENS.verify(f"{text}.{signature if index < 2 else other}")


@pytest.mark.parametrize(
    "change", ["{}=", "{}==", "{} ", " {}", "{}\n", "{}\0", "{}.", "{}+", "é{}"]
)
def test_nothing_may_stand_around_a_token(change: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.verify(change.format(token()))


@pytest.mark.parametrize(
    ("ability", "album"),
    [
        ("image_tag", ALBUM),
        ("image_list", "another-album"),
        ("image_list", ALBUM.upper()),
        ("image_list", ALBUM[:-1]),
        ("image_list", ALBUM + " "),
        ("IMAGE_LIST", ALBUM),
    ],
)
def test_ids_and_abilities_are_compared_exactly(ability: str, album: str) -> None:
    with pytest.raises(AbilityMissing, match=ability):
        TOKENS.verify(token()).require(ability, album)


@pytest.mark.parametrize("value", [1, 1.0, "true", "yes", False, None, [], [True], {}, {"a": True}])
def test_only_json_true_grants(value: object) -> None:
    verified = TOKENS.verify(token(abilities={ALBUM: {"Access": {"image_list": value}}}))
    with pytest.raises(AbilityMissing):
        verified.require("image_list", ALBUM)


def test_ability_beside_access_does_not_grant() -> None:
    verified = TOKENS.verify(token(abilities={ALBUM: {"image_list": True, "access": {}}}))
    with pytest.raises(AbilityMissing):
        verified.require("image_list", ALBUM)


def test_issued_token_is_verified_by_any_jwt_library() -> None:
    issued = TOKENS.issue([ALBUM], ["image_list", "image_tag"], timedelta(hours=4), "somebody")
    assert jwt.get_unverified_header(issued) == HEADER
    read = jwt.decode(issued, SECRET, algorithms=["HS256"])
    assert read["abilities"] == {ALBUM: {"Access": {"image_list": True, "image_tag": True}}}
    assert read["user_id"] == "somebody"
    assert abs(read["exp"] - time.time() - 4 * 3600) < 5


def test_documented_token_is_read_and_has_expired() -> None:
    documented = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOjE0NTU1NTIxNzgsImFiaWxpdGllcyI6eyIwMDMyNDAw"
        "MDAwNVRYaklBQVciOnsiQWNjZXNzIjp7ImltYWdlX2xpc3QiOnRydWV9fX0sInVzZXJfaWQiOiIyMGFiNDJmNC05Mz"
        "A4LTQyOTctYTVmMC1jMGMwN2QxZDE4OWIifQ.gVxoPg0RPytz4L_lyH6zSCPLrNo68vXVBiHdoBUGPW0"
    )
    with pytest.raises(TokenForged):  # its secret is not ours
        TOKENS.verify(documented)
    head, payload, _ = documented.split(".")
    ours = signed(_decoded(head), _decoded(payload))
    with pytest.raises(TokenExpired):
        TOKENS.verify(ours)
    verified = Tokens(SECRET, now=lambda: 1455552177).verify(ours)
    verified.require("image_list", "00324000005TXjIAAW")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


@pytest.mark.parametrize("secret", ["", "x" * 31, public_key()])
def test_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidSecret) as error:
        Tokens(secret)
    assert not secret or secret not in str(error.value)


def test_ecdsa_is_never_used() -> None:
    """python-jose falls back to the `ecdsa` package, whose signatures leak their timing."""
    assert ECKey.__module__ == "jose.backends.cryptography_backend"


async def test_oldest_token_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MAX_REMEMBERED_TOKENS", 3)
    tokens = Tokens(SECRET)
    headers = [
        f"Bearer {tokens.issue([f'album-{number}'], ['image_list'], timedelta(days=1))}".encode()
        for number in range(5)
    ]
    for header in headers:
        await tokens.verify_header(header)
    remembered = [tokens.find_remembered(header) is not None for header in headers]
    assert remembered == [False, False, True, True, True]
    assert (await tokens.verify_header(headers[0])).albums_with("image_list") == ["album-0"]
