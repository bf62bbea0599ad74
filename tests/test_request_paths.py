"""How many files of src/imageapi a request enters: decision 1 names the numbers."""

import json
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Self
from uuid import uuid4

import httpx
import pytest

import pictures
from factories import PROJECT, record
from fixture_types import AddRecords, TokenFor

DECISION = (PROJECT / "docs/decisions/0001-rooms.md").read_text()
SOURCE = PROJECT / "src/imageapi"
#: What runs now and again beside requests, so perhaps during one.
BESIDE_REQUESTS = {"background.py", "database/rate_limits.py"}
ABILITIES = ("image_list", "image_tag", "image_create")
JPEG = pictures.jpeg(48, 32)


class EnteredFiles:
    """The files of src/imageapi in which a function ran on this thread within the block."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE):
            self.names.add(str(path.relative_to(SOURCE)))


@pytest.mark.inside
@pytest.mark.parametrize(
    "request_name", ["the whole queue", "a page of it", "one tag", "an upload"]
)
async def test_decision_names_the_files_that_a_request_enters(
    client: httpx.AsyncClient, album: str, may: TokenFor, add: AddRecords, request_name: str
) -> None:
    [text] = await add([record(album, 0)])
    public_id = json.loads(text)["public_id"]
    headers, images = may(album, *ABILITIES), f"/api/v1/albums/{album}/images"

    async def ask() -> httpx.Response:
        if request_name == "one tag":
            return await client.put(f"{images}/{public_id}/tags/{uuid4()}", headers=headers)
        if request_name == "an upload":
            return await client.post(images, headers=headers, files={"file": JPEG})
        query = "?limit=1" if request_name == "a page of it" else ""
        return await client.get(f"{images}/untag{query}", headers=headers)

    for _ in range(0 if request_name == "an upload" else 2):  # a second upload adds nothing
        assert (await ask()).is_success  # token remembered, then list cached
    with EnteredFiles() as entered:
        response = await ask()
    assert response.is_success
    row = re.search(rf"^\| {request_name} \| (\d+) \|", DECISION, re.MULTILINE)
    assert row is not None
    names = entered.names - BESIDE_REQUESTS
    assert len(names) == int(row[1]), sorted(names)
