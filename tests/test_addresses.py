"""A path has one spelling; what cannot be read is 400, and no request is for another image."""

import re

import httpx
import pytest

from conftest import Service
from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.auth.claims import ABILITIES

ALBUM_PATHS = ["", "/untag", "/tags"]
PATHS = [
    *("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/parts/swagger-ui.css"),
    *("/api/v1/token", "/api/v1/albums", "/assets/blank.jpg"),
    *("/api/v1/albums/{album}/images", "/api/v1/albums/{album}/images/untag"),
    *("/api/v1/albums/{album}/tags", "/api/v1/albums/{album}/events"),
    "/api/v1/albums/{album}/images/{public_id}",
]
#: What may be put to the end of a path and is then another path.
ENDINGS = [
    "%0A",
    "%0D",
    "%0D%0A",
    "%0A%0A",
    "%00",
    "%09",
    "%20",
    "%7F",
    "%2F",
    "%E2%80%A8",
    "%C2%85",
]
#: Bytes that are no UTF-8: alone, cut, too long, half of a surrogate pair, beyond the last.
NO_UTF8 = ["%FF", "%C3", "%E2%80", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "a%80b"]


@pytest.mark.parametrize("path", PATHS)
async def test_ending_makes_another_path(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str, path: str
) -> None:
    await add([record(album)])
    url = path.format(album=album, public_id=record(album)["public_id"])
    headers = may(album, *ABILITIES)
    assert (await client.get(url, headers=headers)).status_code == 200
    for ending in ENDINGS:
        for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
            answer = await client.request(method, url + ending, headers=headers)
            is_in_folder = "parts" in path and method in ("DELETE", "OPTIONS")  # knows no files
            assert answer.status_code in ((404, 405) if is_in_folder else (404,)), (method, ending)


async def test_no_spelling_of_an_image_deletes_it(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str
) -> None:
    """Also in an album that is called ``tags``, after which a path has no free text."""
    await add([record(album), record("tags")])
    for name in (album, "tags"):
        headers = may(name, *ABILITIES)
        public_id = record(name)["public_id"]
        images = f"/api/v1/albums/{name}/images"
        for ending in ENDINGS:
            odd = [f"{images}/{public_id}{ending}", f"{images}/{ending}{public_id}"]
            odd.append(f"/api/v1/albums/{name}{ending}/images/{public_id}")
            for url in odd:
                answer = await client.delete(url, headers=headers)
                assert answer.status_code == 404, url
        odd = [f"/api/v1/albums/{name}%2Fimages%2F{public_id}", f"{images}%2F{public_id}"]
        for url in odd:
            assert (await client.delete(url, headers=headers)).status_code == 404
        assert (await client.get(f"{images}/{public_id}", headers=headers)).status_code == 200


async def test_encoded_slash_of_an_id_leads_to_no_other_route(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str
) -> None:
    """A client that encodes what it was given as an id must not take away a tag."""
    await add([record(album, tags=("beach",))])
    headers = may(album, *ABILITIES)
    url = f"/api/v1/albums/{album}/images/{record(album)['public_id']}"
    assert (await client.delete(f"{url}%2Ftags%2Fbeach", headers=headers)).status_code == 404
    assert (await client.delete(f"{url}%2ftags/beach", headers=headers)).status_code == 404
    assert "beach" in (await client.get(url, headers=headers)).json()["infos"]["tags"]


@pytest.mark.parametrize("tag", ["a%2Fb", "a/b", "100%25%2F", "%E6%97%A5"])
async def test_tag_is_free_text(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str, tag: str
) -> None:
    await add([record(album)])
    url = f"/api/v1/albums/{album}/images/{record(album)['public_id']}/tags/{tag}"
    assert (await client.put(url, headers=may(album, *ABILITIES))).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_line_end_within_a_tag_is_422(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str, method: str
) -> None:
    await add([record(album, tags=("ab",))])
    url = f"/api/v1/albums/{album}/images/{record(album)['public_id']}/tags/a%0Ab"
    assert (await client.request(method, url, headers=may(album, *ABILITIES))).status_code == 422


