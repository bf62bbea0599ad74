"""Every setting, defined once: environment variables ``IMAGEAPI_…``, ``.env``, secret files.

A setting may also be in a file ``imageapi_…`` in ``/run/secrets``, where Docker mounts secrets, or
in the folder that systemd names in ``CREDENTIALS_DIRECTORY``. The environment has precedence over
``.env``, and ``.env`` over the files.
"""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettings

PREFIX = "IMAGEAPI_"
_RATE = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)")
_PERIOD_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
_MIN_SECRET_BYTES = 32


class InvalidSetting(Exception):
    """A setting's value cannot be used; ``str()`` is one line that names the setting."""


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


def _normalize_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(host.lower() for host in hosts if host)


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError("must be origins, such as https://app.example.org")
    return tuple(origin.lower() for origin in origins)


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for network in networks:
            ip_network(network)
    except ValueError as error:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8") from error
    return networks


#: Text with commas between its parts. ``NoDecode``: pydantic-settings would read it as JSON.
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
Rate = Annotated[RateSetting | None, NoDecode, BeforeValidator(_parse_rate)]
LongestEdge = Annotated[int, Field(ge=16, le=8192)]


class Settings(BaseSettings):
    """What an operator may set. A test compares it with ``docs/settings.md``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_check_postgresql_url)] | None = Field(
        default=None,
        description="`postgresql://…`, several hosts allowed; without it an embedded PostgreSQL "
        "in the data directory",
    )
    database_pooler: bool = Field(
        default=False,
        description="the URL leads to a pooler that hands out connections for a transaction each, "
        "such as PgBouncer",
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="the embedded database, the pictures, the generated secret",
    )
    store_url: str | None = Field(
        default=None,
        description="where pictures are kept: a folder, `s3://`, `gs://`, `az://`; without it "
        "`pictures` in the data directory",
    )
    token_secret: SecretStr | None = Field(
        default=None,
        description="HS256 secret, at least 32 bytes; required with `IMAGEAPI_DATABASE_URL`, "
        "else generated once into the data directory",
    )
    token_secrets_accepted: Annotated[SecretStr, AfterValidator(_check_secrets)] | None = Field(
        default=None,
        description="further secrets whose tokens are taken, with spaces between; none is issued "
        "with them",
    )
    token_jwks_url: Annotated[str, AfterValidator(_check_issuer_url)] | None = Field(
        default=None, description="also accept RS256, ES256 or EdDSA tokens of this issuer"
    )
    token_audience: str | None = Field(
        default=None, description="what `aud` of every token must name"
    )
    token_issuer: str | None = Field(default=None, description="what `iss` of every token must be")
    token_leeway_seconds: int = Field(
        default=0,
        ge=0,
        le=300,
        description="how far the clocks of those who make tokens may be off",
    )
    time_zone: Annotated[ZoneInfo, BeforeValidator(_parse_time_zone)] = Field(
        default=ZoneInfo("Europe/Paris"), description="offset of `created_at`"
    )

    max_upload_mb: int = Field(
        default=50, ge=1, le=100_000, description="larger uploads are 413, in millions of bytes"
    )
    max_megapixels: int = Field(
        default=100, ge=1, le=1000, description="larger pictures are 422, in millions of pixels"
    )
    geoip_database: Path | None = Field(
        default=None,
        description="a MaxMind database of cities: where the addresses of clients are",
    )
    trusted_proxies: Annotated[CommaList, AfterValidator(_check_networks)] = Field(
        default=(),
        description="addresses and networks, with commas between, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed",
    )
    trusted_hosts: Annotated[CommaList, AfterValidator(_normalize_hosts)] = Field(
        default=(),
        description="hosts, with commas between, that requests must be for, such as "
        "`photos.example.org` or `*.example.org`; others are 421",
    )
    cors_origins: Annotated[CommaList, AfterValidator(_check_origins)] = Field(
        default=(), description="origins, with commas between, that a browser may call from"
    )
    rate_limit: Rate = Field(
        default=None, description="e.g. `600/minute`, counted per user; more are 429"
    )
    address_rate_limit: Rate = Field(
        default=None, description="the same, counted per address, whatever the token"
    )
    max_requests: int = Field(
        default=1000, ge=1, description="requests under way in a worker; more are 503"
    )
    max_uploads: int = Field(
        default=32, ge=1, description="uploads under way in a worker; more are 503"
    )
    opentelemetry: bool = Field(
        default=False,
        description="trace requests, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs the extra "
        "`imageapi[opentelemetry]`",
    )
    full_pixels: LongestEdge = Field(
        default=1600, description="longest edge of the rendition `full`, 16 to 8192"
    )
    large_pixels: LongestEdge = Field(default=480, description="longest edge of `large`")
    mini_pixels: LongestEdge = Field(default=120, description="longest edge of `mini`")

    @model_validator(mode="after")
    def _secret_beside_url(self) -> Self:
        if self.database_url is not None and self.token_secret is None:
            raise ValueError(f"{PREFIX}TOKEN_SECRET is required with {PREFIX}DATABASE_URL")
        return self

    @property
    def database_address(self) -> str | None:
        """Return the URL with its password; None for the embedded database."""
        return None if self.database_url is None else self.database_url.get_secret_value()

    @property
    def configured_secret(self) -> str | None:
        """Return the secret in plain text; None for the generated one."""
        return None if self.token_secret is None else self.token_secret.get_secret_value()

    @property
    def accepted_secrets(self) -> list[str]:
        """Return the further secrets in plain text."""
        further = self.token_secrets_accepted
        return [] if further is None else further.get_secret_value().split()

    @property
    def store_address(self) -> str | Path:
        """Return the folder or URL of the store for pictures."""
        return self.store_url or self.data_dir / "pictures"

    @property
    def limit_bytes(self) -> int:
        """Return how many bytes a picture may have."""
        return self.max_upload_mb * 1_000_000

    @property
    def limit_pixels(self) -> int:
        """Return how many pixels a picture may have."""
        return self.max_megapixels * 1_000_000

    @property
    def sizes(self) -> dict[str, int]:
        """Return the renditions' names, with their longest edges in pixels."""
        return {"full": self.full_pixels, "large": self.large_pixels, "mini": self.mini_pixels}

    @property
    def secret_file(self) -> Path:
        """Return the file of the generated secret."""
        return self.data_dir / "token_secret"


def _find_secret_folders() -> list[Path]:
    """Return those folders of secret files that exist."""
    candidates = ["/run/secrets", os.environ.get("CREDENTIALS_DIRECTORY", "")]
    return [Path(folder) for folder in candidates if folder and Path(folder).is_dir()]


def load_settings() -> Settings:
    """Read the settings of this process from the environment and the files.

    Raises InvalidSetting for the first value that cannot be used.
    """
    try:
        return Settings(_secrets_dir=_find_secret_folders())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        name = f"{PREFIX}{str(first['loc'][0]).upper()} " if first["loc"] else ""
        raise InvalidSetting(f"{name}{reason}") from error
    except (UnreadableSettings, OSError, UnicodeError) as error:
        raise InvalidSetting("the .env file or a secret file cannot be read") from error
