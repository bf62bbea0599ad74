"""The generated secret: one for all processes, and no way for links to lead root elsewhere."""

import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imageapi.auth.secret_file import load_secret

ONLY_ROOTS = "only for root\n"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file elsewhere, which nobody but root may read or change."""
    path = tmp_path / "elsewhere"
    path.write_text(ONLY_ROOTS)
    path.chmod(0o600)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_secret_is_generated_once_and_private(data: Path) -> None:
    secret = load_secret(None, data / "token_secret")
    assert len(secret) >= 43
    assert load_secret(None, data / "token_secret") == secret
    assert [path.name for path in data.iterdir()] == ["token_secret"]
    assert stat.S_IMODE((data / "token_secret").stat().st_mode) == 0o600


def test_configured_secret_touches_no_file(data: Path) -> None:
    assert load_secret("configured", data / "token_secret") == "configured"
    assert not data.exists()


def test_processes_that_start_at_once_get_the_same_secret(data: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(lambda _: load_secret(None, data / "token_secret"), range(64)))
    assert len(found) == 1
    assert [path.name for path in data.iterdir()] == ["token_secret"]


def test_root_reads_no_secret_through_a_link(
    data: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    data.mkdir()
    (data / "token_secret").symlink_to(target)
    with pytest.raises(OSError, match="token_secret") as raised:
        load_secret(None, data / "token_secret")
    assert raised.value.filename == str(data / "token_secret")
    assert target.read_text() == ONLY_ROOTS


def test_nobody_writes_a_secret_through_a_link(
    data: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    data.mkdir()
    link = data / "token_secret.guessed"
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        load_secret(None, data / "token_secret")
    assert target.read_text() == ONLY_ROOTS
    assert link.is_symlink()
    assert not (data / "token_secret").exists()


def test_link_to_nothing_is_not_followed_to_create_a_file(data: Path, tmp_path: Path) -> None:
    data.mkdir()
    (data / "token_secret").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="token_secret"):
        load_secret(None, data / "token_secret")
    assert not (tmp_path / "new").exists()
    assert [path.name for path in data.iterdir()] == ["token_secret"]


def test_own_link_is_followed_by_a_user(
    data: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    data.mkdir()
    (data / "token_secret").symlink_to(target)
    assert load_secret(None, data / "token_secret") == ONLY_ROOTS.strip()


def test_pipe_is_not_waited_for(data: Path) -> None:
    data.mkdir()
    os.mkfifo(data / "token_secret")
    assert load_secret(None, data / "token_secret") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_gives_the_file_to_the_owner_of_the_folder(data: Path) -> None:
    data.mkdir()
    os.chown(data, 12345, 12346)
    load_secret(None, data / "token_secret")
    status = (data / "token_secret").stat()
    assert (status.st_uid, status.st_gid) == (12345, 12346)
