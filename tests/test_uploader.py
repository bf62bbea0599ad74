"""Uploads: what is accepted, which facts are read, what is refused and why."""

import asyncio
import hashlib
import io
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from errno import EAGAIN
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from fastapi import FastAPI
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from PIL import Image

import pictures
from factories import SECRET, record
from fixture_types import AddRecords, TokenFor
from imageapi.app import create_app
from imageapi.database.engine import Database
from imageapi.settings import Settings
from imageapi.workers.process import WorkerProcess

ABILITIES = ("image_list", "image_create", "image_tag", "image_update", "image_delete")
LISBON = (38.713750, -9.139333)


class Sender:
    """Somebody who may do everything in one album."""

    def __init__(self, client: httpx.AsyncClient, album: str, may: TokenFor) -> None:
        self.client = client
        self.album = album
        self.headers = may(album, *ABILITIES)
        self.images = f"/api/v1/albums/{album}/images"

    async def send(self, content: bytes, name: str = "a.jpg", **fields: Any) -> httpx.Response:
        return await self.client.post(
            self.images, headers=self.headers, data=fields, files={"file": (name, content)}
        )

    async def raw(
        self, body: bytes, content_type: str = "multipart/form-data; boundary=b"
    ) -> httpx.Response:
        headers = {**self.headers, "Content-Type": content_type}
        return await self.client.post(self.images, headers=headers, content=body)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def listed(self) -> Any:
        return (await self.client.get(self.images, headers=self.headers)).json()


@pytest.fixture
def sender(client: httpx.AsyncClient, album: str, may: TokenFor) -> Sender:
    return Sender(client, album, may)


def in_store(settings: Settings, album: str) -> list[str]:
    """What the folder of pictures holds of the album."""
    root = Path(settings.store_address) / album
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


@pytest.mark.every_way
async def test_photograph_becomes_an_image_of_the_queue(sender: Sender) -> None:
    content = pictures.jpeg(width=64, height=96, orientation=6, gps=LISBON, ISOSpeedRatings=200)
    before = datetime.now(UTC)
    answer = await sender.send(content)
    assert answer.status_code == 201
    image = answer.json()
    infos = image["infos"]
    assert answer.headers["Location"] == f"{sender.images}/{image['public_id']}"
    assert answer.headers["ETag"] == '"1"'
    assert infos["bytes"] == len(content)
    assert infos["etag"] == hashlib.md5(content).hexdigest()
    assert (infos["format"], infos["resource_type"], infos["type"]) == ("jpg", "image", "private")
    assert infos["tags"] == [sender.album]
    assert "location" not in infos
    assert (image["width"], image["height"], infos["width"], infos["height"]) == (64, 96, 64, 96)
    assert image["exifs"]["ISOSpeedRatings"] == 200
    assert image["gps"] == image["gps_exifs"] == pytest.approx(LISBON)
    assert (image["gps_html"], image["gps_ip"]) == (None, None)
    created_at = datetime.fromisoformat(image["created_at"])
    assert abs((created_at - before).total_seconds()) < 60
    assert datetime.fromisoformat(infos["created_at"]) == created_at.replace(microsecond=0)
    assert infos["created_at"].endswith("Z")
    queue = await sender.client.get(f"{sender.images}/untag", headers=sender.headers)
    assert queue.text == f"[{answer.text}]"
    keys = list(image)
    assert keys[:3] == ["public_id", "infos", "exifs"]
    assert keys[-2:] == ["album_id", "thumbnails"]


@pytest.mark.parametrize("format_", sorted(pictures.each_format()))
async def test_format_is_read_from_the_content(sender: Sender, format_: str) -> None:
    answer = await sender.send(pictures.each_format()[format_], name="holiday.pdf")
    assert answer.status_code == 201, answer.text
    assert answer.json()["infos"]["format"] == format_


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"\xff\xd8",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 9,
        b"<?xml version='1.0'?><svg/>" * 9,
        b"%PDF-1.7\n" * 99,
        b"<!doctype html><script>alert(1)</script>" * 9,
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" * 9,
        b"BM" + bytes(999),
        bytes(100_000),
    ],
)
async def test_what_is_no_picture_is_415(
    sender: Sender, content: bytes, settings: Settings
) -> None:
    answer = await sender.send(content)
    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:imageapi:problem:not-a-picture"
    assert in_store(settings, sender.album) == []


