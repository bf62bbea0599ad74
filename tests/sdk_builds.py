"""Generated clients and the programs over them, built once for the same inputs.

A build takes up to a minute, so its result is kept in the project's ``.pytest_cache``, under a
digest of all that goes into it: the OpenAPI document, the generators and compilers, and the sources
here. A change of any of them leads to another folder, and a build that fails leaves none.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import IMAGEAPI
from factories import PROJECT

SCENARIOS = PROJECT / "tests/sdk"
SDK = PROJECT / ".venv-sdk/bin"
NODE = PROJECT / "tests/node/node_modules"
MAKE_SDK = PROJECT / "scripts/make_sdk.py"
BUILDS = PROJECT / ".pytest_cache/sdk"
#: A build that no test used for so long is deleted.
UNUSED_SECONDS = 7 * 24 * 3600

#: For programs that run a few seconds: they take twice as long with Java's defaults.
FOR_SHORT_RUNS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

#: Debian's libhttpmime-java and libgeronimo-annotation-1.3-spec-java.
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("httpmime", "httpclient", "httpcore", "geronimo-annotation-1.3-spec")
]
HAS_JAVA = shutil.which("javac") is not None and all(jar.exists() for jar in JARS)


@dataclass
class Language:
    """How the program over a language's client is built and run."""

    scenario: str
    #: The command in a folder that has the client in it.
    command: Callable[[Path], list[str | Path]]
    #: Compiles the scenario in a folder that has the client in it.
    compile: Callable[[Path], None] = lambda _: None
    #: The files and the versions that make a difference to the result, beside those of all.
    inputs: Callable[[], list[Path | str]] = list


def _compile_typescript(folder: Path) -> None:
    """Checked strictly, and compiled for Node.js."""
    shutil.copy(SCENARIOS / "scenario.ts", folder)
    (folder / "node_modules").symlink_to(NODE)
    (folder / "package.json").write_text('{"type":"commonjs"}')
    options = ("--target", "es2022", "--module", "commonjs", "--strict", "--types", "node")
    run([NODE / ".bin/tsc", *options, "--rootDir", ".", "--outDir", "out", "scenario.ts"], folder)


def _compile_go(folder: Path) -> None:
    shutil.copy(SCENARIOS / "scenario.go", folder)
    module = "example.org/imageapi/client/imageapi"
    (folder / "go.mod").write_text(
        f"module scenario\n\ngo 1.23\n\nrequire {module} v0.0.0\n\nreplace {module} => ./client\n"
    )
    # A machine's first build compiles Go's own library, a third faster without optimizations.
    flags = "-mod=mod '-gcflags=all=-N -l'"
    options = {"GOPROXY": "off", "GOENV": "off", "CGO_ENABLED": "0", "GOFLAGS": flags}
    run([SDK / "go", "vet", "."], folder, **options)
    run([SDK / "go", "build", "-o", "scenario"], folder, **options)


def _class_path(folder: Path) -> str:
    """The libraries that Debian has, and Jackson, which the generator carries."""
    (jackson,) = SDK.parent.glob("lib/python3*/site-packages/openapi_generator_cli/*.jar")
    return os.pathsep.join(map(str, [folder / "classes", *JARS, jackson]))


def _compile_java(folder: Path) -> None:
    sources = [*(folder / "client/src/main").rglob("*.java"), SCENARIOS / "Scenario.java"]
    options = ("-encoding", "UTF-8", "-Xlint:all,-processing,-options", "-proc:none")
    java = [f"-J{option}" for option in FOR_SHORT_RUNS.split()]
    path = ("-cp", _class_path(folder), "-d", folder / "classes")
    run(["javac", *java, *options, *path, *sources], folder)


def _java_inputs() -> list[Path | str]:
    return [run(["javac", "-version"], PROJECT), *JARS]


def _java_command(folder: Path) -> list[str | Path]:
    options = ("-Dfile.encoding=UTF-8", *FOR_SHORT_RUNS.split(), "-cp", _class_path(folder))
    return ["java", *options, "Scenario"]


LANGUAGES = {
    "python": Language("scenario.py", lambda _: [SDK / "python", SCENARIOS / "scenario.py"]),
    "python-httpx": Language(
        "scenario_httpx.py", lambda _: [SDK / "python", SCENARIOS / "scenario_httpx.py"]
    ),
    "typescript": Language(
        "scenario.ts",
        lambda folder: [IMAGEAPI.with_name("node"), folder / "out/scenario.js"],
        _compile_typescript,
        lambda: [NODE / ".package-lock.json"],
    ),
    "go": Language("scenario.go", lambda folder: [folder / "scenario"], _compile_go),
    "java": Language("Scenario.java", _java_command, _compile_java, _java_inputs),
}


def run(command: list[str | Path], cwd: Path, **more: str) -> str:
    """What the program writes; its environment is what stands here, and no more."""
    environment = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    path = f"{IMAGEAPI.parent}:{SDK}:{os.environ['PATH']}"  # Node.js and Go come in wheels
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "PATH": path, **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def build(language: str, document: bytes, builds: Path = BUILDS) -> Path:
    """Return the folder of a client and of the program over it, built now or earlier.

    Two processes that ask for the same at the same time get one build.
    """
    builds = builds / language
    builds.mkdir(parents=True, exist_ok=True)
    folder = builds / _digest(language, document)
    with (builds / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            os.utime(folder)
        else:
            _delete_unused(builds)
            _make(language, document, folder)
    return folder


def _make(language: str, document: bytes, folder: Path) -> None:
    """Build beside the folder and rename, so that the folder is whole where it exists."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        made = Path(name) / "made"
        made.mkdir()
        (made / "openapi.json").write_bytes(document)
        run([SDK / "python", MAKE_SDK, language, "client", "openapi.json"], made)
        LANGUAGES[language].compile(made)
        made.rename(folder)


def _delete_unused(builds: Path) -> None:
    oldest = time.time() - UNUSED_SECONDS
    for path in builds.glob("*/"):
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path)


def _digest(language: str, document: bytes) -> str:
    """A digest of all that a build depends on."""
    digest = hashlib.sha256(document)
    for part in _inputs(language):
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(f"\n{len(content)} {part}\n".encode() + content)
    return digest.hexdigest()[:32]


def _inputs(language: str) -> Iterator[Path | str]:
    yield from (language, sys.platform, platform.machine(), os.environ["PATH"])
    yield from (MAKE_SDK, Path(__file__), SCENARIOS / LANGUAGES[language].scenario)
    # Generators, Go and Node.js are packages: what is installed, in which version.
    for environment in (SDK.parent, IMAGEAPI.parent.parent):
        yield from sorted(map(str, environment.glob("lib/python3*/site-packages/*.dist-info")))
    yield from LANGUAGES[language].inputs()
