"""Folders of photographs in by the command line, and the trash emptied by it."""

import json
import os
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

import pictures
from conftest import Command
from factories import PROJECT, record
from imageapi.database.engine import Database
from imageapi.database.tables import images

ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs in folders, and what else lies about there."""
    root = tmp_path / "Pictures"
    for path, content in {
        "a.jpg": pictures.jpeg(seed=1),
        "Holiday/b.png": pictures.png(),
        "Holiday/Beach/c.JPG": pictures.jpeg(seed=2),
        "Holiday/Beach/again.jpg": pictures.jpeg(seed=2),
        "notes.txt": b"remember the milk",
        "truncated.jpg": pictures.jpeg()[:30],
        ".hidden.jpg": pictures.jpeg(seed=3),
        ".hidden/d.jpg": pictures.jpeg(seed=4),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "loop").symlink_to(root)
    (root / "empty.jpg").touch()
    os.mkfifo(root / "pipe.jpg")
    return root


def exported(imageapi: Command, album: str) -> Any:
    return json.loads(imageapi("export", album).stdout)


def test_folder_becomes_an_album_and_the_rest_is_named(
    imageapi: Command, folder: Path, album: str
) -> None:
    done = imageapi("import", str(folder), "--album", album, "--tags-from-folders")
    assert done.returncode == 1, done.stderr
    assert done.stdout.decode() == "pictures added: 3, there already: 1, refused: 4\n"
    lines = [line.removeprefix(f"refused: {folder}/") for line in done.stderr.decode().splitlines()]
    assert lines == [
        "empty.jpg: The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF.",
        "notes.txt: The file is not a JPEG, PNG, WebP, GIF, TIFF, HEIC, HEIF or AVIF.",
        "pipe.jpg: Not a file.",
        "truncated.jpg: The picture cannot be decoded.",
    ]
    tags = sorted(image["infos"]["tags"][1:] for image in exported(imageapi, album))
    assert tags == [[], ["Holiday"], ["Holiday", "Beach"]]


def test_folder_that_is_there_is_skipped(imageapi: Command, folder: Path, album: str) -> None:
    for _ in range(2):
        done = imageapi("import", str(folder), "--album", album)
    assert done.stdout.decode() == "pictures added: 0, there already: 4, refused: 4\n"
    assert all(image["infos"]["tags"] == [album] for image in exported(imageapi, album))


def test_folder_without_refusals_is_done(imageapi: Command, folder: Path, album: str) -> None:
    done = imageapi("import", str(folder / "Holiday"), "--album", album)
    assert (done.returncode, done.stderr) == (0, b"")


def test_folder_needs_an_album(imageapi: Command, folder: Path) -> None:
    done = imageapi("import", str(folder))
    assert done.returncode == 2
    assert "--album" in done.stderr.decode()


def test_records_and_folders_may_come_together(
    imageapi: Command, folder: Path, album: str, tmp_path: Path
) -> None:
    records = tmp_path / "records.json"
    records.write_text(json.dumps([record(album)]))
    done = imageapi("import", str(records), str(folder / "Holiday"), "--album", album)
    assert done.returncode == 0, done.stderr
    assert len(exported(imageapi, album)) == 3


def test_wrong_store_stops_the_start_with_one_line(imageapi: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (["serve", "--port", "0"], ["purge"]):
        for store in ("ftp://host/there", str(tmp_path / "file"), "s3://"):
            done = imageapi(*command, IMAGEAPI_STORE_URL=store)
            assert done.returncode == 2, (command, store)
            assert re.fullmatch(rb"imageapi: IMAGEAPI_STORE_URL .+\n", done.stderr)
    done = imageapi("serve", IMAGEAPI_GEOIP_DATABASE=str(tmp_path / "file"))
    assert done.returncode == 2
    assert re.fullmatch(rb"imageapi: IMAGEAPI_GEOIP_DATABASE .+\n", done.stderr)


class Trash:
    """An album over HTTP, and the command that keeps house over the same store."""

    def __init__(self, client: httpx.AsyncClient, album: str, may: Any, purge: Any) -> None:
        self.client = client
        self.headers = may(album, *ABILITIES)
        self.album = album
        self.path = f"/api/v1/albums/{album}"
        self.purge = purge

    async def upload(self, content: bytes) -> Any:
        answer = await self.client.post(
            f"{self.path}/images", headers=self.headers, files={"file": content}
        )
        assert answer.status_code == 201
        return answer.json()

    async def delete(self, image: Any) -> None:
        path = f"{self.path}/images/{image['public_id']}"
        answer = await self.client.delete(path, headers=self.headers)
        assert answer.status_code == 204


@pytest.fixture
def trash(
    client: httpx.AsyncClient, app: FastAPI, album: str, may: Any, imageapi: Command, settings: Any
) -> Trash:
    def purge(*arguments: str) -> str:
        done = imageapi("purge", *arguments, IMAGEAPI_STORE_URL=str(settings.store_address))
        assert done.returncode == 0, done.stderr
        return str(done.stdout.decode())

    return Trash(client, album, may, purge)


def kept(settings: Any, album: str) -> set[str]:
    root = Path(settings.store_address)
    return {each.name for each in (root / album).rglob("*") if each.is_file()}


async def test_purge_removes_what_was_deleted_long_ago(
    trash: Trash, settings: Any, database: Database
) -> None:
    old, young, alive = [await trash.upload(pictures.jpeg(seed=seed)) for seed in (1, 2, 3)]
    for image in (old, young):
        await trash.delete(image)
    async with database.transaction() as connection:
        await connection.execute(
            update(images)
            .where(images.c.public_id == uuid.UUID(old["public_id"]))
            .values(deleted_at=datetime.now(UTC) - timedelta(days=31))
        )
    assert trash.purge("--older-than", "30d").startswith("images removed: 1,")
    for image, status in ((old, 404), (young, 200)):
        path = f"{trash.path}/images/{image['public_id']}/restore"
        answer = await trash.client.post(path, headers=trash.headers)
        assert answer.status_code == status
    root = Path(settings.store_address) / trash.album
    assert len([each for each in root.rglob("original") if each.is_file()]) == 2
    events = await trash.client.get(f"{trash.path}/events?after=5", headers=trash.headers)
    event = events.json()[0]
    assert (event["kind"], event["user_id"]) == ("purge", None)
    assert event["before"] == {old["public_id"]: {"deleted": True}}
    assert event["after"] == {old["public_id"]: None}
    answer = await trash.client.get(alive["thumbnails"]["mini"])
    assert answer.status_code == 200


async def test_purge_removes_pictures_without_a_record_once_they_are_old(
    trash: Trash, settings: Any
) -> None:
    image = await trash.upload(pictures.jpeg())
    root = Path(settings.store_address)
    orphan = root / trash.album / str(uuid.uuid4()) / "original"
    staged = root / ".incoming" / uuid.uuid4().hex
    other = root / "somebody" / "elses.txt"
    for path in (orphan, staged, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert "without a record: 0" in trash.purge()
    before = time.time() - 2 * 3600
    for path in (orphan, staged, other):
        os.utime(path, (before, before))
    for path in (root / trash.album).rglob("*"):
        os.utime(path, (before, before))
    assert "without a record: 2" in trash.purge()
    assert not orphan.exists()
    assert not staged.exists()
    assert other.exists()
    other.unlink()
    assert (await trash.client.get(image["thumbnails"]["mini"])).status_code == 200


# Real photographs


def photo_folder() -> Path | None:
    named = os.environ.get("IMAGEAPI_TEST_PHOTOS")
    folder = Path(named) if named else PROJECT.parent / "shared" / "photos"
    return folder if folder.is_dir() else None
