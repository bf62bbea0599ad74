"""Every setting, defined once: environment variables ``IMAGEAPI_…``, ``.env``, secret files.

A setting may also be in a file ``imageapi_…`` in ``/run/secrets``, where Docker mounts secrets, or
in the folder that systemd names in ``CREDENTIALS_DIRECTORY``. The environment has precedence over
``.env``, and ``.env`` over the files.
"""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettings

from imageapi.records.messages import describe_error
from imageapi.setting_values import (
    AssetsCache,
    Hosts,
    IssuerUrl,
    LongestEdge,
    Networks,
    Origins,
    PostgresqlUrl,
    Rate,
    Secrets,
    TimeZone,
)

PREFIX = "IMAGEAPI_"
_ENV_FILE = ".env"
_MAX_NAME_CHARACTERS = 64
#: What Kubernetes sets in every pod for a service that is named ``imageapi`` or ``imageapi-…``.
_OF_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_ADDRESS_OF_KUBERNETES = re.compile("(tcp|udp|sctp)://")


class InvalidSetting(Exception):
    """A setting's value cannot be used; ``str()`` is one line that names the setting."""


class Settings(BaseSettings):
    """What an operator may set. A test compares it with ``docs/settings.md``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=_ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    database_url: PostgresqlUrl | None = Field(
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
    token_secrets_accepted: Secrets | None = Field(
        default=None,
        description="further secrets whose tokens are taken, with spaces between; none is issued "
        "with them",
    )
    token_jwks_url: IssuerUrl | None = Field(
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
    time_zone: TimeZone = Field(
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
    trusted_proxies: Networks = Field(
        default=(),
        description="addresses and networks, with commas between, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed",
    )
    trusted_hosts: Hosts = Field(
        default=(),
        description="hosts, with commas between, that requests must be for, such as "
        "`photos.example.org` or `*.example.org`; others are 421",
    )
    cors_origins: Origins = Field(
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
    assets_cache: AssetsCache = Field(
        default="private",
        description="who may keep pictures for a year: `private`, browsers; `public`, also a CDN",
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

    Raises InvalidSetting for the first name that is no setting, and for the first value that cannot
    be used.
    """
    try:
        for name in _find_names():
            _require_setting(name)
        return Settings(_secrets_dir=_find_secret_folders())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()} " if first["loc"] else ""
        raise InvalidSetting(f"{name}{describe_error(first)}") from error
    except (UnreadableSettings, OSError, UnicodeError) as error:
        raise InvalidSetting("the .env file or a secret file cannot be read") from error


def _find_names() -> Iterator[str]:
    """Yield the names in the environment and the files that begin as those of settings do.

    May raise OSError, UnicodeError.
    """
    variables = {**dotenv_values(_ENV_FILE), **os.environ}
    for name, value in variables.items():
        is_address = name.endswith("_PORT") and _ADDRESS_OF_KUBERNETES.match(value or "")
        if not is_address and _OF_KUBERNETES.fullmatch(name) is None:
            yield name
    for folder in _find_secret_folders():
        yield from (path.name for path in folder.iterdir())


def _require_setting(name: str) -> None:
    """Raise InvalidSetting if the name begins as those of settings do, and is none."""
    setting = name.upper()
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    if not setting.startswith(PREFIX) or setting in known:
        return
    named = ascii(setting[:_MAX_NAME_CHARACTERS])[1:-1]
    similar = get_close_matches(setting, known, n=1)
    hint = f"did you mean {similar[0]}?" if similar else "docs/settings.md lists them"
    raise InvalidSetting(f"{named} is no setting; {hint}")
