"""Generate a client from the OpenAPI document, in a folder.

    python scripts/make_sdk.py LANGUAGE FOLDER [DOCUMENT]

It uses the generators of ``requirements/sdk.txt``, from the environment that it runs in. The table
below has their options. The generated files are not modified.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

#: By language: the generator of openapi-generator-cli, its library, and additional properties.
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
#: The client of openapi-python-client: asynchronous, based on httpx.
PYTHON_HTTPX = "python-httpx"
LANGUAGES = (*GENERATORS, PYTHON_HTTPX)
#: For a program that runs for some seconds: with Java's default options it takes twice as long.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def generate_client(language: str, folder: Path, document: Path) -> None:
    """Generate the client in the folder; delete what was there before. Exit if a command fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if language == PYTHON_HTTPX:
        _run_python_client_generator(folder, document)
    else:
        _run_openapi_generator(language, folder, document)


def _run_openapi_generator(language: str, folder: Path, document: Path) -> None:
    generator, library, options = GENERATORS[language]
    properties = ",".join(f"{name}={value}" for name, value in options.items())
    _run(
        _find_program("openapi-generator-cli"),
        *("generate", "--generator-name", generator, *(("--library", library) if library else ())),
        *("--input-spec", document, "--output", folder, "--additional-properties", properties),
        *("--git-host", "example.org", "--git-user-id", "imageapi", "--git-repo-id", "client"),
        JDK_JAVA_OPTIONS=JAVA_OPTIONS,
    )


def _run_python_client_generator(folder: Path, document: Path) -> None:
    media_types = [
        media_type
        for methods in json.loads(document.read_text())["paths"].values()
        for operation in methods.values()
        for response in operation["responses"].values()
        for media_type in response.get("content", {})
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
            _find_program("openapi-python-client"),
            *("generate", "--path", document, "--output-path", folder, "--meta", "setup"),
            *("--config", path, "--fail-on-warning"),
        )


def _find_program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _run(*command: str | Path, **variables: str) -> None:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}")


def main(arguments: list[str]) -> None:
    """Generate the client that the command line names; exit with a message if it is wrong."""
    if len(arguments) != len(("language", "folder", "document")) or arguments[0] not in LANGUAGES:
        sys.exit(f"make sdk LANG=LANGUAGE, which is one of: {', '.join(LANGUAGES)}")
    generate_client(arguments[0], Path(arguments[1]), Path(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