@pytest.mark.parametrize("octets", NO_UTF8)
async def test_bytes_that_are_no_utf8_are_400(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str, octets: str
) -> None:
    await add([record(album)])
    image = f"/api/v1/albums/{album}/images/{record(album)['public_id']}"
    for method, url in (
        ("GET", f"/{octets}"),
        ("GET", f"/healthz{octets}"),
        ("GET", f"/healthz?a={octets}"),
        ("GET", f"/healthz?{octets}"),
        ("GET", f"/api/v1/albums/{octets}/images"),
        ("GET", f"/api/v1/albums/{album}/images?tag={octets}"),
        ("GET", f"/api/v1/albums/{album}/images/untag?{octets}=1"),
        ("GET", f"/docs/parts/{octets}"),
        ("PUT", f"{image}/tags/{octets}"),
        ("PUT", f"{image}/tags/a%2F{octets}"),
        ("DELETE", f"{image}/tags/{octets}"),
    ):
        answer = await client.request(method, url, headers=may(album, *ABILITIES))
        assert answer.status_code == 400, url
        assert answer.json()["type"] == "urn:imageapi:problem:unreadable-request"
        assert answer.json()["detail"] == "The address has bytes that are no UTF-8."


async def test_fast_path_takes_the_plain_spelling_only(
    client: httpx.AsyncClient, add: AddRecords, may: TokenFor, album: str
) -> None:
    """Whether the token was seen before makes no difference."""
    await add([record(album)])
    path = f"/api/v1/albums/{album}/images/untag"
    for _ in range(3):
        assert (await client.get(path, headers=may(album))).status_code == 200
        slash = path.replace("/images", "%2Fimages")
        assert (await client.get(slash, headers=may(album))).status_code == 404
        encoded = path.replace("untag", "%75ntag")  # is equivalent (RFC 3986 §6.2.2.2)
        assert (await client.get(encoded, headers=may(album))).status_code == 200


@pytest.mark.parametrize(
    "target", ["/healthz\xff", "/healthz\xc3\xa9", "/healthz?a=\xff", "/healthz?a=\xc3\xa9"]
)
async def test_bytes_that_are_not_encoded_are_400(service: Service, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = await service.raw(head.encode("latin-1"))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"400"]


@pytest.mark.parametrize(
    "lines", [['"x"', "{etag}"], ["{etag}", '"x"'], ['"x"', "*"], ["", "{etag}"]]
)
@pytest.mark.parametrize("path", ["/assets/blank.jpg", "/api/v1/albums/{album}/images/{public_id}"])
async def test_lines_of_if_none_match_are_one_list(
    client: httpx.AsyncClient,
    add: AddRecords,
    may: TokenFor,
    album: str,
    path: str,
    lines: list[str],
) -> None:
    await add([record(album)])
    url = path.format(album=album, public_id=record(album)["public_id"])
    token = list(may(album).items())
    etag = (await client.get(url, headers=token)).headers["ETag"]
    headers = [("If-None-Match", line.format(etag=etag)) for line in lines]
    assert (await client.get(url, headers=token + headers)).status_code == 304
    others = [("If-None-Match", '"x"'), ("If-None-Match", '"y"')]
    assert (await client.get(url, headers=token + others)).status_code == 200


@pytest.mark.parametrize(("version", "first"), [("1.1", b"100"), ("1.0", None)])
async def test_only_http_1_1_is_told_to_continue(
    service: Service, may: TokenFor, version: str, first: bytes | None
) -> None:
    """HTTP/1.0 knows no interim response: it would take it for the answer (RFC 9110 §15.2)."""
    token = may("an-album", "image_tag")["Authorization"]
    head = (
        f"POST /api/v1/albums/an-album/images/tags HTTP/{version}\r\nHost: a\r\n"
        f"Expect: 100-continue\r\nAuthorization: {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    answer = await service.raw(head.encode())
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", answer)
    assert statuses == [status for status in (first, b"422") if status]
