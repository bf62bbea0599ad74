"""Settings: where they come from, and one line for each wrong value."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from conftest import Command
from factories import PROJECT, SECRET
from imageapi.settings import PREFIX, InvalidSetting, Settings, load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.token_secret is None
    assert settings.data_dir == Path("data")
    assert settings.time_zone == ZoneInfo("Europe/Paris")


def test_environment_goes_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(
        "IMAGEAPI_TIME_ZONE=Asia/Tokyo\nIMAGEAPI_DATA_DIR=there\nOTHER=1\n"
    )
    monkeypatch.setenv("IMAGEAPI_TIME_ZONE", "UTC")
    settings = load_settings()
    assert (settings.time_zone, settings.data_dir) == (ZoneInfo("UTC"), Path("there"))


def test_files_of_secrets_go_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "imageapi_token_secret").write_text(f"{SECRET}\n")
    (folder / "imageapi_time_zone").write_text("Asia/Tokyo")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("IMAGEAPI_TIME_ZONE", "UTC")
    settings = load_settings()
    assert (settings.configured_secret, settings.time_zone) == (SECRET, ZoneInfo("UTC"))


def test_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(PREFIX + name.upper(), "")
    assert load_settings() == Settings.model_construct()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIME_ZONE", "Mars/Olympus"),
        ("TIME_ZONE", "../../etc/passwd"),
        ("TIME_ZONE", "Europe"),
        ("DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
        ("MAX_UPLOAD_MB", "0"),
        ("TOKEN_SECRETS_ACCEPTED", f"{SECRET.replace(' ', '-')} hunter2"),
        ("TOKEN_JWKS_URL", "http://login.example/keys"),
        ("TOKEN_JWKS_URL", "http://127.0.0.1@login.example/keys"),
        ("TOKEN_JWKS_URL", "file:///etc/keys"),
        ("TOKEN_LEEWAY_SECONDS", "301"),
        ("RATE_LIMIT", "600"),
        ("RATE_LIMIT", "0/minute"),
        ("ADDRESS_RATE_LIMIT", "10/fortnight"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://app.example.org/page"),
        ("CORS_ORIGINS", "https://app.example.org/"),
        ("CORS_ORIGINS", "https://*.example.org"),
        ("CORS_ORIGINS", "https://app.example.org:443"),
        ("CORS_ORIGINS", "HTTP://app.example.org:80"),
        ("CORS_ORIGINS", "https://app.example.org:0443"),
        ("CORS_ORIGINS", "https://app.example.org:99999"),
        ("CORS_ORIGINS", "https://"),
        ("CORS_ORIGINS", "https://:8000"),
        ("CORS_ORIGINS", "http://a b"),
        ("CORS_ORIGINS", "https://hunter2@app.example.org"),
        ("CORS_ORIGINS", "https://app..example.org"),
        ("CORS_ORIGINS", "app.example.org"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "file://"),
        ("CORS_ORIGINS", "https://[::1"),
        ("TRUSTED_HOSTS", "*"),
        ("TRUSTED_HOSTS", "photos.example.org,*"),
        ("TRUSTED_HOSTS", "photos.example.org:8000"),
        ("TRUSTED_HOSTS", "[::1]:8000"),
        ("TRUSTED_HOSTS", "https://photos.example.org"),
        ("TRUSTED_HOSTS", "photos.example.org/"),
        ("TRUSTED_HOSTS", ".example.org"),
        ("TRUSTED_HOSTS", "*example.org"),
        ("TRUSTED_HOSTS", "photos.*.org"),
        ("TRUSTED_HOSTS", "*."),
        ("TRUSTED_HOSTS", "photos.example.org."),
        ("TRUSTED_HOSTS", "photos .example.org"),
        ("TRUSTED_HOSTS", "hunter2@photos.example.org"),
        ("TRUSTED_HOSTS", "::1"),
        ("TRUSTED_HOSTS", "a" * 64 + ".org"),
        ("MAX_REQUESTS", "0"),
        ("MINI_PIXELS", "9000"),
    ],
)
def test_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(InvalidSetting) as error:
        load_settings()
    assert str(error.value).startswith(f"{PREFIX}{name} ")
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "field", "parts"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", "trusted_proxies", ("10.0.0.0/8", "::1")),
        ("TRUSTED_HOSTS", "A.org,, *.b.org ,", "trusted_hosts", ("a.org", "*.b.org")),
        ("TRUSTED_HOSTS", "[0:0::1],127.0.0.1", "trusted_hosts", ("[::1]", "127.0.0.1")),
        ("TRUSTED_HOSTS", "Bücher.example", "trusted_hosts", ("xn--bcher-kva.example",)),
        ("CORS_ORIGINS", "https://A.org, http://b", "cors_origins", ("https://a.org", "http://b")),
        ("CORS_ORIGINS", "http://b:8080", "cors_origins", ("http://b:8080",)),
        ("CORS_ORIGINS", "https://bücher.org", "cors_origins", ("https://xn--bcher-kva.org",)),
        ("CORS_ORIGINS", "http://[::1]:5173", "cors_origins", ("http://[::1]:5173",)),
        ("RATE_LIMIT", "600/minute", "rate_limit", (600, 60)),
        ("ADDRESS_RATE_LIMIT", "5/day", "address_rate_limit", (5, 86400)),
    ],
)
def test_value_is_split_into_its_parts(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, parts: tuple[object, ...]
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    assert getattr(load_settings(), field) == parts


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "CORS_ORIGINS"])
@pytest.mark.parametrize("value", [",", "{}, ", "[]", " "])
def test_empty_part_of_a_list_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value.format("https://a.org"))
    with pytest.raises(InvalidSetting, match=f"^{PREFIX}{name} must be "):
        load_settings()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("TIMEZONE", "IMAGEAPI_TIMEZONE is no setting; did you mean IMAGEAPI_TIME_ZONE?"),
        (
            "TRUSTED_HOST",
            "IMAGEAPI_TRUSTED_HOST is no setting; did you mean IMAGEAPI_TRUSTED_HOSTS?",
        ),
        ("PORT", "IMAGEAPI_PORT is no setting; did you mean "),
        ("QQQ", "IMAGEAPI_QQQ is no setting; "),
    ],
)
def test_name_that_is_no_setting_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    with monkeypatch.context() as in_environment:
        in_environment.setenv(PREFIX + name, "hunter2")
        with pytest.raises(InvalidSetting) as error:
            load_settings()
    assert str(error.value).startswith(line)
    (folder / ".env").write_text(f"{PREFIX}{name}=hunter2\n")
    with pytest.raises(InvalidSetting, match=f"^{PREFIX}{name} is no setting"):
        load_settings()
    (folder / ".env").unlink()
    (folder / f"{PREFIX}{name}".lower()).write_text("hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    with pytest.raises(InvalidSetting, match=f"^{PREFIX}{name} is no setting") as error:
        load_settings()
    assert "hunter2" not in str(error.value)


def test_name_that_is_no_setting_is_one_line_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "A\n\x1b[31m\u202e" + "x" * 1000, "1")
    with pytest.raises(InvalidSetting) as error:
        load_settings()
    assert str(error.value).isascii()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "8000"),
        ("SERVICE_PORT_HTTP", "8000"),
        ("WEB_SERVICE_HOST", "10.0.0.1"),
        ("PORT", "tcp://10.0.0.1:8000"),
        ("PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("PORT_8000_TCP_PROTO", "tcp"),
        ("WEB_PORT_8000_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_that_name_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    load_settings()


def test_secret_is_required_beside_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEAPI_DATABASE_URL", "postgresql://db/x")
    with pytest.raises(InvalidSetting, match="IMAGEAPI_TOKEN_SECRET is required"):
        load_settings()


def test_file_that_cannot_be_read_is_one_line(folder: Path) -> None:
    (folder / ".env").write_bytes(b"IMAGEAPI_TIME_ZONE=\xff\xfe")
    with pytest.raises(InvalidSetting, match=r"^the \.env file"):
        load_settings()


def test_secrets_are_not_printed() -> None:
    settings = Settings(token_secret=SECRET, database_url="postgresql://u:hunter2@db/x")
    assert SECRET not in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"IMAGEAPI_TIME_ZONE": "nowhere"}, "IMAGEAPI_TIME_ZONE is not a time zone's name"),
        ({"IMAGEAPI_TOKEN_SECRET": "short"}, "IMAGEAPI_TOKEN_SECRET is shorter than 32 bytes"),
        ({"IMAGEAPI_TOKEN_SECRET": ""}, "IMAGEAPI_TOKEN_SECRET is required"),
    ],
)
def test_command_stops_with_the_line(imageapi: Command, more: dict[str, str], named: str) -> None:
    for command in (("serve", "--port", "0"), ("token", "a")):
        result = imageapi(*command, **more)
        assert result.returncode == 2
        assert result.stdout == b""
        assert result.stderr.decode().startswith(f"imageapi: {named}")
        assert result.stderr.count(b"\n") == 1


def test_docs_name_every_setting_and_its_default() -> None:
    page = (PROJECT / "docs/settings.md").read_text()
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    return "none" if default in (None, ()) else f"`{default}`"