async def test_what_cannot_be_decoded_is_422_and_leaves_nothing(
    sender: Sender, settings: Settings
) -> None:
    for content in (pictures.jpeg()[:30], pictures.png()[:40], b"GIF89a" + bytes(60)):
        answer = await sender.send(content)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:imageapi:problem:unfit-picture"
    assert in_store(settings, sender.album) == []
    assert await sender.listed() == []


async def test_bomb_is_422_that_names_the_limit(sender: Sender) -> None:
    answer = await sender.send(pictures.bomb())
    assert answer.status_code == 422
    assert "400,000,000 pixels" in answer.json()["detail"]


@pytest.mark.every_way
async def test_same_picture_again_is_the_one_that_is_there(
    sender: Sender, settings: Settings
) -> None:
    first = await sender.send(pictures.jpeg())
    second = await sender.send(pictures.jpeg(), tags="other", public_id=str(uuid.uuid4()))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.text == first.text
    assert second.headers["Location"] == first.headers["Location"]
    assert len(await sender.listed()) == 1
    assert len([name for name in in_store(settings, sender.album) if "original" in name]) == 1


@pytest.mark.every_way
async def test_same_picture_many_times_at_once_becomes_one_image(
    sender: Sender, settings: Settings
) -> None:
    answers = await asyncio.gather(*(sender.send(pictures.jpeg(seed=7)) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["public_id"] for answer in answers}) == 1
    assert len([name for name in in_store(settings, sender.album) if "original" in name]) == 1


async def test_same_picture_is_another_image_in_another_album(
    sender: Sender, client: httpx.AsyncClient, may: TokenFor
) -> None:
    other = Sender(client, f"{sender.album}-2", may)
    first, second = await sender.send(pictures.jpeg()), await other.send(pictures.jpeg())
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["public_id"] != second.json()["public_id"]


@pytest.mark.every_way
async def test_picture_in_the_trash_makes_room_for_itself(sender: Sender) -> None:
    first = (await sender.send(pictures.jpeg())).json()["public_id"]
    path = f"{sender.images}/{first}"
    await sender.client.delete(path, headers=sender.headers)
    second = await sender.send(pictures.jpeg())
    assert second.status_code == 201
    assert second.json()["public_id"] != first
    answer = await sender.client.post(f"{path}/restore", headers=sender.headers)
    assert answer.status_code == 409
    assert second.json()["public_id"] in answer.json()["detail"]
    await sender.client.delete(second.headers["Location"], headers=sender.headers)
    answer = await sender.client.post(f"{path}/restore", headers=sender.headers)
    assert answer.status_code == 200


@pytest.mark.every_way
async def test_chosen_id_is_the_images(sender: Sender, settings: Settings) -> None:
    chosen = str(uuid.uuid4())
    answer = await sender.send(pictures.jpeg(), public_id=chosen.upper())
    assert answer.json()["public_id"] == chosen
    again = await sender.send(pictures.jpeg(), public_id=chosen)
    assert again.status_code == 200
    taken = await sender.send(pictures.png(), public_id=chosen)
    assert taken.status_code == 409
    assert chosen in taken.json()["detail"]
    await sender.client.delete(answer.headers["Location"], headers=sender.headers)
    in_trash = await sender.send(pictures.png(), public_id=chosen)
    assert in_trash.status_code == 409
    assert in_trash.json()["detail"] == (
        f"The image with the id {chosen} lies in the album's trash; it can be restored."
    )
    await sender.client.delete(answer.headers["Location"], headers=sender.headers)
    assert (await sender.send(pictures.png(), public_id=chosen)).status_code == 409
    assert len([name for name in in_store(settings, sender.album) if "original" in name]) == 1


async def test_fields_of_the_browser_are_its_position_and_first_tags(sender: Sender) -> None:
    answer = await sender.send(
        pictures.png(),
        latitude="48.861934399999996",
        longitude="2",
        accuracy="36",
        tags=["kitchen", " cafe\u0301 ", "kitchen", ""],
    )
    image = answer.json()
    assert image["infos"]["tags"] == [sender.album, "kitchen", "café"]
    assert '"location":{"accuracy":36,"latitude":48.861934399999996,"longitude":2}' in answer.text
    assert image["gps"] == image["gps_html"] == [48.861934399999996, 2]


