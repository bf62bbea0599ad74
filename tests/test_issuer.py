"""Tokens of an issuer: its keys are fetched, kept, changed, and never stood in for."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from exchanges import service
from factories import HEADER, SECRET, claims, part, signed
from imageapi.auth.errors import (
    IssuerUnavailable,
    KeyUnknown,
    TokenExpired,
    TokenForElsewhere,
    TokenForged,
    TokenNotYetValid,
    TokenRefused,
    TokenUnreadable,
)
from imageapi.auth.issuer import (
    MAX_KEY_SET_BYTES,
    MAX_STALE_SECONDS,
    RETRY_SECONDS,
    Issuer,
    fetch,
)
from imageapi.auth.tokens import Rules, Tokens
from imageapi.database.engine import Database
from issuer import IssuerServer, SigningKey, issuer_server, key_set, number

ALBUM = "an-album"
OTHER_SECRET = "another secret, which is long enough as well"
RSA = SigningKey("RS256", "rsa")
P256 = SigningKey("ES256", "p256")
ED25519 = SigningKey("EdDSA", "ed")
ALL = key_set([RSA.jwk, P256.jwk, ED25519.jwk])


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Answers:
    """What an issuer answers, one after the other, the last again and again."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _: str) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def header_of(token: str) -> bytes:
    return f'Token token="{token}"'.encode()


def good(**changes: Any) -> dict[str, Any]:
    return claims(ALBUM, "image_list", **changes)


async def tokens_of(*answers: bytes | Exception, rules: Rules | None = None) -> Tokens:
    issuer = Issuer("", Answers(*answers))
    await issuer.refresh()
    return Tokens(SECRET, issuer=issuer, rules=rules or Rules())


@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=lambda key: key.algorithm)
async def test_token_of_the_issuer_is_taken(key: SigningKey) -> None:
    tokens = await tokens_of(ALL)
    verified = await tokens.verify_header(header_of(key.sign(good())))
    verified.require("image_list", ALBUM)
    without_kid = SigningKey(key.algorithm, None)
    tokens = await tokens_of(key_set([RSA.jwk, P256.jwk, ED25519.jwk, without_kid.jwk]))
    tokens.verify(without_kid.sign(good())).require("image_list", ALBUM)


@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=lambda key: key.algorithm)
async def test_token_that_is_changed_is_forged(key: SigningKey) -> None:
    tokens = await tokens_of(ALL)
    token = key.sign(good())
    head, payload, signature = token.split(".")
    other = SigningKey(key.algorithm, key.kid).sign(good())
    for forged in (
        other,
        f"{head}.{payload}.{part(base64.urlsafe_b64decode(signature + '==')[:-3])}",
        f"{head}.{payload}.{'A' * len(signature)}",
        f"{head}.{other.split('.')[1]}AAAA.{signature}",
    ):
        with pytest.raises(TokenForged):
            tokens.verify(forged)


