"""Changes of images: tag, rotate, crop, place, delete, restore; and the events they record."""

import asyncio
import inspect
import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from factories import DOCUMENTED_ALBUM, HEADER, claims, record, signed
from fixture_types import AddRecords, TokenFor
from imageapi.albums.geometry import apply_changes
from imageapi.database import events as database_events
from imageapi.database.album_change import AlbumChange, album_change
from imageapi.database.engine import Database
from imageapi.database.errors import ChangeNotRecorded
from imageapi.database.events import MAX_CHUNK_EVENTS, AlbumEvents
from imageapi.records.image import Image
from imageapi.records.parse import parse_record
from test_routes import NOBODY

ABILITIES = ("image_list", "image_tag", "image_update", "image_delete")
USER = "20ab42f4-9308-4297-a5f0-c0c07d1d189b"


class Album:
    """An album of three images, and somebody who may do everything in it but add."""

    def __init__(self, client: httpx.AsyncClient, album_id: str, headers: dict[str, str]) -> None:
        self.client = client
        self.album_id = album_id
        self.headers = headers
        self.ids = [record(album_id, number)["public_id"] for number in range(3)]

    async def ask(self, method: str, path: str = "", status: int = 200, **more: Any) -> Any:
        """The answer's JSON, or the answer itself where it has none."""
        headers = {**self.headers, **more.pop("headers", {})}
        answer = await self.client.request(
            method, f"/api/v1/albums/{self.album_id}{path}", headers=headers, **more
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else answer

    async def image(self, number: int) -> Any:
        return await self.ask("GET", f"/images/{self.ids[number]}")

    async def queue(self) -> list[int]:
        return [
            self.ids.index(each["public_id"]) for each in await self.ask("GET", "/images/untag")
        ]

    async def events(self, after: int = 1) -> Any:
        return await self.ask("GET", f"/events?after={after}")


@pytest.fixture
async def filled(client: httpx.AsyncClient, album: str, add: AddRecords, may: TokenFor) -> Any:
    await add([record(album, number, width=400, height=300) for number in range(3)])
    return Album(client, album, may(album, *ABILITIES))


@pytest.mark.every_way
async def test_tagged_image_leaves_the_queue_and_comes_back_to_its_place(filled: Album) -> None:
    path = f"/images/{filled.ids[1]}/tags/kitchen"
    tagged = await filled.ask("PUT", path)
    assert tagged["infos"]["tags"] == [filled.album_id, "kitchen"]
    assert await filled.queue() == [0, 2]
    untagged = await filled.ask("DELETE", path)
    assert untagged["infos"]["tags"] == [filled.album_id]
    assert await filled.queue() == [0, 1, 2]


async def test_tags_stay_in_the_order_given_and_case_distinguishes(filled: Album) -> None:
    for tag in ("Kitchen", "attic", "kitchen", "attic"):
        image = await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/{tag}")
    assert image["infos"]["tags"][1:] == ["Kitchen", "attic", "kitchen"]


@pytest.mark.every_way
async def test_change_that_changes_nothing_leaves_version_and_event_alone(filled: Album) -> None:
    path = f"/images/{filled.ids[0]}"
    await filled.ask("PUT", f"{path}/tags/kitchen")
    await filled.ask("PUT", f"{path}/tags/kitchen")
    await filled.ask("DELETE", f"{path}/tags/attic")
    await filled.ask("PATCH", path, json={})
    await filled.ask("PATCH", path, json={"rotation": 0, "crop_w": 0})
    await filled.ask("POST", f"{path}/restore")
    assert [event["version"] for event in await filled.events()] == [2]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("%20kitchen%09", "kitchen"),
        ("cafe%CC%81", "café"),
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("100%25", "100%"),
        ("%F0%9F%93%B7", "📷"),
        ("x" * 100, "x" * 100),
        ("?".replace("?", "%3F"), "?"),
    ],
)
async def test_tag_is_trimmed_and_composed(filled: Album, given: str, kept: str) -> None:
    image = await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/{given}")
    assert image["infos"]["tags"][1:] == [kept]
    image = await filled.ask("DELETE", f"/images/{filled.ids[0]}/tags/{given}")
    assert image["infos"]["tags"][1:] == []