@pytest.mark.parametrize(
    "fields",
    [
        {"latitude": "91", "longitude": "0", "accuracy": "1"},
        {"latitude": "nan", "longitude": "0", "accuracy": "1"},
        {"latitude": "north", "longitude": "0", "accuracy": "1"},
        {"latitude": "1", "accuracy": "1"},
        {"longitude": "181", "latitude": "1", "accuracy": "1"},
        {"longitude": "", "latitude": "", "accuracy": ""},
    ],
)
async def test_position_that_makes_no_sense_is_none(sender: Sender, fields: dict[str, str]) -> None:
    image = (await sender.send(pictures.png(), **fields)).json()
    assert (image["gps"], image["gps_html"], image["infos"].get("location")) == (None, None, None)


async def test_position_without_a_good_accuracy_has_no_location(sender: Sender) -> None:
    answer = await sender.send(pictures.png(), latitude="1", longitude="2", accuracy="-3")
    assert answer.json()["gps_html"] == [1, 2]
    assert "location" not in answer.json()["infos"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"public_id": "x"}, "/body/public_id"),
        ({"tags": "x" * 101}, "/body/tags"),
        ({"tags": "a\0b"}, "/body/tags"),
        ({"tags": [str(number) for number in range(101)]}, "/body/tags"),
        ({"tag": "kitchen"}, "/body/tag"),
    ],
)
async def test_unfit_field_is_422_that_names_it(
    sender: Sender, settings: Settings, fields: dict[str, Any], pointer: str
) -> None:
    answer = await sender.send(pictures.png(), **fields)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert in_store(settings, sender.album) == []


async def test_albums_own_id_is_no_first_tag(sender: Sender) -> None:
    answer = await sender.send(pictures.png(), tags=sender.album)
    assert answer.json()["errors"][0]["pointer"] == "/body/tags"


def part(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
        name.encode(),
        value,
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no form", 400),
        (b"--b--\r\n", 422),
        (part("tags", b"a") + b"--b--\r\n", 422),
        (part("file", pictures.png()), 400),
        (part("file", pictures.png())[:-40], 400),
        (part("file", pictures.png()) * 2 + b"--b--\r\n", 400),
        (part("tags", b"\xff") + part("file", pictures.png()) + b"--b--\r\n", 400),
        (part("tags", b"a" * 5000) + b"--b--\r\n", 413),
        (part("tags", b"a") * 200 + b"--b--\r\n", 413),
        (b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\n", 400),
        (b"--b\r\nX: " + b"y" * 100_000, 400),
        (b"--b\r\n\r\nx\r\n" + part("file", pictures.png()) + b"--b--\r\n", 400),
        (b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n', 400),
    ],
)
async def test_invalid_forms_are_distinguished(
    sender: Sender, settings: Settings, body: bytes, status: int
) -> None:
    answer = await sender.raw(body)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert in_store(settings, sender.album) == []


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "application/json", "multipart/form-data", "multipart/mixed; boundary=b", ""],
)
async def test_what_is_no_form_is_415(sender: Sender, content_type: str) -> None:
    answer = await sender.raw(pictures.jpeg(), content_type)
    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:imageapi:problem:not-a-form"


async def test_boundary_that_is_too_long_is_unreadable(sender: Sender) -> None:
    answer = await sender.raw(b"--", f"multipart/form-data; boundary={'b' * 60_000}")
    assert answer.status_code == 400


@pytest.mark.parametrize("name", [b"caf\xe9.png", "café.png".encode(), b"a;b.png", b"a%22b.png"])
async def test_name_of_the_file_may_be_any_bytes(sender: Sender, name: bytes) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % name
    answer = await sender.raw(head + pictures.png() + b"\r\n--b--\r\n")
    assert answer.status_code == 201, answer.text


