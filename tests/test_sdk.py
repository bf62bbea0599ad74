"""Clients generated from the OpenAPI document, each driven by one scenario against the service.

A scenario is a program in the client's language. It says what it saw as JSON, the same in each.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import pictures
from conftest import IMAGEAPI, Command, Service
from factories import HEADER, PROJECT, claims, record, signed
from imageapi.auth.claims import ABILITIES

SCENARIOS = PROJECT / "tests/sdk"
SDK = PROJECT / ".venv-sdk/bin"
NODE = PROJECT / "tests/node/node_modules"
PICTURE = "6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10"
WIDTH, HEIGHT = 640, 480

#: Debian's libhttpmime-java and libgeronimo-annotation-1.3-spec-java.
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("httpmime", "httpclient", "httpcore", "geronimo-annotation-1.3-spec")
]
HAS_JAVA = shutil.which("javac") is not None and all(jar.exists() for jar in JARS)

#: What an importer may have written, and no model knows.
FURTHER_INFOS = {"colours": ["#fff", {"share": 0.25}], "moderated": True, "note": None, "x-9": 12}
EXIFS = {"Make": "Ünï", "FNumber": 2.8, "ISO": 400, "LensSpecification": [24, 70.5], "Flash": None}


def python(client: Path) -> list[str | Path]:
    return [SDK / "python", SCENARIOS / "scenario.py"]


def python_httpx(client: Path) -> list[str | Path]:
    return [SDK / "python", SCENARIOS / "scenario_httpx.py"]


def typescript(client: Path) -> list[str | Path]:
    """Checked strictly, and compiled for Node.js."""
    folder = client.parent
    shutil.copy(SCENARIOS / "scenario.ts", folder)
    (folder / "node_modules").symlink_to(NODE)
    (folder / "package.json").write_text('{"type":"commonjs"}')
    options = ("--target", "es2022", "--module", "commonjs", "--strict", "--types", "node")
    run([NODE / ".bin/tsc", *options, "--rootDir", ".", "--outDir", "out", "scenario.ts"], folder)
    return [IMAGEAPI.with_name("node"), "out/scenario.js"]


def go(client: Path) -> list[str | Path]:
    folder = client.parent
    shutil.copy(SCENARIOS / "scenario.go", folder)
    module = "example.org/imageapi/client/imageapi"
    (folder / "go.mod").write_text(
        f"module scenario\n\ngo 1.23\n\nrequire {module} v0.0.0\n\nreplace {module} => ./client\n"
    )
    run([SDK / "go", "vet", "."], folder, GOPROXY="off", GOFLAGS="-mod=mod")
    run([SDK / "go", "build", "-o", "scenario"], folder, GOPROXY="off", GOFLAGS="-mod=mod")
    return [folder / "scenario"]


def java(client: Path) -> list[str | Path]:
    """Compiled with the libraries that Debian has, and Jackson, which the generator carries."""
    classes = client.parent / "classes"
    (jackson,) = SDK.parent.glob("lib/python3*/site-packages/openapi_generator_cli/*.jar")
    path = os.pathsep.join(map(str, [classes, *JARS, jackson]))
    sources = [*(client / "src/main").rglob("*.java"), SCENARIOS / "Scenario.java"]
    options = ("-encoding", "UTF-8", "-Xlint:all,-processing,-options", "-cp", path)
    run(["javac", *options, "-d", classes, *sources], client.parent)
    return ["java", "-Dfile.encoding=UTF-8", "-cp", path, "Scenario"]


#: By language: how a program over the client is built, which is what to run.
BUILD: dict[str, Callable[[Path], list[str | Path]]] = {
    "python": python,
    "python-httpx": python_httpx,
    "typescript": typescript,
    "go": go,
    "java": java,
}


def run(command: list[str | Path], cwd: Path, **more: str) -> str:
    path = f"{IMAGEAPI.parent}:{SDK}:{os.environ['PATH']}"  # Node.js and Go come in wheels
    environment = {**os.environ, "PATH": path, **more}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def made(language: str, imageapi: Command, folder: Path) -> Path:
    """The folder of a client that was generated just now."""
    document, client = folder / "openapi.json", folder / "client"
    document.write_bytes(imageapi("openapi").stdout)
    run([SDK / "python", PROJECT / "scripts/make_sdk.py", language, client, document], folder)
    return client


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
        for language in BUILD
    ],
)
def test_a_generated_client_works_off_a_queue(
    language: str, imageapi: Command, service: Service, tmp_path: Path
) -> None:
    album, thousand = f"sdk-{language}", f"sdk-{language}-thousand"
    records = [odd_record(album), *(record(thousand, number) for number in range(1000))]
    assert imageapi("import", "-", stdin=json.dumps(records).encode()).returncode == 0
    photo = pictures.jpeg(width=WIDTH, height=HEIGHT)
    (tmp_path / "photo.jpg").write_bytes(photo)
    client = made(language, imageapi, tmp_path)
    program = BUILD[language](client)
    abilities = {each: {"Access": dict.fromkeys(ABILITIES, True)} for each in (album, thousand)}
    said = json.loads(
        run(
            program,
            tmp_path,
            HOST=service.address,
            TOKEN=signed(HEADER, claims(album, abilities=abilities)),
            READER=signed(HEADER, claims(album, "image_list")),
            ALBUM=album,
            THOUSAND=thousand,
            RECORD=records[0]["public_id"],
            PHOTO=str(tmp_path / "photo.jpg"),
            PYTHONPATH=str(client),
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
    imageapi: Command, service: Service, tmp_path: Path
) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (PROJECT / "docs/sdk.md").read_text(), re.DOTALL
    )
    album = "sdk-docs"
    records = [record(album, number) for number in range(30)]
    assert imageapi("import", "-", stdin=json.dumps(records).encode()).returncode == 0
    client = made("python-httpx", imageapi, tmp_path)
    (tmp_path / "program.py").write_text(program)
    said = run(
        [SDK / "python", "program.py"],
        tmp_path,
        HOST=service.address,
        ALBUM=album,
        TOKEN=signed(HEADER, claims(album, *ABILITIES)),
        PYTHONPATH=str(client),
    )
    assert said == "png 48 48\n" * 30
