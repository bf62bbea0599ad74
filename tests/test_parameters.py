"""Numbers and moments in queries and forms are read as JSON and RFC 3339 write them."""

import uuid
from urllib.parse import quote

import httpx
import pytest

from factories import record
from fixture_types import AddRecords, TokenFor
from imageapi.api.parameters import parse_number


@pytest.fixture
async def path(add: AddRecords) -> str:
    album = f"parameters-{uuid.uuid4()}"
    await add([record(album)])
    return f"/api/v1/albums/{album}"


def headers_for(path: str, may: TokenFor) -> dict[str, str]:
    return may(path.rpartition("/")[2])


NO_INTEGERS = (
    *(
        "1_0",
        "\uff11\uff12",
        "+1",
        " 1",
        "1 ",
        "01",
        "1.0",
        "1e1",
        "0x1",
        "٣",
        "",
        "-",
        "1,",
        "true",
    ),
    *("null", "1\n", "\t1", "1" * 5000),
)


@pytest.mark.parametrize("value", NO_INTEGERS)
@pytest.mark.parametrize(
    "of", ["images/untag?limit=", "images?limit=", "events?limit=", "events?after="]
)
async def test_whole_number_is_written_as_in_json(
    client: httpx.AsyncClient, path: str, may: TokenFor, of: str, value: str
) -> None:
    answer = await client.get(f"{path}/{of}{quote(value)}", headers=headers_for(path, may))
    assert answer.status_code == 422
    name = of.partition("?")[2][:-1]
    assert [each["pointer"] for each in answer.json()["errors"]] == [f"/query/{name}"]


@pytest.mark.parametrize(
    "value",
    [
        *("2016", "2016-02-15", "2099", "20990101", "1.5", "-1", "1455537778000", "1_0", ""),
        *("2016-02-15T13:02:58", "2016-02-15T13:02Z", "2016-02-15T13:02:58.Z", "now"),
        *("\uff12016-02-15T13:02:58Z", "2016-02-30T13:02:58Z"),
        *("2016-02-15T13:02:58Z ", "2016-02-15T25:02:58Z", "2016-02-15T13:02:58+99:00"),
    ],
)
@pytest.mark.parametrize("name", ["created_after", "created_before"])
async def test_moment_has_its_offset(
    client: httpx.AsyncClient, path: str, may: TokenFor, name: str, value: str
) -> None:
    url = f"{path}/images?{name}={quote(value)}"
    answer = await client.get(url, headers=headers_for(path, may))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{name} must be a date")


async def test_plus_that_became_a_blank_is_told(
    client: httpx.AsyncClient, path: str, may: TokenFor
) -> None:
    url = f"{path}/images?created_after=2016-02-15T13:02:58+01:00"
    answer = await client.get(url, headers=headers_for(path, may))
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; in an address + is written %2B.")


@pytest.mark.parametrize(
    "value",
    [
        *("2016-02-15T13:02:58Z", "2016-02-15t13:02:58z", "2016-02-15T13:02:58.5-00:00"),
        "2016-02-15T13:02:58+0100",
        *("2016-02-15 13:02:58.123456789+01:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    ],
)
async def test_moment_of_rfc_3339_is_read(
    client: httpx.AsyncClient, path: str, may: TokenFor, value: str
) -> None:
    url = f"{path}/images?created_after={quote(value)}"
    assert (await client.get(url, headers=headers_for(path, may))).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        *("1_0,0,20,20", "+1,0,20,20", " 1,0,20,20", "\uff11,0,20,20", "1.,0,20,20", ".5,0,20,20"),
        *("inf,0,20,20", "nan,0,20,20", "0x1,0,20,20", "01,0,20,20", "1,0,20", "1,0,20,20,30", ""),
        *(f"{'9' * 400},0,20,20", f"{'9' * 5000},0,20,20", "1e999,0,20,20"),
    ],
)
async def test_box_is_of_numbers_as_in_json(
    client: httpx.AsyncClient, path: str, may: TokenFor, value: str
) -> None:
    answer = await client.get(f"{path}/images?bbox={quote(value)}", headers=headers_for(path, may))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("bbox must be ")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-0", 0), ("36", 36), ("-1.50", -1.5), ("1e2", 100.0), ("2.5E-1", 0.25)],
)
def test_number_of_json_keeps_its_kind(text: str, number: float) -> None:
    parsed = parse_number(text)
    assert (parsed, type(parsed)) == (number, type(number))


@pytest.mark.parametrize("text", [each for each in NO_INTEGERS if each not in ("1.0", "1e1")])
def test_what_is_no_number_of_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number|Exceeds the limit"):
        parse_number(text)