async def test_form_comes_in_any_pieces(sender: Sender) -> None:
    body = b"\r\n" + part("tags", b"a--b") + part("file", pictures.png()) + b"--b--\r\nend"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 3):
            yield body[at : at + 3]

    answer = await sender.client.post(
        sender.images,
        headers={**sender.headers, "Content-Type": "multipart/form-data; boundary=b"},
        content=pieces(),
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["infos"]["tags"][1:] == ["a--b"]
    assert answer.json()["infos"]["bytes"] == len(pictures.png())


async def test_fields_may_stand_before_or_behind_the_file(sender: Sender) -> None:
    tags, file, end = part("tags", b"a"), part("file", pictures.png()), b"--b--\r\n"
    answer = await sender.raw(tags + file + part("tags", b"b") + end)
    assert answer.json()["infos"]["tags"][1:] == ["a", "b"]


@pytest.fixture(scope="module")
async def small(
    database: Database, tmp_path_factory: pytest.TempPathFactory, server: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A service that takes a million bytes at most, and knows where some addresses are."""
    folder = tmp_path_factory.mktemp("small")
    places = MMDBWriter(ip_version=6, ipv4_compatible=True)
    there = {"location": {"latitude": 48.5, "longitude": -2.25}}
    places.insert_network(IPSet(["203.0.113.0/24"]), there)
    places.insert_network(IPSet(["198.51.100.0/24"]), {"location": {"latitude": 200.0}})
    places.to_db_file(str(folder / "places.mmdb"))
    app = create_app(
        Settings(
            database_url=server,
            token_secret=SECRET,
            data_dir=folder,
            max_upload_mb=1,
            geoip_database=folder / "places.mmdb",
            trusted_proxies="10.0.0.0/8",
        )
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("10.1.2.3", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
    assert not list((folder / "pictures" / ".incoming").glob("*"))


async def test_too_many_bytes_are_413_before_all_of_them_came(
    small: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield part("file", pictures.jpeg())[:-2]
        while sent < 50_000_000:
            sent += 65536
            yield bytes(65536)

    sender = Sender(small, album, may)
    answer = await small.post(
        sender.images,
        headers={**sender.headers, "Content-Type": "multipart/form-data; boundary=b"},
        content=endless(),
    )
    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.json()["detail"]


async def test_form_that_does_not_begin_is_not_read_to_its_end(
    small: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    """More of it than may come at all would be 413."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(800):
            yield b"x" * 65536

    sender = Sender(small, album, may)
    answer = await small.post(
        sender.images,
        headers={**sender.headers, "Content-Type": "multipart/form-data; boundary=b"},
        content=endless(),
    )
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.9", [48.5, -2.25]),
        ("203.0.113.9, 10.9.9.9", [48.5, -2.25]),
        ("203.0.113.9, 192.0.2.1", None),
        ("198.51.100.1", None),
        ("nonsense", None),
        ("", None),
    ],
)
async def test_address_says_where_where_nothing_better_does(
    small: httpx.AsyncClient, album: str, may: TokenFor, forwarded: str, expected: Any
) -> None:
    sender = Sender(small, album, may)
    sender.headers["X-Forwarded-For"] = forwarded
    image = (await sender.send(pictures.png())).json()
    assert (image["gps"], image["gps_ip"]) == (expected, expected)
    image = (await sender.send(pictures.jpeg(gps=LISBON), latitude="1", longitude="2")).json()
    assert (image["gps_html"], image["gps_ip"]) == ([1, 2], expected)
    assert image["gps"] == pytest.approx(LISBON)


