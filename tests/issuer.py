"""An issuer of tokens: its keys, its tokens, and its key set over HTTP."""

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from factories import part

P256_BYTES = 32


def number(value: int, length: int | None = None) -> str:
    """A number as JSON Web Keys have it (RFC 7518 §2)."""
    raw = value.to_bytes(length or (value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SigningKey:
    """A key of the algorithm: its public half as a JSON Web Key, and tokens signed with it."""

    def __init__(self, algorithm: str, kid: str | None, bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self._bits = bits
        self.jwk: dict[str, Any] = {"kid": kid} if kid else {}
        self.jwk |= getattr(self, f"_make_{algorithm}")()

    def sign(self, claims: Any, **header: Any) -> str:
        """A token with these claims, in a header of its own where ``header`` says otherwise."""
        head = {"alg": self.algorithm, **({"kid": self.kid} if self.kid else {}), **header}
        text = f"{part(head)}.{part(claims)}"
        signature: bytes = getattr(self, f"_sign_{self.algorithm}")(text.encode())
        return f"{text}.{part(signature)}"

    def _make_RS256(self) -> dict[str, Any]:  # noqa: N802
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=self._bits)
        public = self._rsa.public_key().public_numbers()
        return {"kty": "RSA", "n": number(public.n), "e": number(public.e)}

    def _sign_RS256(self, text: bytes) -> bytes:  # noqa: N802
        return self._rsa.sign(text, padding.PKCS1v15(), hashes.SHA256())

    def _make_ES256(self) -> dict[str, Any]:  # noqa: N802
        self._ec = ec.generate_private_key(ec.SECP256R1())
        public = self._ec.public_key().public_numbers()
        x, y = number(public.x, P256_BYTES), number(public.y, P256_BYTES)
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def _sign_ES256(self, text: bytes) -> bytes:  # noqa: N802
        r, s = utils.decode_dss_signature(self._ec.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(P256_BYTES, "big") + s.to_bytes(P256_BYTES, "big")

    def _make_EdDSA(self) -> dict[str, Any]:  # noqa: N802
        self._ed = ed25519.Ed25519PrivateKey.generate()
        raw = self._ed.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "x": number(int.from_bytes(raw, "big"), len(raw))}

    def _sign_EdDSA(self, text: bytes) -> bytes:  # noqa: N802
        return self._ed.sign(text)


def key_set(keys: Sequence[dict[str, Any]]) -> bytes:
    """The JSON Web Key Set of the keys."""
    return json.dumps({"keys": list(keys)}).encode()


class IssuerServer:
    """What the issuer answers, to be changed; ``asked`` counts."""

    def __init__(self) -> None:
        self.content = key_set([])
        self.status = 200
        self.location: str | None = None
        self.asked = 0
        self.url = ""


@contextmanager
def issuer_server() -> Iterator[IssuerServer]:
    """An HTTP server on 127.0.0.1 that answers with the issuer's key set."""
    issuer = IssuerServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.send_response(issuer.status)
            if issuer.location is not None:
                self.send_header("Location", issuer.location)
            self.end_headers()
            self.wfile.write(issuer.content)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        issuer.url = f"http://127.0.0.1:{server.server_port}/keys"
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
