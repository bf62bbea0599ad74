"""A drill: import, list and export many records and compare them; kill imports at any moment.

`make drill` runs it on the embedded database of a temporary folder. All printed figures are
measured.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

IMAGEAPI = Path(sys.executable).with_name("imageapi")
SAMPLE = Path(__file__).parent.parent / "examples/untagged.json"
ALBUM = "drill"


def generate_records(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield different untagged records, in the order of the queue and in the service's format."""
    rng = random.Random(seed)
    sample = json.loads(SAMPLE.read_text())[0]
    first = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    for number in range(count):
        position = [rng.uniform(-90, 90), rng.choice([rng.uniform(-180, 180), 7, 0.0])]
        infos = sample["infos"] | {
            "bytes": rng.randrange(10**7),
            "etag": f"{rng.getrandbits(128):032x}",
            "tags": [ALBUM],
        }
        infos |= {"phash": f"{rng.getrandbits(64):x}", "colors": [["#fff", rng.random()]]}
        created_at = first + timedelta(milliseconds=number)
        yield sample | {
            "public_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "infos": infos,
            "exifs": {"Make": "Nikon", "FNumber": rng.choice([2.8, 8, 5.6]), "Ünit": None},
            "gps": position,
            "gps_html": position,
            "created_at": created_at.isoformat(timespec="milliseconds"),
            "album_id": ALBUM,
        }


def run_command(folder: Path, *arguments: str, output: Path) -> tuple[float, float]:
    """Run a command; return its duration in seconds and its peak memory in megabytes."""
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen([IMAGEAPI, *arguments], cwd=folder, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"imageapi {arguments[0]} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def write_records(folder: Path, count: int) -> Path:
    """Write the records into a file; return its path."""
    path = folder / "records.json"
    with path.open("w") as file:
        for number, record in enumerate(generate_records(count, seed=1)):
            file.write(("," if number else "[") + json.dumps(record))
        file.write("]")
    return path


def fetch_queue(folder: Path) -> bytes:
    """Start the service; return its response for the whole queue."""
    command = [str(IMAGEAPI), "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as service:
        assert service.stdout is not None
        address = service.stdout.readline().decode().split()[4].rstrip(",")
        token = subprocess.check_output([IMAGEAPI, "token", ALBUM], cwd=folder).decode().strip()
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{address}/api/v1/albums/{ALBUM}/images/untag",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            body: bytes = response.read()
        service.terminate()
    return body


def check_round_trip(folder: Path, count: int) -> None:
    """Import, export and list the records, compare them, and import them a second time."""
    path, output = write_records(folder, count), folder / "out.json"
    size_mb = path.stat().st_size / 1e6
    run_command(folder, "migrate", output=output)
    seconds, megabytes = run_command(folder, "import", str(path), output=output)
    print(f"{count:,} records, {size_mb:.0f} MB: {output.read_text().strip()}")
    print(
        f"import  {seconds:6.1f} s  {count / seconds:8,.0f} records/s  {megabytes:4.0f} MB at most"
    )
    seconds, megabytes = run_command(folder, "export", ALBUM, output=output)
    print(
        f"export  {seconds:6.1f} s  {count / seconds:8,.0f} records/s  {megabytes:4.0f} MB at most"
    )
    exported = output.read_bytes()
    print("exported equals imported:", json.loads(exported) == json.loads(path.read_bytes()))
    print("listed is exported, to the byte:", fetch_queue(folder) == exported)
    seconds, _ = run_command(folder, "import", str(path), output=output)
    print(f"again   {seconds:6.1f} s: {output.read_text().strip()}")


def check_kills(folder: Path, count: int, times: int) -> None:
    """Kill imports at moments spread over the duration of one; each must add all or nothing."""
    path, output = write_records(folder, count), folder / "out.json"
    counts: list[int] = []
    full_seconds = 0.0
    for number in range(times):
        home = folder / f"killed-{number}"
        home.mkdir()
        run_command(home, "migrate", output=output)
        started = time.monotonic()
        process = subprocess.Popen([IMAGEAPI, "import", path], cwd=home, stdout=subprocess.DEVNULL)
        if number == 0:
            process.wait()
            full_seconds = time.monotonic() - started
            continue
        time.sleep(0.5 + (full_seconds - 0.5) * number / times)
        process.kill()
        process.wait()
        seconds = time.monotonic() - started
        run_command(home, "export", ALBUM, output=output)
        counts.append(len(json.loads(output.read_bytes())))
        found = f"{counts[-1]:,} of {count:,} are there"
        print(f"killed after {seconds:5.2f} of {full_seconds:.2f} s: {found}")
    print("all or nothing each time:", set(counts) <= {0, count})


def main() -> None:
    """Run both drills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("IMAGEAPI_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        check_round_trip(Path(folder), arguments.records)
    with tempfile.TemporaryDirectory() as folder:
        check_kills(Path(folder), arguments.records // 5, arguments.kills + 1)


if __name__ == "__main__":
    main()