async def test_address_that_a_stranger_forwards_is_not_believed(
    small: httpx.AsyncClient, album: str, may: TokenFor
) -> None:
    transport = httpx.ASGITransport(small._transport.app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as stranger:
        sender = Sender(stranger, album, may)
        sender.headers["X-Forwarded-For"] = "203.0.113.9"
        assert (await sender.send(pictures.png())).json()["gps_ip"] is None


async def test_event_of_an_upload_names_who(sender: Sender) -> None:
    image = (await sender.send(pictures.png(), tags="a")).json()
    answer = await sender.client.get(
        f"/api/v1/albums/{sender.album}/events", headers=sender.headers
    )
    (event,) = answer.json()
    assert (event["kind"], event["version"]) == ("add", 1)
    assert event["before"] == {image["public_id"]: None}
    assert event["after"] == {image["public_id"]: {"tags": ["a"]}}


# What is shown


def opened(answer: httpx.Response) -> Image.Image:
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.every_way
async def test_renditions_are_made_without_the_position(sender: Sender) -> None:
    content = pictures.jpeg(width=2000, height=1000, gps=LISBON)
    image = (await sender.send(content)).json()
    for size, edge in (("full", 1600), ("large", 480), ("mini", 120)):
        answer = await sender.get(image["thumbnails"][size])
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        picture = opened(answer)
        assert picture.size == (edge, edge // 2)
        assert not picture.getexif()
        assert "icc_profile" not in picture.info
        assert b"Exif" not in answer.content
        known = await sender.get(
            image["thumbnails"][size], **{"If-None-Match": answer.headers["ETag"]}
        )
        assert (known.status_code, known.content) == (304, b"")


@pytest.mark.every_way
async def test_rotation_and_crop_are_shown_under_new_paths(sender: Sender) -> None:
    image = (await sender.send(pictures.jpeg(width=96, height=64))).json()
    path = f"{sender.images}/{image['public_id']}"
    change = {"rotation": 90, "crop_x": 32, "crop_y": 0, "crop_w": 32, "crop_h": 48}
    answer = await sender.client.patch(path, json=change, headers=sender.headers)
    shown = answer.json()["thumbnails"]
    assert shown["mini"] != image["thumbnails"]["mini"]
    rendition = await sender.get(shown["mini"])
    picture = opened(rendition)
    assert picture.size == (32, 48)
    # Right above in the turned picture lies what was left above.
    assert pictures.corners(rendition.content) == [pictures.RED] * 4
    assert (await sender.get(image["thumbnails"]["mini"])).status_code == 200


@pytest.mark.inside
async def test_fifty_who_ask_at_once_have_it_made_once(sender: Sender, app: FastAPI) -> None:
    image = (await sender.send(pictures.jpeg(width=900, height=600))).json()
    decoders = app.state.resources.backend.decoders
    made = 0
    render = decoders.render

    async def counting(*arguments: Any, **options: Any) -> bytes:
        nonlocal made
        made += 1
        result: bytes = await render(*arguments, **options)
        return result

    decoders.render = counting
    try:
        answers = await asyncio.gather(
            *(sender.get(image["thumbnails"]["large"]) for _ in range(50))
        )
    finally:
        decoders.render = render
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert made == 1


@pytest.mark.every_way
async def test_path_that_was_not_handed_out_is_404(sender: Sender) -> None:
    image = (await sender.send(pictures.jpeg())).json()
    path = image["thumbnails"]["mini"]
    blank, assets, album, public_id, signature, name = path.split("/")
    assert (blank, assets, album) == ("", "assets", sender.album)
    other = signature[:-2] + ("AA" if not signature.endswith("AA") else "BB")
    for wrong in (
        f"/assets/{album}/{public_id}/{other}/{name}",
        f"/assets/{album}/{public_id}/{signature}/mini-121.jpg",
        f"/assets/{album}/{public_id}/{signature}/original.jpg",
        f"/assets/{album}/{public_id}//{name}",
        f"/assets/{album}/{public_id}/é/{name}",
        f"/assets/{album}x/{public_id}/{signature}/{name}",
        f"/assets/{album}/{uuid.uuid4()}/{signature}/{name}",
        f"/assets/a.b/{public_id}/{signature}/{name}",
    ):
        assert (await sender.get(wrong)).status_code == 404, wrong
    await sender.client.delete(f"{sender.images}/{public_id}", headers=sender.headers)
    assert (await sender.get(path)).status_code == 404


async def test_original_comes_back_whole_and_in_ranges(sender: Sender) -> None:
    content = pictures.jpeg(width=300, height=200)
    answer = await sender.send(content)
    link = answer.headers["Link"]
    assert link.endswith('; rel="enclosure"')
    path = link[1:].partition(">")[0]
    whole = await sender.get(path)
    assert whole.content == content
    assert whole.headers["Content-Type"] == "image/jpeg"
    assert whole.headers["Accept-Ranges"] == "bytes"
    size = len(content)
    for asked, expected in (
        ("bytes=0-9", content[:10]),
        ("bytes=10-", content[10:]),
        ("bytes=-10", content[-10:]),
        (f"bytes={size - 1}-{size + 10}", content[-1:]),
        (f"bytes=-{size + 10}", content),
    ):
        part_ = await sender.get(path, Range=asked)
        assert (part_.status_code, part_.content) == (206, expected), asked
        start = size - len(expected) if not asked.startswith("bytes=0") else 0
        assert part_.headers["Content-Range"] == (
            f"bytes {start}-{start + len(expected) - 1}/{size}"
        )
    for asked in ("bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "lines=1-2", "bytes=x"):
        assert (await sender.get(path, Range=asked)).status_code == 200, asked
    for asked in (f"bytes={size}-", "bytes=-0"):
        beyond = await sender.get(path, Range=asked)
        assert beyond.status_code == 416
        assert beyond.headers["Content-Range"] == f"bytes */{size}"
    stale = await sender.get(path, **{"Range": "bytes=0-1", "If-Range": '"old"'})
    assert stale.status_code == 200


async def test_imported_record_has_no_picture_to_show(
    sender: Sender, add: AddRecords, may: TokenFor
) -> None:
    await add([record(sender.album)])
    answer = await sender.client.get(
        f"{sender.images}/{record(sender.album)['public_id']}", headers=sender.headers
    )
    assert "Link" not in answer.headers
    assert answer.json()["thumbnails"]["mini"] == "/assets/blank.jpg"


@pytest.mark.inside
async def test_decoder_that_is_killed_leaves_no_blank(
    sender: Sender, app: FastAPI, settings: Settings
) -> None:
    """As on a machine without memory: clients get Retry-After, and the picture afterwards."""
    image = (await sender.send(pictures.jpeg(width=900, height=600))).json()
    decoders = app.state.resources.backend.decoders
    path = image["thumbnails"]["full"]

    async def kill() -> None:
        while True:
            for child in decoders._workers:
                child.kill()
            await asyncio.sleep(0)

    killing = asyncio.create_task(kill())
    answer = await sender.get(path)
    killing.cancel()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["type"] == "urn:imageapi:problem:decoders-busy"
    assert not [name for name in in_store(settings, sender.album) if "full" in name]
    answer = await sender.get(path)
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (900, 600)


@pytest.mark.inside
async def test_upload_that_kills_its_decoder_is_unfit_not_busy(
    sender: Sender, app: FastAPI
) -> None:
    """A 503 would have a client send a picture that kills decoders again and again."""
    decoders = app.state.resources.backend.decoders

    async def kill() -> None:
        while True:
            for child in decoders._workers:
                child.kill()
            await asyncio.sleep(0)

    killing = asyncio.create_task(kill())
    answer = await sender.send(pictures.jpeg(seed=7))
    killing.cancel()
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:imageapi:problem:unfit-picture"


@pytest.mark.inside
async def test_upload_without_a_decoder_is_to_be_sent_again(
    sender: Sender, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process can be started, that is no fault of the picture."""
    start = AsyncMock(side_effect=OSError(EAGAIN, os.strerror(EAGAIN)))
    with monkeypatch.context() as exhausted:
        exhausted.setattr(WorkerProcess, "start", start)
        exhausted.setattr(app.state.resources.backend.decoders, "_idle", [])
        answer = await sender.send(pictures.jpeg(seed=8))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["type"] == "urn:imageapi:problem:decoders-busy"
    assert (await sender.send(pictures.jpeg(seed=8))).status_code == 201


@pytest.mark.inside
async def test_rendition_is_not_waited_for_without_end(
    sender: Sender, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store gives nothing, others get their turn, and those who wait an answer."""
    first, second = [
        (await sender.send(pictures.jpeg(width=900, height=600, seed=each))).json()
        for each in (1, 2)
    ]

    @asynccontextmanager
    async def never(_: str) -> AsyncIterator[Path]:
        await asyncio.sleep(60)
        yield Path()

    with monkeypatch.context() as slow:
        slow.setattr(app.state.resources.renditions, "_seconds", 0.5)
        slow.setattr(app.state.resources.backend.store, "as_file", never)
        started = asyncio.get_running_loop().time()
        paths = [
            image["thumbnails"][name] for image in (first, second) for name in ("full", "large")
        ]
        answers = await asyncio.gather(*map(sender.get, paths))
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["type"] for answer in answers} == {
            "urn:imageapi:problem:decoders-busy"
        }
        assert asyncio.get_running_loop().time() - started < 5
    for path in paths:
        answer = await sender.get(path)
        assert answer.headers["Content-Type"] == "image/jpeg"


@pytest.mark.inside
async def test_head_of_an_original_reads_none_of_it(
    sender: Sender, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pictures.jpeg()
    added = await sender.send(content)
    monkeypatch.setattr(app.state.resources.backend.store, "stream", None)
    answer = await sender.client.head(added.links["enclosure"]["url"])
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Type"] == "image/jpeg"
