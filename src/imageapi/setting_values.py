"""Types of the values of settings: what each may be, and what is wrong with one that never works.

A value that is taken, but with which nothing can ever match, is worse than one that is refused: the
service starts, and turns everybody away. The messages continue a sentence after the setting's name,
and do not repeat the value, which may be secret.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

_RATE = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)")
_PERIOD_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
_MIN_SECRET_BYTES = 32
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL}){{0,126}}")


class RateSetting(NamedTuple):
    """At most so many requests in so many seconds."""

    requests: int
    seconds: int


def _check_postgresql_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    return url


def _parse_time_zone(name: object) -> object:
    try:
        return ZoneInfo(name) if isinstance(name, str) else name
    except Exception as error:  # unknown names, paths, folders: each another exception
        raise ValueError("is not a time zone's name, such as Europe/Paris") from error


def _check_secrets(secrets: SecretStr) -> SecretStr:
    lengths = [len(secret.encode()) for secret in secrets.get_secret_value().split()]
    if any(length < _MIN_SECRET_BYTES for length in lengths):
        raise ValueError("must be secrets of at least 32 bytes, with spaces between")
    return secrets


def _check_issuer_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS):
        return url
    raise ValueError("must begin with https://, or the keys could be anybody's")


def _parse_rate(rate: object) -> object:
    if not isinstance(rate, str):
        return rate
    parts = _RATE.fullmatch(rate)
    if parts is None:
        raise ValueError("must be a number and a period, such as 600/minute")
    return RateSetting(int(parts[1]), _PERIOD_SECONDS[parts[2]])


def _split_at_commas(text: object) -> object:
    return [part.strip() for part in text.split(",")] if isinstance(text, str) else text


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_check_trusted_host(host) for host in hosts if host)


def _check_trusted_host(host: str) -> str:
    """Return the host as requests name it: in lower case, and without letters beyond ASCII."""
    if host == "*":
        raise ValueError("must not be *: leave it out, and requests may be for every host")
    if host.startswith("."):
        raise ValueError("must be hosts: write *.example.org for all under example.org")
    if "/" in host:
        raise ValueError("must be hosts without a scheme or a path, such as photos.example.org")
    wildcard = "*." if host.startswith("*.") else ""
    name = _normalize_host(host.removeprefix(wildcard))
    if name is None:
        if re.search(r":\d+$", host):
            raise ValueError("must be hosts without a port, such as photos.example.org")
        raise ValueError("must be hosts, such as photos.example.org or *.example.org")
    return wildcard + name


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_check_origin, origins))


def _check_origin(origin: str) -> str:
    """Return the origin as browsers send it (RFC 6454 §6.2)."""
    if "*" in origin:
        raise ValueError("must be whole origins, such as https://app.example.org, without *")
    scheme, separator, authority = origin.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        raise ValueError("must be origins, such as https://app.example.org")
    if "/" in authority:
        raise ValueError("must be origins without a path or a slash at the end")
    host, port = _split_port(authority)
    name = _normalize_host(host)
    if name is None:
        raise ValueError("must be origins with a host, such as https://app.example.org")
    if port is None:
        return f"{scheme}://{name}"
    if port == _DEFAULT_PORTS[scheme]:
        raise ValueError(f"must be origins without the port {port}, which browsers leave out")
    return f"{scheme}://{name}:{port}"


def _split_port(authority: str) -> tuple[str, int | None]:
    """Return the host and the port; the whole text as host where the port is no port."""
    host, separator, port = authority.rpartition(":")
    is_port = port.isascii() and port.isdigit() and not port.startswith("0")
    if separator and is_port and int(port) < 2**16:
        return host, int(port)
    return authority, None


def _normalize_host(host: str) -> str | None:
    """Return the host in the only form that browsers send; None if it is none."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return f"[{ip_address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    try:
        name = host.encode("idna").decode().lower() if not host.isascii() else host.lower()
    except UnicodeError:
        return None
    return name if _HOST_NAME.fullmatch(name) else None


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for network in networks:
            ip_network(network)
    except ValueError as error:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8") from error
    return networks


#: Text with commas between its parts. ``NoDecode``: pydantic-settings would read it as JSON.
_CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
Hosts = Annotated[_CommaList, AfterValidator(_check_hosts)]
Origins = Annotated[_CommaList, AfterValidator(_check_origins)]
Networks = Annotated[_CommaList, AfterValidator(_check_networks)]
PostgresqlUrl = Annotated[SecretStr, AfterValidator(_check_postgresql_url)]
Secrets = Annotated[SecretStr, AfterValidator(_check_secrets)]
IssuerUrl = Annotated[str, AfterValidator(_check_issuer_url)]
TimeZone = Annotated[ZoneInfo, BeforeValidator(_parse_time_zone)]
Rate = Annotated[RateSetting | None, NoDecode, BeforeValidator(_parse_rate)]
AssetsCache = Literal["private", "public"]
LongestEdge = Annotated[int, Field(ge=16, le=8192)]
