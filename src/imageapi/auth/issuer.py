"""The public keys of an issuer of tokens: its JSON Web Key Set (RFC 7517), fetched and kept.

The keys that are known hold while the issuer does not answer, for a day at most; no key is ever
believed that an answer of the issuer did not name. Only RSA of 2048 bits and more (RS256), P-256
(ES256) and Ed25519 (EdDSA, RFC 8037) are taken; all else in the set is passed over, secrets too.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Never

import httpx
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jose import jwk
from jose.backends.base import Key
from jose.utils import base64url_decode

from imageapi.auth.errors import IssuerUnavailable
from imageapi.metrics import ISSUER_FETCHES

#: How often the set is fetched, in seconds.
REFRESH_SECONDS = 300
#: A key that is not known is a reason to ask the issuer again, but not more often than this.
RETRY_SECONDS = 10
#: How long the keys hold without an answer of the issuer, in seconds.
MAX_STALE_SECONDS = 24 * 3600
#: How long the issuer may take for an answer, in seconds, and how long that may be.
ANSWER_SECONDS = 5
MAX_KEY_SET_BYTES = 256 * 1024
#: So many keys of a set are read.
MAX_KEYS = 32

_MIN_RSA_BITS = 2048

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key: its id, if it has one, and what it verifies."""

    kid: str | None
    algorithm: str
    key: Key


class _Ed25519(Key):
    """What python-jose, which knows no EdDSA, calls to verify a signature."""

    def __init__(self, key: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(key)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is of the message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


async def fetch(url: str, seconds: float = ANSWER_SECONDS) -> bytes:
    """What is at the URL; raises OSError, TimeoutError or httpx.HTTPError, also for much of it."""
    content = bytearray()
    client = httpx.AsyncClient(timeout=seconds, follow_redirects=False)
    async with asyncio.timeout(seconds), client, client.stream("GET", url) as answer:
        if answer.status_code != httpx.codes.OK:
            raise OSError("not what was asked for")
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > MAX_KEY_SET_BYTES:
                raise OSError("too much")
    return bytes(content)


class Issuer:
    """The keys of the set at a URL. ``generation`` rises with every change of them."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], Awaitable[bytes]] = fetch,
        now: Callable[[], float] = time.monotonic,
        patience_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._now = now
        self._patience_seconds = patience_seconds
        self._keys: list[IssuerKey] = []
        self._told: bytes | None = None
        self._answered_at: float | None = None
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self.generation = 0

    def keys(self, algorithm: str, kid: object) -> list[Key]:
        """The keys that may have signed a token with this header, none if it is not known."""
        return [
            known.key
            for known in self._keys
            if known.algorithm == algorithm and (kid is None or known.kid == kid)
        ]

    async def keep_fresh(self) -> Never:
        """Fetch the set now and again, until cancelled."""
        while True:
            async with self._asking:
                with suppress(IssuerUnavailable):  # who needs a key that is missing is told so
                    await self._refresh()
            await asyncio.sleep(REFRESH_SECONDS if self._is_answered else self._patience_seconds)

    async def ask_again(self) -> None:
        """Fetch the set, unless that was just done; raises IssuerUnavailable where it did not help.

        Of many who ask at once, one does.
        """
        async with self._asking:
            asked_at = self._asked_at
            is_due = asked_at is None or self._now() - asked_at >= self._patience_seconds
            if is_due:
                await self._refresh()
            elif not self._is_answered:
                raise IssuerUnavailable

    @property
    def _is_answered(self) -> bool:
        """Whether the last question was."""
        return self._answered_at is not None and self._answered_at == self._asked_at

    async def _refresh(self) -> None:
        self._asked_at = asked_at = self._now()
        try:
            told = await self._fetch(self._url)
            keys = _parse_key_set(told)
        except (OSError, ValueError, RecursionError, httpx.HTTPError, httpx.InvalidURL) as error:
            ISSUER_FETCHES.labels("failed").inc()
            log.warning("the issuer's keys cannot be had", error=type(error).__name__)
            self._forget_the_stale()
            raise IssuerUnavailable from None
        ISSUER_FETCHES.labels("answered").inc()
        self._answered_at = asked_at
        if told != self._told:
            self._told = told
            self._become(keys)

    def _forget_the_stale(self) -> None:
        answered_at = self._answered_at
        if answered_at is not None and self._now() - answered_at > MAX_STALE_SECONDS:
            self._told = None
            self._become([])

    def _become(self, keys: list[IssuerKey]) -> None:
        self._keys = keys
        self.generation += 1
        log.info("the issuer's keys", keys=len(keys))


def _parse_key_set(key_set: bytes) -> list[IssuerKey]:
    """The keys of the set that may verify tokens; raises ValueError where it is no set."""
    told = json.loads(key_set)
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError("not a key set")  # noqa: TRY004 - as of JSON that is none
    return list(filter(None, map(_parse_key, told["keys"][:MAX_KEYS])))


def _parse_key(told: object) -> IssuerKey | None:
    """The key, None where it is not for this, or not one."""
    if not isinstance(told, dict) or not _is_for_verifying(told):
        return None
    kid = told.get("kid")
    for algorithm, read in _READERS.items():
        if told.get("alg", algorithm) == algorithm and isinstance(kid, str | None):
            with suppress(Exception):  # the libraries raise whatever comes to mind
                if (key := read(told)) is not None:
                    key.verify(b"", b"")  # which loads what it takes, while there is room
                    return IssuerKey(kid, algorithm, key)
    return None


def _is_for_verifying(told: Mapping[str, Any]) -> bool:
    operations = told.get("key_ops", ["verify"])
    return (
        told.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and ("verify" in operations)
    )


def _pick_public_members(told: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The public half alone: nothing else of the key is handed on."""
    return {name: told[name] for name in names}


def _read_rsa(told: Mapping[str, Any]) -> Key | None:
    if told["kty"] != "RSA":
        return None
    if len(base64url_decode(told["n"].encode()).lstrip(b"\0")) * 8 < _MIN_RSA_BITS:
        return None
    return jwk.construct(_pick_public_members(told, ("kty", "n", "e")), "RS256")


def _read_p256(told: Mapping[str, Any]) -> Key | None:
    if (told["kty"], told["crv"]) != ("EC", "P-256"):
        return None
    return jwk.construct(_pick_public_members(told, ("kty", "crv", "x", "y")), "ES256")


def _read_ed25519(told: Mapping[str, Any]) -> Key | None:
    if (told["kty"], told["crv"]) != ("OKP", "Ed25519"):
        return None
    return _Ed25519(base64url_decode(told["x"].encode()))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Key | None]] = {
    "RS256": _read_rsa,
    "ES256": _read_p256,
    "EdDSA": _read_ed25519,
}
