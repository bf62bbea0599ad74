"""The public keys of an issuer of tokens: fetches and stores its JSON Web Key Set (RFC 7517).

While the issuer does not respond, its last keys stay valid, for a day at most. No key is accepted
that was not in a key set of the issuer. Accepted are RSA keys of 2048 bits or more (RS256), P-256
(ES256) and Ed25519 (EdDSA, RFC 8037). All other members of the set are ignored, also secret keys.
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

#: How often the key set is fetched.
REFRESH_SECONDS = 300
#: The shortest time between two fetches, also when tokens with unknown keys arrive.
RETRY_SECONDS = 10
#: How long the keys stay valid when the key set cannot be fetched.
MAX_STALE_SECONDS = 24 * 3600
#: The longest time that one fetch may take.
FETCH_SECONDS = 5
MAX_KEY_SET_BYTES = 256 * 1024
#: Further keys of a set are ignored.
MAX_KEYS = 32

_MIN_RSA_BITS = 2048

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key, its id (None if the set gives none), and the algorithm that it verifies."""

    kid: str | None
    algorithm: str
    key: Key


class _Ed25519(Key):
    """A key for EdDSA in the form that python-jose calls. The library itself has no EdDSA."""

    def __init__(self, key: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(key)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether the signature is one of the message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


async def fetch(url: str, seconds: float = FETCH_SECONDS) -> bytes:
    """Return the content at the URL; raise OSError, TimeoutError or httpx.HTTPError.

    A redirect, another status than 200 and content of more than MAX_KEY_SET_BYTES are OSErrors.
    """
    content = bytearray()
    client = httpx.AsyncClient(timeout=seconds, follow_redirects=False)
    async with asyncio.timeout(seconds), client, client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise OSError("not what was asked for")
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_KEY_SET_BYTES:
                raise OSError("too much")
    return bytes(content)


class Issuer:
    """The keys of the key set at a URL. ``generation`` rises whenever they change.

    ``retry_seconds`` is the shortest time between two fetches.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], Awaitable[bytes]] = fetch,
        now: Callable[[], float] = time.monotonic,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._now = now
        self._retry_seconds = retry_seconds
        self._keys: list[IssuerKey] = []
        self._key_set: bytes | None = None
        self._last_attempt: float | None = None
        self._last_success: float | None = None
        self._lock = asyncio.Lock()
        self.generation = 0

    def find_keys(self, algorithm: str, kid: object) -> list[Key]:
        """Return the keys that may have signed a token with this header, perhaps none."""
        return [
            key.key
            for key in self._keys
            if key.algorithm == algorithm and (kid is None or key.kid == kid)
        ]

    async def keep_fresh(self) -> Never:
        """Fetch the key set at regular intervals, until cancelled."""
        while True:
            async with self._lock:
                with suppress(IssuerUnavailable):  # a request that needs a missing key reports it
                    await self._fetch_keys()
            is_fresh = self._has_last_attempt_succeeded
            await asyncio.sleep(REFRESH_SECONDS if is_fresh else self._retry_seconds)

    async def refresh(self) -> None:
        """Fetch the key set, unless that was tried less than ``retry_seconds`` ago.

        Raises IssuerUnavailable if the last attempt failed. Concurrent calls share one fetch.
        """
        async with self._lock:
            last = self._last_attempt
            if last is None or self._now() - last >= self._retry_seconds:
                await self._fetch_keys()
            elif not self._has_last_attempt_succeeded:
                raise IssuerUnavailable

    @property
    def _has_last_attempt_succeeded(self) -> bool:
        return self._last_success is not None and self._last_success == self._last_attempt

    async def _fetch_keys(self) -> None:
        """Fetch the key set and replace the keys if it has changed; raise IssuerUnavailable."""
        self._last_attempt = started_at = self._now()
        try:
            key_set = await self._fetch(self._url)
            keys = _parse_key_set(key_set)
        except (OSError, ValueError, RecursionError, httpx.HTTPError, httpx.InvalidURL) as error:
            ISSUER_FETCHES.labels("failed").inc()
            log.warning("the issuer's keys cannot be fetched", error=type(error).__name__)
            self._drop_stale_keys()
            raise IssuerUnavailable from None
        ISSUER_FETCHES.labels("answered").inc()
        self._last_success = started_at
        if key_set != self._key_set:
            self._key_set = key_set
            self._replace_keys(keys)

    def _drop_stale_keys(self) -> None:
        last = self._last_success
        if last is not None and self._now() - last > MAX_STALE_SECONDS:
            self._key_set = None
            self._replace_keys([])

    def _replace_keys(self, keys: list[IssuerKey]) -> None:
        self._keys = keys
        self.generation += 1
        log.info("the issuer's keys have changed", keys=len(keys))


def _parse_key_set(text: bytes) -> list[IssuerKey]:
    """Return the keys that can verify tokens; raise ValueError if the text is not a key set."""
    key_set = json.loads(text)
    if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
        raise ValueError("not a key set")  # noqa: TRY004 - the same error as for invalid JSON
    return list(filter(None, map(_parse_key, key_set["keys"][:MAX_KEYS])))


def _parse_key(value: object) -> IssuerKey | None:
    """Return the key, or None if it cannot verify tokens, or is not a key."""
    if not isinstance(value, dict) or not _is_for_verifying(value):
        return None
    kid = value.get("kid")
    for algorithm, read_key in _KEY_READERS.items():
        if value.get("alg", algorithm) == algorithm and isinstance(kid, str | None):
            with suppress(Exception):  # the libraries raise exceptions of any class
                if (key := read_key(value)) is not None:
                    # The first use of a key imports modules. Do it now, while files can be opened.
                    key.verify(b"", b"")
                    return IssuerKey(kid, algorithm, key)
    return None


def _is_for_verifying(value: Mapping[str, Any]) -> bool:
    operations = value.get("key_ops", ["verify"])
    return (
        value.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and ("verify" in operations)
    )


def _pick_members(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the named members only, so that no private member reaches a library."""
    return {name: value[name] for name in names}


def _read_rsa(value: Mapping[str, Any]) -> Key | None:
    if value["kty"] != "RSA":
        return None
    if len(base64url_decode(value["n"].encode()).lstrip(b"\0")) * 8 < _MIN_RSA_BITS:
        return None
    return jwk.construct(_pick_members(value, ("kty", "n", "e")), "RS256")


def _read_p256(value: Mapping[str, Any]) -> Key | None:
    if (value["kty"], value["crv"]) != ("EC", "P-256"):
        return None
    return jwk.construct(_pick_members(value, ("kty", "crv", "x", "y")), "ES256")


def _read_ed25519(value: Mapping[str, Any]) -> Key | None:
    if (value["kty"], value["crv"]) != ("OKP", "Ed25519"):
        return None
    return _Ed25519(base64url_decode(value["x"].encode()))


_KEY_READERS: Mapping[str, Callable[[Mapping[str, Any]], Key | None]] = {
    "RS256": _read_rsa,
    "ES256": _read_p256,
    "EdDSA": _read_ed25519,
}