@pytest.mark.parametrize("tag", ["", "%20", "a%00b", "a%1Bb", "x" * 101])
async def test_unfit_tag_is_422_that_names_it(filled: Album, tag: str) -> None:
    answer = await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/{tag}", 422)
    assert answer["errors"][0]["pointer"] == "/path/tag"


async def test_albums_own_id_is_no_tag_of_people(filled: Album) -> None:
    path = f"/images/{filled.ids[0]}/tags/{filled.album_id}"
    answer = await filled.ask("PUT", path, 422)
    assert answer["errors"] == [{"pointer": "/path/tag", "detail": "must not be the album's id"}]
    image = await filled.ask("DELETE", path)
    assert image["infos"]["tags"] == [filled.album_id]


async def test_hundred_and_first_tag_is_refused(filled: Album) -> None:
    tags = [str(number) for number in range(100)]
    many = {"public_ids": [filled.ids[0]], "add": tags}
    await filled.ask("POST", "/images/tags", json=many)
    answer = await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/one-more", 422)
    assert answer["detail"] == (f"tag would be more than 100 on image {filled.ids[0]}.")
    # One away, one in its place: the sum is what counts.
    many = {"public_ids": [filled.ids[0]], "add": ["new"], "remove": ["0"]}
    assert (await filled.ask("POST", "/images/tags", json=many))["images"] == 1


@pytest.mark.every_way
async def test_many_are_tagged_by_one_change_and_one_event(filled: Album) -> None:
    await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/red")
    many = {"public_ids": [*filled.ids, filled.ids[0]], "add": ["blue"], "remove": ["red"]}
    assert await filled.ask("POST", "/images/tags", json=many) == {"version": 3, "images": 3}
    (event,) = await filled.events(2)
    assert event["version"] == 3
    assert event["kind"] == "tag"
    assert event["user_id"] == USER
    assert event["public_ids"] == filled.ids
    assert event["before"][filled.ids[0]] == {"tags": ["red"]}
    assert event["after"] == {each: {"tags": ["blue"]} for each in filled.ids}
    assert await filled.ask("POST", "/images/tags", json=many) == {"version": 3, "images": 0}


@pytest.mark.every_way
async def test_one_unknown_id_among_many_changes_nothing_and_is_named(filled: Album) -> None:
    await filled.ask("DELETE", f"/images/{filled.ids[2]}", 204)
    many = {"public_ids": [filled.ids[0], NOBODY, filled.ids[2]], "add": ["blue"]}
    answer = await filled.ask("POST", "/images/tags", 404, json=many)
    assert [each["pointer"] for each in answer["errors"]] == ["/body/public_ids"] * 2
    assert NOBODY in answer["detail"]
    assert filled.ids[2] in answer["detail"]
    assert (await filled.image(0))["infos"]["tags"] == [filled.album_id]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"public_ids":[]}', 422),
        (b'{"public_ids":["x"]}', 422),
        (b'{"public_ids":["%b"],"add":["a"],"remove":["a"]}' % NOBODY.encode(), 422),
        (b'{"public_ids":["%b"],"add":["\\ud800"]}' % NOBODY.encode(), 422),
        (b'{"public_ids":["%b"],"add":["a"],"more":1}' % NOBODY.encode(), 422),
        (b"[" * 100_000, 400),
        (b'{"public_ids":["' + b"x" * 2**20 + b'"]}', 413),
    ],
)
async def test_invalid_bodies_are_distinguished(filled: Album, body: bytes, status: int) -> None:
    answer = await filled.ask("POST", "/images/tags", status, content=body)
    assert answer["type"].startswith("urn:imageapi:problem:")


