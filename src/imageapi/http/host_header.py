"""Which host a request is for: its ``Host`` header and its target (RFC 9112 §3.2)."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address

#: A target in absolute form (RFC 9112 §3.2.2): the groups are its scheme and its host.
_ABSOLUTE_TARGET = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)")
#: ``uri-host [ ":" port ]`` (RFC 3986 §3.2.2); the group is an IPv6 address.
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})++)(?::[0-9]*)?"
)
_MAX_REMEMBERED_BYTES = 300
_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def is_for_one_host(target: bytes, headers: Iterable[tuple[bytes, bytes]], version: str) -> bool:
    """Return whether a request names one host, in ``Host`` and in its target.

    A proxy and the service could read several hosts differently. Only HTTP/1.0 needs no ``Host``.
    """
    hosts = [value.strip(b" \t") for name, value in headers if name == b"host"]
    absolute = None if target.startswith(b"/") else _ABSOLUTE_TARGET.match(target)
    if not hosts:
        return version == "1.0" and absolute is None
    if len(hosts) > 1 or not is_valid_host(hosts[0]):
        return False
    if absolute is None:
        return True
    scheme, host = absolute[1].lower(), absolute[2]
    return scheme in _DEFAULT_PORTS and _normalize(host, scheme) == _normalize(hosts[0], scheme)


def is_valid_host(value: bytes) -> bool:
    """Return whether the value of a ``Host`` header is one that RFC 9110 §7.2 allows.

    It may be empty: the client does not know a host then.
    """
    if len(value) > _MAX_REMEMBERED_BYTES:
        return _check_host(value)
    return _check_short_host(value)


def _check_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    if match is None:
        return not value
    if match[1] is None:
        return True
    try:
        IPv6Address(match[1].decode())
    except ValueError:
        return False
    return True


#: Every request has a host, and most have the same.
_check_short_host = lru_cache(maxsize=256)(_check_host)


def add_missing_path(target: bytes) -> bytes:
    """Return the target with the path ``/`` if it is in absolute form and has none."""
    absolute = _ABSOLUTE_TARGET.match(target)
    if absolute is None or target[absolute.end() :].startswith(b"/"):
        return target
    return target[: absolute.end()] + b"/" + target[absolute.end() :]


def _normalize(host: bytes, scheme: bytes) -> bytes:
    name = host.lower()
    return name.removesuffix(b":" + _DEFAULT_PORTS[scheme]).removesuffix(b":")
