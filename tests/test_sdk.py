"""Clients generated from the OpenAPI document, each driven by one scenario against the service.

A scenario is a program in the client's language. It says what it saw as JSON, the same in each.
"""

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import pictures
from conftest import Command, Service
from factories import HEADER, PROJECT, claims, record, signed
from imageapi.auth.claims import ABILITIES
from sdk_builds import HAS_JAVA, LANGUAGES, SDK, build, run

PICTURE = "6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10"
WIDTH, HEIGHT = 640, 480

#: What an importer may have written, and no model knows.
FURTHER_INFOS = {"colours": ["#fff", {"share": 0.25}], "moderated": True, "note": None, "x-9": 12}
EXIFS = {"Make": "Ünï", "FNumber": 2.8, "ISO": 400, "LensSpecification": [24, 70.5], "Flash": None}


@pytest.fixture(scope="session")
def document(imageapi: Command) -> bytes:
    """The OpenAPI document."""
    done = imageapi("openapi")
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout)


def odd_record(album: str) -> dict[str, Any]:
    odd = record(album, 7, ("kitchen",), exifs=EXIFS, gps_exifs=[-33.8688, 151.2093])
    odd["infos"] |= FURTHER_INFOS
    odd["infos"]["location"]["altitude"] = 35.5
    return odd


def moments(value: Any) -> Any:
    """The value with its dates as moments: each language has its own way to write one."""
    if isinstance(value, dict):
        return {
            key: datetime.fromisoformat(inner) if key == "created_at" else moments(inner)
            for key, inner in value.items()
        }
    return value


@pytest.mark.parametrize(
    "language",
    [
        pytest.param(
            language,
            marks=pytest.mark.skipif(
                language == "java" and not HAS_JAVA and "CI" not in os.environ,
                reason="javac, libhttpmime-java or libgeronimo-annotation-1.3-spec-java is missing",
            ),
        )
        for language in LANGUAGES
    ],
)
def test_a_generated_client_works_off_a_queue(
    language: str, document: bytes, imageapi: Command, service: Service, tmp_path: Path
) -> None:
    album, thousand = f"sdk-{language}", f"sdk-{language}-thousand"
    records = [odd_record(album), *(record(thousand, number) for number in range(1000))]
    assert imageapi("import", "-", stdin=json.dumps(records).encode()).returncode == 0
    photo = pictures.jpeg(width=WIDTH, height=HEIGHT)
    (tmp_path / "photo.jpg").write_bytes(photo)
    folder = build(language, document)
    abilities = {each: {"Access": dict.fromkeys(ABILITIES, True)} for each in (album, thousand)}
    said = json.loads(
        run(
            LANGUAGES[language].command(folder),
            tmp_path,
            HOST=service.address,
            TOKEN=signed(HEADER, claims(album, abilities=abilities)),
            READER=signed(HEADER, claims(album, "image_list")),
            ALBUM=album,
            THOUSAND=thousand,
            RECORD=records[0]["public_id"],
            PHOTO=str(tmp_path / "photo.jpg"),
            PYTHONPATH=str(folder / "client"),
        )
    )
    types = "urn:imageapi:problem:"
    kept = said.pop("record")
    assert said == {
        "uploaded": ["jpg", WIDTH, HEIGHT, True],
        "placed": [[38.71375, -9.139333], None, True],
        "queue": [PICTURE],
        "tagged": ["kitchen", "beach/sun ☀"],
        "many": [1, True],
        "queue_after": [],
        "tags": {"kitchen": 2, "beach/sun ☀": 1, "été": 1},
        "pages": [4, 1000, 1000, "1000"],
        "filtered": [1, 29, 1, 0],
        "stale": {
            "status": 412,
            "type": f"{types}stale",
            "detail": "The image has changed since it was read.",
        },
        "turned": 90,
        "moved": [[48.5, 2.25], 90],
        "refused": {
            "status": 401,
            "type": f"{types}token-refused",
            "detail": said["refused"]["detail"],
        },
        "missing": {
            "status": 403,
            "type": f"{types}ability-missing",
            "detail": f"The token does not grant image_tag on album {album}.",
        },
        "event": ["add", True, [], None],
        "token": True,
    }
    if language == "go":  # reads null as nil, and leaves it out when it writes
        kept = dict.fromkeys(("gps", "gps_ip")) | kept
    assert moments(kept) == moments(records[0])


def test_program_of_the_docs_works_off_a_queue(
    document: bytes, imageapi: Command, service: Service, tmp_path: Path
) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (PROJECT / "docs/sdk.md").read_text(), re.DOTALL
    )
    album = "sdk-docs"
    records = [record(album, number) for number in range(30)]
    assert imageapi("import", "-", stdin=json.dumps(records).encode()).returncode == 0
    (tmp_path / "program.py").write_text(program)
    said = run(
        [SDK / "python", "program.py"],
        tmp_path,
        HOST=service.address,
        ALBUM=album,
        TOKEN=signed(HEADER, claims(album, *ABILITIES)),
        PYTHONPATH=str(build("python-httpx", document) / "client"),
    )
    assert said == "png 48 48\n" * 30