async def test_rotation_turns_the_crop_along(filled: Album) -> None:
    path = f"/images/{filled.ids[0]}"
    crop = {"crop_x": 10, "crop_y": 20, "crop_w": 100, "crop_h": 50}
    image = await filled.ask("PATCH", path, json=crop)
    assert [image[name] for name in crop] == [10.0, 20.0, 100.0, 50.0]
    turned = [
        (90, [230.0, 10.0, 50.0, 100.0]),
        (180, [290.0, 230.0, 100.0, 50.0]),
        (270, [20.0, 290.0, 50.0, 100.0]),
        (0, [10.0, 20.0, 100.0, 50.0]),
    ]
    for rotation, expected in turned:
        image = await filled.ask("PATCH", path, json={"rotation": rotation})
        assert [image[name] for name in crop] == expected
    assert (image["width"], image["height"]) == (400, 300)


@given(
    x=st.floats(0, 399),
    y=st.floats(0, 299),
    share=st.floats(0.01, 1),
    turns=st.lists(st.sampled_from([0, 90, 180, 270]), max_size=6),
)
def test_crop_stays_within_the_image_however_it_is_turned(
    x: float, y: float, share: float, turns: list[int]
) -> None:
    image: Image = parse_record(record("a", width=400, height=300))
    apply_changes(image, {"crop_x": x, "crop_y": y, "crop_w": (400 - x) * share, "crop_h": 300 - y})
    for rotation in turns:
        apply_changes(image, {"rotation": rotation})
        width, height = (300, 400) if rotation % 180 else (400, 300)
        assert min(image.crop_x, image.crop_y) >= 0
        assert image.crop_x + image.crop_w <= width + 1e-9
        assert image.crop_y + image.crop_h <= height + 1e-9


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"crop_w": 401, "crop_h": 10}, "/body/crop_w"),
        ({"crop_w": 10, "crop_h": 301}, "/body/crop_h"),
        ({"crop_x": 391, "crop_w": 10, "crop_h": 10}, "/body/crop_w"),
        ({"rotation": 90, "crop_w": 301, "crop_h": 10}, "/body/crop_w"),
        ({"crop_x": 1}, "/body/crop_w"),
        ({"crop_w": -1}, "/body/crop_w"),
        ({"rotation": 45}, "/body/rotation"),
        ({"rotation": None}, "/body/rotation"),
        ({"gps_html": [91, 0]}, "/body/gps_html"),
        ({"gps_html": [1]}, "/body/gps_html"),
        ({"width": 5}, "/body/width"),
    ],
)
async def test_unfit_change_is_422_that_names_it(
    filled: Album, change: dict[str, Any], pointer: str
) -> None:
    before = await filled.image(0)
    answer = await filled.ask("PATCH", f"/images/{filled.ids[0]}", 422, json=change)
    assert answer["errors"][0]["pointer"].startswith(pointer)
    if "crop_w" in change and change["crop_w"] > 0:
        bounds = "300 x 400" if change.get("rotation") else "400 x 300"
        assert bounds in answer["detail"]
    assert await filled.image(0) == before


@pytest.mark.every_way
async def test_position_of_the_browser_gives_way_to_the_cameras(filled: Album) -> None:
    path = f"/images/{filled.ids[0]}"
    image = await filled.ask("PATCH", path, json={"gps_html": [1.5, 2]})
    assert (image["gps"], image["gps_html"]) == ([1.5, 2], [1.5, 2])
    found = await filled.ask("GET", "/images?bbox=1,1,3,2")
    assert [each["public_id"] for each in found] == [filled.ids[0]]
    image = await filled.ask("PATCH", path, json={"gps_html": None})
    assert (image["gps"], image["gps_html"]) == (None, None)
    camera: Image = parse_record(record("a", gps_exifs=[3, 4]))
    apply_changes(camera, {"gps_html": [1, 2]})
    assert camera.gps == [3, 4]


