"""Folders of photographs in by the command line, and the trash emptied by it."""

import io
import json
import os
import re
import time
import uuid
import warnings
from datetime import UTC, datetime, timedelta
from errno import EAGAIN, ENOSPC
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image, ImageChops, ImageCms, ImageFile, ImageOps, ImageStat
from sqlalchemy import update

import pictures
from conftest import Command
from factories import PROJECT, record
from fixture_types import TokenFor
from imageapi.database.engine import Database
from imageapi.database.tables import images
from imageapi.storage.staging import StagedFile
from imageapi.workers.process import WorkerProcess
from in_process import InProcess

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


def exported(in_process: InProcess, album: str) -> Any:
    return json.loads(in_process("export", album).stdout)


@pytest.mark.every_way
def test_folder_becomes_an_album_and_the_rest_is_named(
    imageapi: Command, in_process: InProcess, folder: Path, album: str
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
    tags = sorted(image["infos"]["tags"][1:] for image in exported(in_process, album))
    assert tags == [[], ["Holiday"], ["Holiday", "Beach"]]


def test_folder_that_is_there_is_skipped(
    imageapi: Command, in_process: InProcess, folder: Path, album: str
) -> None:
    for _ in range(2):
        done = imageapi("import", str(folder), "--album", album)
    assert done.stdout.decode() == "pictures added: 0, there already: 4, refused: 4\n"
    assert all(image["infos"]["tags"] == [album] for image in exported(in_process, album))


def test_folder_without_refusals_is_done(imageapi: Command, folder: Path, album: str) -> None:
    done = imageapi("import", str(folder / "Holiday"), "--album", album)
    assert (done.returncode, done.stderr) == (0, b"")


def test_folder_needs_an_album(in_process: InProcess, folder: Path) -> None:
    done = in_process("import", str(folder))
    assert done.returncode == 2
    assert "--album" in done.stderr.decode()


def test_records_and_folders_may_come_together(
    imageapi: Command, in_process: InProcess, folder: Path, album: str, tmp_path: Path
) -> None:
    records = tmp_path / "records.json"
    records.write_text(json.dumps([record(album)]))
    done = imageapi("import", str(records), str(folder / "Holiday"), "--album", album)
    assert done.returncode == 0, done.stderr
    assert len(exported(in_process, album)) == 3


@pytest.mark.parametrize(
    ("failing", "code", "sentence"),
    [
        ((WorkerProcess, "start"), EAGAIN, "Too much is to be decoded now."),
        ((StagedFile, "open"), ENOSPC, "The store of pictures does not answer."),
    ],
)
def test_import_that_cannot_go_on_ends_with_one_line(
    in_process: InProcess,
    folder: Path,
    album: str,
    failing: tuple[type, str],
    code: int,
    sentence: str,
) -> None:
    error = OSError(code, os.strerror(code))
    with patch.object(*failing, side_effect=error):
        done = in_process("import", str(folder / "Holiday"), "--album", album)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"imageapi: {sentence}\n"


def test_wrong_store_stops_the_start_with_one_line(
    imageapi: Command, in_process: InProcess, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for command in (["serve", "--port", "0"], ["purge"]):
        for store in ("ftp://host/there", str(tmp_path / "file"), "s3://"):
            done = in_process(*command, IMAGEAPI_STORE_URL=store)
            assert done.returncode == 2, (command, store)
            assert re.fullmatch(rb"imageapi: IMAGEAPI_STORE_URL .+\n", done.stderr)
    done = imageapi("serve", IMAGEAPI_GEOIP_DATABASE=str(tmp_path / "file"))
    assert done.returncode == 2
    assert re.fullmatch(rb"imageapi: IMAGEAPI_GEOIP_DATABASE .+\n", done.stderr)


class Trash:
    """An album over HTTP, and the command that keeps house over the same store."""

    def __init__(self, client: httpx.AsyncClient, album: str, may: TokenFor, purge: Any) -> None:
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
    client: httpx.AsyncClient,
    app: FastAPI,
    album: str,
    may: TokenFor,
    imageapi: Command,
    settings: Any,
) -> Trash:
    def purge(*arguments: str) -> str:
        done = imageapi("purge", *arguments, IMAGEAPI_STORE_URL=str(settings.store_address))
        assert done.returncode == 0, done.stderr
        return str(done.stdout.decode())

    return Trash(client, album, may, purge)


def kept(settings: Any, album: str) -> set[str]:
    root = Path(settings.store_address)
    return {each.name for each in (root / album).rglob("*") if each.is_file()}


@pytest.mark.every_way
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


# Real photographs: of ../shared/photos where it is there, or of any folder that is named


PHOTOS = Path(os.environ.get("IMAGEAPI_TEST_PHOTOS") or PROJECT.parent / "shared/photos").absolute()
has_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="IMAGEAPI_TEST_PHOTOS names no folder")