async def test_other_valid_signature_of_a_token_has_the_same_rate() -> None:
    """For a signature (r, s) of ECDSA, (r, n - s) is valid too: anybody can make it."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    tokens = await tokens_of(ALL)
    token = P256.sign(good(user_id=None))
    text, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    names = {tokens.verify(each).rate_name for each in (token, f"{text}.{part(other)}")}
    assert names == {text}


async def test_algorithm_is_that_of_the_key() -> None:
    """No key verifies what names another algorithm, a public key is no secret, none is none."""
    tokens = await tokens_of(ALL)
    for key in (RSA, P256, ED25519):
        for algorithm in ("RS256", "ES256", "EdDSA", "RS512", "PS256", "ES384", "none", "HS256"):
            if algorithm != key.algorithm:
                with pytest.raises(TokenRefused):
                    tokens.verify(key.sign(good(), alg=algorithm))
    for public in (RSA.jwk["n"], json.dumps(RSA.jwk), ED25519.jwk["x"]):
        with pytest.raises(TokenForged):
            tokens.verify(signed(HEADER, good(), public))
    with pytest.raises(TokenUnreadable):
        tokens.verify(RSA.sign(good(), jwk=RSA.jwk))


def private(key: SigningKey) -> dict[str, Any]:
    numbers = key._rsa.private_numbers()
    return {**key.jwk, "d": number(numbers.d), "p": number(numbers.p), "q": number(numbers.q)}


SMALL = SigningKey("RS256", "rsa", bits=1024)
UNFIT: dict[str, tuple[SigningKey, dict[str, Any]]] = {
    "for encrypting": (RSA, RSA.jwk | {"use": "enc"}),
    "for signing only": (RSA, RSA.jwk | {"key_ops": ["sign"]}),
    "of another algorithm": (RSA, RSA.jwk | {"alg": "RS512"}),
    "too small": (SMALL, SMALL.jwk),
    "of another curve": (P256, P256.jwk | {"crv": "P-384"}),
    "of a curve beside NIST's": (P256, P256.jwk | {"crv": "secp256k1"}),
    "not on the curve": (P256, P256.jwk | {"x": P256.jwk["y"]}),
    "half a point": (P256, {name: P256.jwk[name] for name in ("kid", "kty", "crv", "x")}),
    "of Ed448": (ED25519, ED25519.jwk | {"crv": "Ed448"}),
    "cut": (ED25519, ED25519.jwk | {"x": ED25519.jwk["x"][:-4]}),
    "an id that is a number": (RSA, RSA.jwk | {"kid": 7}),
    "no kind": (RSA, {name: RSA.jwk[name] for name in ("kid", "n", "e")}),
}


@pytest.mark.parametrize(("key", "jwk"), UNFIT.values(), ids=UNFIT.keys())
async def test_key_that_is_not_fit_is_passed_over(key: SigningKey, jwk: dict[str, Any]) -> None:
    beside = SigningKey("EdDSA", "beside")
    tokens = await tokens_of(key_set([jwk, None, "key", [], beside.jwk]))  # type: ignore[list-item]
    with pytest.raises(KeyUnknown):
        tokens.verify(key.sign(good()))
    tokens.verify(beside.sign(good()))


async def test_secret_in_a_key_set_is_none() -> None:
    secret = {
        "kty": "oct",
        "kid": "s",
        "alg": "HS256",
        "k": number(int.from_bytes(b"k" * 32, "big")),
    }
    tokens = await tokens_of(key_set([secret]))
    with pytest.raises(TokenForged):
        tokens.verify(signed(HEADER | {"kid": "s"}, good(), "k" * 32))


async def test_private_half_is_not_needed_and_not_kept() -> None:
    tokens = await tokens_of(key_set([private(RSA)]))
    tokens.verify(RSA.sign(good()))
    assert isinstance(tokens._issuer, Issuer)
    (kept,) = tokens._issuer.find_keys("RS256", "rsa")
    assert isinstance(kept.prepared_key, RSAPublicKey)


async def test_new_key_is_asked_for_once() -> None:
    clock = Clock()
    answers = Answers(key_set([RSA.jwk]), ALL)
    issuer = Issuer("", answers, clock)
    await issuer.refresh()
    tokens = Tokens(SECRET, issuer=issuer)
    clock.seconds += RETRY_SECONDS
    header = header_of(P256.sign(good()))
    await asyncio.gather(*(tokens.verify_header(header) for _ in range(20)))
    assert answers.asked == 2
    for _ in range(5):  # nobody makes us ask again and again
        with pytest.raises(KeyUnknown):
            await tokens.verify_header(header_of(SigningKey("ES256", "unknown").sign(good())))
    assert answers.asked == 2


async def test_key_that_is_withdrawn_holds_no_more() -> None:
    clock = Clock()
    issuer = Issuer("", Answers(ALL, key_set([P256.jwk])), clock)
    await issuer.refresh()
    tokens = Tokens(SECRET, issuer=issuer)
    header = header_of(RSA.sign(good()))
    await tokens.verify_header(header)
    assert tokens.find_remembered(header) is not None
    clock.seconds += RETRY_SECONDS
    await issuer.refresh()
    assert tokens.find_remembered(header) is None
    with pytest.raises(KeyUnknown):
        await tokens.verify_header(header)


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        httpx.ConnectError("refused"),
        b"",
        b"<html>",
        b"[]",
        b'{"keys": 1}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda failure: repr(failure)[:20],
)
async def test_keys_hold_while_the_issuer_is_away_but_not_forever(
    failure: bytes | Exception,
) -> None:
    clock = Clock()
    issuer = Issuer("", Answers(ALL, failure), clock)
    await issuer.refresh()
    tokens = Tokens(SECRET, issuer=issuer)
    for seconds in (RETRY_SECONDS, MAX_STALE_SECONDS - 2 * RETRY_SECONDS):
        clock.seconds += seconds
        with pytest.raises(IssuerUnavailable):
            await tokens.verify_header(header_of(SigningKey("RS256", "new").sign(good())))
        tokens.verify(RSA.sign(good()))
    clock.seconds += 2 * RETRY_SECONDS
    with pytest.raises(IssuerUnavailable):
        await issuer.refresh()
    with pytest.raises(KeyUnknown):
        tokens.verify(RSA.sign(good()))
    tokens.verify(signed(HEADER, good()))  # our own need nobody


async def test_issuer_that_names_no_ids_may_change_its_key() -> None:
    old, new = SigningKey("RS256", None), SigningKey("RS256", None)
    clock = Clock()
    issuer = Issuer("", Answers(key_set([old.jwk]), key_set([new.jwk])), clock)
    await issuer.refresh()
    tokens = Tokens(SECRET, issuer=issuer)
    await tokens.verify_header(header_of(old.sign(good())))
    clock.seconds += RETRY_SECONDS
    await tokens.verify_header(header_of(new.sign(good())))
    with pytest.raises(KeyUnknown):
        await tokens.verify_header(header_of(old.sign(good())))


async def test_keeps_asking_until_there_is_an_answer() -> None:
    answers = Answers(OSError(), OSError(), ALL)
    issuer = Issuer("", answers, retry_seconds=0.01)
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(issuer.keep_fresh())
        async with asyncio.timeout(10):
            while not issuer.find_keys("RS256", "rsa"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        task.cancel()
    assert [line["event"] for line in lines] == [
        *["the issuer's keys cannot be fetched"] * 2,
        "the issuer's keys have changed",
    ]


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with issuer_server() as issuer:
        yield issuer


async def test_what_is_not_the_answer_itself_is_not_taken(issuer: IssuerServer) -> None:
    issuer.content = ALL
    assert await fetch(issuer.url) == ALL
    issuer.content = b"x" * (MAX_KEY_SET_BYTES + 1)
    with pytest.raises(OSError, match="too much"):
        await fetch(issuer.url)
    issuer.content, issuer.status, issuer.location = ALL, 302, issuer.url
    with pytest.raises(OSError, match="not what"):
        await fetch(issuer.url)
    assert issuer.asked == 3


async def test_issuer_that_keeps_silent_is_left() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as drips:
        port = drips.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            await fetch(f"http://127.0.0.1:{port}/keys", seconds=0.2)


async def test_service_takes_the_issuers_tokens(
    issuer: IssuerServer, database: Database, server: str, tmp_path: Path
) -> None:
    path = f"/api/v1/albums/{ALBUM}/images/untag"
    issuer.status = 500
    async with service(server, tmp_path, token_jwks_url=issuer.url) as client:

        async def ask(token: str) -> httpx.Response:
            return await client.get(path, headers={"Authorization": f"Bearer {token}"})

        away = await ask(RSA.sign(good()))
        assert (away.status_code, away.headers["Retry-After"]) == (503, "2")
        assert away.json()["type"] == "urn:imageapi:problem:issuer-away"
        assert issuer.url not in away.text
        assert (await ask(signed(HEADER, good()))).status_code == 200
    issuer.status, issuer.content = 200, ALL
    async with service(server, tmp_path, token_jwks_url=issuer.url) as client:
        for key in (RSA, P256, ED25519):
            assert (await ask(key.sign(good()))).status_code == 200
        assert (await ask(SigningKey("RS256", "rsa").sign(good()))).status_code == 401


async def test_without_an_issuer_its_tokens_are_refused() -> None:
    for key in (RSA, P256, ED25519):
        with pytest.raises(TokenForged, match="accepted algorithm"):
            await Tokens(SECRET).verify_header(header_of(key.sign(good())))


def test_secret_is_changed_without_refusing_anybody() -> None:
    """First every service accepts the new one, then it is what tokens are issued with."""
    old, new = signed(HEADER, good()), signed(HEADER, good(), OTHER_SECRET)
    with pytest.raises(TokenForged):
        Tokens(SECRET).verify(new)
    for secrets in ((SECRET, OTHER_SECRET), (OTHER_SECRET, SECRET)):
        for token in (old, new):
            Tokens(*secrets).verify(token)
    with pytest.raises(TokenForged):
        Tokens(OTHER_SECRET).verify(old)


@pytest.mark.parametrize(
    ("rules", "changes", "refused"),
    [
        (Rules(), {"aud": "us"}, TokenForElsewhere),
        (Rules(), {"iss": "anybody"}, None),
        (Rules(audience="us"), {}, TokenForElsewhere),
        (Rules(audience="us"), {"aud": "them"}, TokenForElsewhere),
        (Rules(audience="us"), {"aud": "us"}, None),
        (Rules(audience="us"), {"aud": ["them", "us"]}, None),
        (Rules(audience="us"), {"aud": []}, TokenForElsewhere),
        (Rules(audience="us"), {"aud": {"us": True}}, TokenForElsewhere),
        (Rules(issuer="me"), {}, TokenForElsewhere),
        (Rules(issuer="me"), {"iss": "you"}, TokenForElsewhere),
        (Rules(issuer="me"), {"iss": ["me"]}, TokenForElsewhere),
        (Rules(issuer="me"), {"iss": "me"}, None),
        (Rules(leeway_seconds=60), {"exp": 970}, None),
        (Rules(leeway_seconds=60), {"exp": 940}, TokenExpired),
        (Rules(leeway_seconds=60), {"nbf": 1060}, None),
        (Rules(leeway_seconds=60), {"nbf": 1061}, TokenNotYetValid),
        (Rules(), {"exp": 1000}, TokenExpired),
        (Rules(), {"nbf": 1001}, TokenNotYetValid),
    ],
)
def test_rules_hold(
    rules: Rules, changes: dict[str, Any], refused: type[TokenRefused] | None
) -> None:
    tokens = Tokens(SECRET, rules=rules, now=lambda: 1000)
    token = signed(HEADER, good(**{"exp": 5000, **changes}))
    if refused is None:
        tokens.verify(token)
    else:
        with pytest.raises(refused):
            tokens.verify(token)


async def test_remembered_token_expires_with_its_leeway() -> None:
    clock = Clock()
    tokens = Tokens(SECRET, rules=Rules(leeway_seconds=60), now=clock)
    header = header_of(signed(HEADER, good(exp=1001)))
    await tokens.verify_header(header)
    clock.seconds = 1060.9
    assert tokens.find_remembered(header) is not None
    clock.seconds = 1061
    assert tokens.find_remembered(header) is None