@pytest.mark.every_way
async def test_deleted_image_is_gone_until_it_is_restored(filled: Album) -> None:
    path = f"/images/{filled.ids[0]}"
    await filled.ask("PUT", f"{path}/tags/kitchen")
    before = await filled.image(0)
    await filled.ask("DELETE", path, 204)
    for method, further in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("PUT", "/tags/a"),
    ):
        await filled.ask(method, path + further, 404, json={} if method == "PATCH" else None)
    assert await filled.ask("GET", "/tags") == []
    assert len(await filled.ask("GET", "/images")) == 2
    assert await filled.ask("POST", f"{path}/restore") == before
    assert await filled.ask("POST", f"{path}/restore") == before
    assert await filled.image(0) == before
    delete, restore = await filled.events(2)
    assert (delete["kind"], restore["kind"]) == ("delete", "restore")
    assert delete["after"] == restore["before"] == {filled.ids[0]: {"deleted": True}}
    await filled.ask("POST", f"/images/{NOBODY}/restore", 404)


@pytest.mark.every_way
@pytest.mark.parametrize(
    ("method", "further", "body"),
    [
        ("PUT", "/tags/a", None),
        ("DELETE", "/tags/a", None),
        ("PATCH", "", {"rotation": 90}),
        ("POST", "/restore", None),
        ("DELETE", "", None),
    ],
)
async def test_stale_change_is_412_and_changes_nothing(
    filled: Album, method: str, further: str, body: Any
) -> None:
    path = f"/images/{filled.ids[0]}"
    first = await filled.client.get(
        f"/api/v1/albums/{filled.album_id}{path}", headers=filled.headers
    )
    assert first.headers["ETag"] == '"1"'
    await filled.ask("PUT", f"{path}/tags/theirs")
    before = await filled.image(0)
    for stale in ('"1"', 'W/"2"', "nonsense", '"1", "3"', "2"):
        answer = await filled.ask(
            method, path + further, 412, json=body, headers={"If-Match": stale}
        )
        assert answer["type"] == "urn:imageapi:problem:stale"
    assert await filled.image(0) == before
    status = 204 if (method, further) == ("DELETE", "") else 200
    await filled.ask(method, path + further, status, json=body, headers={"If-Match": '"1", "2"'})


@pytest.mark.every_way
async def test_of_many_changes_for_one_version_one_is_made(filled: Album) -> None:
    async def tag(number: int) -> int:
        answer = await filled.client.put(
            f"/api/v1/albums/{filled.album_id}/images/{filled.ids[0]}/tags/{number}",
            headers={**filled.headers, "If-Match": '"1"'},
        )
        return answer.status_code

    assert sorted(await asyncio.gather(*map(tag, range(20)))) == [200] + [412] * 19


@pytest.mark.every_way
async def test_changes_at_once_lose_nothing(filled: Album) -> None:
    tags = [f"tag-{number}" for number in range(30)]
    await asyncio.gather(
        *(filled.ask("PUT", f"/images/{filled.ids[0]}/tags/{tag}") for tag in tags)
    )
    assert sorted((await filled.image(0))["infos"]["tags"][1:]) == sorted(tags)
    events = await filled.events()
    assert [event["version"] for event in events] == list(range(2, 32))
    for earlier, later in itertools.pairwise(events):
        assert later["before"] == earlier["after"]


UNKNOWN = UUID(NOBODY)
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
NEW_IMAGE = {
    "public_id": UNKNOWN,
    "created_at": MOMENT,
    "tags": [],
    "record": "{}",
    "format": "png",
}
#: How each method of a change is called; ``None`` stands for the id of an image in the album.
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "get_images": ([[None]], {}),
    "find_image": ([None], {}),
    "find_by_digest": ([bytes(32)], {}),
    "list_after": ([UUID(int=0), 10], {}),
    "list_trashed_before": ([MOMENT, 10], {}),
    "filter_pictures_in_use": ([[UNKNOWN]], {}),
    "add_image": ([], NEW_IMAGE),
    "update_images": ([[{"public_id": None, "tags": ["kitchen"]}]], {}),
    "remove_images": ([[None]], {}),
    "record_event": (["tag", [None], {}, {}], {}),
}


def with_id(value: Any, public_id: UUID) -> Any:
    """The value with the id in place of each None."""
    if isinstance(value, list):
        return [with_id(each, public_id) for each in value]
    if isinstance(value, dict):
        return {name: with_id(each, public_id) for name, each in value.items()}
    return public_id if value is None else value


