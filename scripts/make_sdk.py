"""Leaves a client that was generated from the OpenAPI document in a folder.

    python scripts/make_sdk.py LANGUAGE FOLDER [DOCUMENT]

The generators are those of ``requirements/sdk.txt``, in the environment that this runs in. What a
generator is told is the table below; nothing that it writes is touched.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

#: By language: the generator of openapi-generator-cli, its library, and what it is told.
GENERATORS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "python": ("python", None, {"packageName": "imageapi_client"}),
    "typescript": (
        "typescript-fetch",
        None,
        {"npmName": "imageapi-client", "modelPropertyNaming": "original"},
    ),
    "java": (
        "java",
        "native",
        {
            "groupId": "imageapi",
            "artifactId": "imageapi-client",
            "invokerPackage": "imageapi.client",
            "apiPackage": "imageapi.client.api",
            "modelPackage": "imageapi.client.model",
            "openApiNullable": "false",
        },
    ),
    "go": ("go", None, {"packageName": "imageapi", "isGoSubmodule": "true"}),
}
#: openapi-python-client's: async, on httpx.
PYTHON_HTTPX = "python-httpx"
LANGUAGES = (*GENERATORS, PYTHON_HTTPX)
#: For programs that run a few seconds: they take twice as long with Java's defaults.
FOR_SHORT_RUNS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def make(language: str, folder: Path, document: Path) -> None:
    """Generate the client; what was in the folder is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if language == PYTHON_HTTPX:
        _with_python_client(folder, document)
    else:
        _with_openapi_generator(language, folder, document)


def _with_openapi_generator(language: str, folder: Path, document: Path) -> None:
    generator, library, options = GENERATORS[language]
    told = ",".join(f"{name}={value}" for name, value in options.items())
    _run(
        _program("openapi-generator-cli"),
        *("generate", "--generator-name", generator, *(("--library", library) if library else ())),
        *("--input-spec", document, "--output", folder, "--additional-properties", told),
        *("--git-host", "example.org", "--git-user-id", "imageapi", "--git-repo-id", "client"),
        JDK_JAVA_OPTIONS=FOR_SHORT_RUNS,
    )


def _with_python_client(folder: Path, document: Path) -> None:
    media_types = [
        media_type
        for methods in json.loads(document.read_text())["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for media_type in answer.get("content", {})
        if media_type.startswith("image/")
    ]
    config = {
        "project_name_override": "imageapi-client",
        "package_name_override": "imageapi_client",
        "content_type_overrides": dict.fromkeys(media_types, "application/octet-stream"),
        "post_hooks": [],
    }
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "config.json"
        path.write_text(json.dumps(config))
        _run(
            _program("openapi-python-client"),
            *("generate", "--path", document, "--output-path", folder, "--meta", "setup"),
            *("--config", path, "--fail-on-warning"),
        )


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _run(*command: str | Path, **more: str) -> None:
    environment = {**os.environ, **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}")


def main(arguments: list[str]) -> None:
    """Read the command line."""
    if len(arguments) != len(("language", "folder", "document")) or arguments[0] not in LANGUAGES:
        sys.exit(f"make sdk LANG=LANGUAGE, which is one of: {', '.join(LANGUAGES)}")
    make(arguments[0], Path(arguments[1]), Path(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