def differing(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures of one size, in levels of 255."""
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return sum(ImageStat.Stat(difference).mean) / 3


@has_photos
async def test_photographs_come_in_alike_by_folder_and_by_http(
    trash: Trash, imageapi: Command, tmp_path: Path
) -> None:
    more = {"IMAGEAPI_STORE_URL": str(tmp_path / "pictures")}
    album = f"{trash.album}-folder"
    done = imageapi("import", str(PHOTOS), "--album", album, **more)
    by_folder = {
        image["infos"]["etag"]: image for image in json.loads(imageapi("export", album).stdout)
    }
    taken = 0
    for path in sorted(each for each in PHOTOS.rglob("*") if each.is_file()):
        content = path.read_bytes()
        answer = await trash.client.post(
            f"{trash.path}/images", headers=trash.headers, files={"file": content}
        )
        if answer.status_code in {413, 415, 422}:
            assert f"{path}: {answer.json()['detail']}" in done.stderr.decode()
            continue
        assert answer.status_code in {200, 201}
        image = answer.json()
        other = by_folder.pop(image["infos"]["etag"], None)
        if answer.status_code == 201:
            taken += 1
            assert other is not None
            for name in ("exifs", "gps", "gps_exifs", "width", "height"):
                assert image[name] == other[name], path
        await require_shown(trash.client, image, content)
    assert by_folder == {}
    assert done.stdout.startswith(f"pictures added: {taken},".encode())


async def require_shown(client: httpx.AsyncClient, image: Any, content: bytes) -> None:
    """Its renditions fit their sizes, tell nothing, and look as another program shows it."""
    for size, edge in (("full", 1600), ("large", 480), ("mini", 120)):
        answer = await client.get(image["thumbnails"][size])
        assert answer.headers["Content-Type"] == "image/jpeg"
        shown = Image.open(io.BytesIO(answer.content))
        scale = min(1, edge / max(image["width"], image["height"]))
        for pixels, whole in zip(shown.size, (image["width"], image["height"]), strict=True):
            assert abs(pixels - whole * scale) <= 1
        assert not shown.getexif()
        assert "icc_profile" not in shown.info
    if image["infos"]["format"] in {"heic", "heif"}:
        return  # which Pillow does not read
    flat = upright_in_srgb(content).resize(shown.size, Image.Resampling.LANCZOS)
    assert differing(flat, shown) < 12


def upright_in_srgb(content: bytes) -> Image.Image:
    """The photograph as Pillow shows it, on white."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as original:
        upright = ImageOps.exif_transpose(original).convert("RGBA")
        profile = original.info.get("icc_profile")
    white = Image.new("RGBA", upright.size, "white")
    flat = Image.alpha_composite(white, upright).convert("RGB")
    if profile is not None:
        srgb = ImageCms.createProfile("sRGB")
        flat = ImageCms.profileToProfile(flat, io.BytesIO(profile), srgb) or flat
    return flat


@has_photos
async def test_eight_orientations_come_out_upright_and_alike(trash: Trash) -> None:
    paths = sorted(PHOTOS.glob("landscape_[1-8].jpg"))
    if len(paths) < 8:
        pytest.skip("the folder has no photograph in all eight orientations")
    shown = []
    for path in paths:
        image = await trash.upload(path.read_bytes())
        assert (image["width"], image["height"]) == (600, 450)
        answer = await trash.client.get(image["thumbnails"]["full"])
        picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
        # In their middle each has its own number.
        picture.paste("white", (200, 120, 400, 300))
        shown.append(picture)
    for picture in shown[1:]:
        assert differing(shown[0], picture) < 8
        assert differing(shown[0], picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 20
        assert differing(shown[0], picture.rotate(180)) > 20