def test_every_method_of_a_change_is_called_here() -> None:
    methods = inspect.getmembers(AlbumChange, inspect.iscoroutinefunction)
    assert {name for name, _ in methods if not name.startswith("_")} == CALLS.keys()


@pytest.mark.parametrize("name", [name for name in CALLS if name != "record_event"])
async def test_change_that_writes_without_an_event_raises_and_is_undone(
    filled: Album, database: Database, name: str
) -> None:
    arguments, named = with_id(list(CALLS[name]), UUID(filled.ids[0]))
    before = (await filled.ask("GET", "/images"), await filled.queue(), await filled.events(0))
    sent: list[str] = []

    def note_sent(_1: Any, _2: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = database._engine.sync_engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", note_sent)
    is_refused = False
    try:
        async with album_change(database, filled.album_id) as change:
            await getattr(change, name)(*arguments, **named)
    except ChangeNotRecorded:
        is_refused = True
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", note_sent)
    assert is_refused == any(not each.lstrip().startswith("SELECT") for each in sent)
    assert is_refused == (name in {"add_image", "update_images", "remove_images"})
    after = (await filled.ask("GET", "/images"), await filled.queue(), await filled.events(0))
    assert after == before


async def test_event_comes_after_the_last_write(filled: Album, database: Database) -> None:
    public_id = UUID(filled.ids[0])
    rows = [{"public_id": public_id, "tags": ["kitchen"]}]
    is_refused = False
    try:
        async with album_change(database, filled.album_id) as change:
            await change.record_event("tag", [public_id], {}, {})
            await change.update_images(rows)
    except ChangeNotRecorded:
        is_refused = True
    assert is_refused
    assert await filled.events() == []
    async with album_change(database, filled.album_id) as change:
        await change.update_images(rows)
        await change.record_event("tag", [public_id], {}, {})
    assert await filled.queue() == [1, 2]


async def test_own_error_of_a_change_comes_before_the_missing_event(
    filled: Album, database: Database
) -> None:
    is_passed_on = False
    try:
        async with album_change(database, filled.album_id) as change:
            await change.remove_images([UUID(filled.ids[0])])
            raise KeyError  # noqa: TRY301 - what the block itself raises
    except KeyError:
        is_passed_on = True
    assert is_passed_on
    assert await filled.queue() == [0, 1, 2]


@pytest.mark.inside
async def test_change_without_an_event_is_a_500(
    filled: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*_: Any) -> None:
        """Record no event."""

    monkeypatch.setattr(AlbumChange, "record_event", forget)
    path = f"/images/{filled.ids[0]}/tags/kitchen"
    answer = await filled.ask("PUT", path, 500)
    assert answer["type"] == "urn:imageapi:problem:unexpected"
    assert "event" not in answer["detail"]
    assert await filled.queue() == [0, 1, 2]
    assert (await filled.image(0))["infos"]["tags"] == [filled.album_id]


async def test_import_tells_what_came(client: httpx.AsyncClient, filled: Album) -> None:
    (event,) = await filled.events(0)
    assert (event["kind"], event["user_id"], event["version"]) == ("import", None, 1)
    assert event["public_ids"] == filled.ids
    assert event["before"] == dict.fromkeys(filled.ids)
    assert event["after"] == {each: {"tags": []} for each in filled.ids}
    assert event["at"].endswith(("+01:00", "+02:00"))


@pytest.mark.every_way
async def test_events_come_in_pages(filled: Album) -> None:
    for number in range(5):
        await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/{number}")
    seen = []
    path = f"/api/v1/albums/{filled.album_id}/events?after=1&limit=2"
    while path:
        answer = await filled.client.get(path, headers=filled.headers)
        seen += [event["version"] for event in answer.json()]
        path = answer.headers.get("Link", "<>")[1:].partition(">")[0]
    assert seen == [2, 3, 4, 5, 6]
    for wrong in ("-1", "x", str(2**63)):
        await filled.ask("GET", f"/events?after={wrong}", 422)


async def test_lines_of_one_header_are_one_list(filled: Album) -> None:
    path = f"/api/v1/albums/{filled.album_id}/images/{filled.ids[0]}/tags/a"
    for tags, status in (('"9"', '"1"'), 200), (('"1"', '"9"'), 412), (('"8"', "*"), 412):
        headers = [*filled.headers.items(), *(("If-Match", tag) for tag in tags)]
        assert (await filled.client.put(path, headers=headers)).status_code == status


@pytest.mark.every_way
async def test_however_many_events_are_whole(filled: Album) -> None:
    """More than a chunk, in one answer or in pages of more than a chunk."""
    for number in range(MAX_CHUNK_EVENTS + 5):
        method = "DELETE" if number % 2 else "PUT"
        await filled.ask(method, f"/images/{filled.ids[0]}/tags/a")
    events = await filled.events(0)
    assert [event["version"] for event in events] == list(range(1, MAX_CHUNK_EVENTS + 7))
    page = f"/events?after=1&limit={MAX_CHUNK_EVENTS + 2}"
    assert await filled.ask("GET", page) == events[1 : MAX_CHUNK_EVENTS + 3]
    assert await filled.ask("GET", f"/events?after={MAX_CHUNK_EVENTS + 6}&limit=1") == []
    assert await filled.ask("GET", f"/events?after={2**63 - 1}&limit=1000") == []


async def test_chunks_of_events_are_bounded_in_bytes(
    database: Database, filled: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has as many as there is room for, and a large one is alone."""
    monkeypatch.setattr(database_events, "MAX_CHUNK_BYTES", 2000)
    tags = ["x" * 50 + str(each) for each in range(20)]
    for number in range(12):
        if number in (4, 5):
            many = {"public_ids": filled.ids, "add" if number == 4 else "remove": tags}
            await filled.ask("POST", "/images/tags", json=many)
        else:
            method = "DELETE" if number % 2 else "PUT"
            await filled.ask(method, f"/images/{filled.ids[0]}/tags/a")
    events = await filled.events(0)
    assert [event["version"] for event in events] == list(range(1, 14))
    chunks = AlbumEvents(database).iterate_chunks(filled.album_id, 0)
    sizes = [[len(each.before + each.after) for each in chunk] async for chunk in chunks]
    assert sum(map(len, sizes)) == 13
    assert all(sum(each) <= 2000 or len(each) == 1 for each in sizes)
    assert sorted(map(len, sizes))[:2] == [1, 1]
    assert max(map(len, sizes)) > 2


@pytest.mark.every_way
async def test_albums_of_the_token_with_their_counts(
    client: httpx.AsyncClient, filled: Album
) -> None:
    await filled.ask("PUT", f"/images/{filled.ids[0]}/tags/a")
    await filled.ask("DELETE", f"/images/{filled.ids[1]}", 204)
    access = {"Access": {"image_list": True}}
    others = {
        "zzz-unseen": access,
        "no album!": access,
        "only-tag": {"Access": {"image_tag": True}},
    }
    token = signed(
        HEADER,
        claims(filled.album_id, "image_list") | {"abilities": {filled.album_id: access, **others}},
    )
    answer = await client.get("/api/v1/albums", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == [
        {"album_id": filled.album_id, "images": 2, "untagged": 1},
        {"album_id": "zzz-unseen", "images": 0, "untagged": 0},
    ]


async def test_token_tells_what_it_may(client: httpx.AsyncClient) -> None:
    given = claims(DOCUMENTED_ALBUM, "image_tag", "image_list", exp=4102444800)
    token = signed(HEADER, given)
    answer = await client.get("/api/v1/token", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {
        "user_id": USER,
        "expires_at": "2100-01-01T01:00:00.000+01:00",
        "abilities": given["abilities"],
    }
    token = signed(HEADER, claims("\ud800", "image_list", exp=1e300))
    answer = await client.get("/api/v1/token", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["expires_at"].startswith("9999-01-01")
    token = signed(HEADER, claims("a", "image_list", user_id="a\0b"))
    answer = await client.get("/api/v1/token", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
