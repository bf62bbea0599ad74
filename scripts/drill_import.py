"""A drill: many records in, listed, out again and compared; and imports killed at any moment.

`make drill` runs it on the embedded database of a temporary folder. What it prints is measured.
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


def generated(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Untagged records, no two alike, in the order of the queue, written as the service writes."""
    chance = random.Random(seed)
    sample = json.loads(SAMPLE.read_text())[0]
    first = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    for number in range(count):
        position = [chance.uniform(-90, 90), chance.choice([chance.uniform(-180, 180), 7, 0.0])]
        infos = sample["infos"] | {
            "bytes": chance.randrange(10**7),
            "etag": f"{chance.getrandbits(128):032x}",
            "tags": [ALBUM],
        }
        infos |= {"phash": f"{chance.getrandbits(64):x}", "colors": [["#fff", chance.random()]]}
        created_at = first + timedelta(milliseconds=number)
        yield sample | {
            "public_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "infos": infos,
            "exifs": {"Make": "Nikon", "FNumber": chance.choice([2.8, 8, 5.6]), "Ünit": None},
            "gps": position,
            "gps_html": position,
            "created_at": created_at.isoformat(timespec="milliseconds"),
            "album_id": ALBUM,
        }


def timed(folder: Path, *arguments: str, output: Path) -> tuple[float, float]:
    """Run a command; return its seconds and its largest memory in megabytes."""
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen([IMAGEAPI, *arguments], cwd=folder, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"imageapi {arguments[0]} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def written(folder: Path, count: int) -> Path:
    """The file of the records."""
    path = folder / "records.json"
    with path.open("w") as file:
        for number, each in enumerate(generated(count, seed=1)):
            file.write(("," if number else "[") + json.dumps(each))
        file.write("]")
    return path


def listed(folder: Path) -> bytes:
    """What the service answers for the whole queue."""
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
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            body: bytes = answer.read()
        service.terminate()
    return body


def round_trip(folder: Path, count: int) -> None:
    """In, listed, out, compared, and in once more."""
    path, output = written(folder, count), folder / "out.json"
    size = path.stat().st_size / 1e6
    timed(folder, "migrate", output=output)
    seconds, megabytes = timed(folder, "import", str(path), output=output)
    print(f"{count:,} records, {size:.0f} MB: {output.read_text().strip()}")
    print(
        f"import  {seconds:6.1f} s  {count / seconds:8,.0f} records/s  {megabytes:4.0f} MB at most"
    )
    seconds, megabytes = timed(folder, "export", ALBUM, output=output)
    print(
        f"export  {seconds:6.1f} s  {count / seconds:8,.0f} records/s  {megabytes:4.0f} MB at most"
    )
    exported = output.read_bytes()
    print("exported equals imported:", json.loads(exported) == json.loads(path.read_bytes()))
    print("listed is exported, to the byte:", listed(folder) == exported)
    seconds, _ = timed(folder, "import", str(path), output=output)
    print(f"again   {seconds:6.1f} s: {output.read_text().strip()}")


def killed(folder: Path, count: int, times: int) -> None:
    """Kill imports at moments spread over how long one takes; each left all or nothing."""
    path, output = written(folder, count), folder / "out.json"
    left: list[int] = []
    whole = 0.0
    for number in range(times):
        home = folder / f"killed-{number}"
        home.mkdir()
        timed(home, "migrate", output=output)
        started = time.monotonic()
        process = subprocess.Popen([IMAGEAPI, "import", path], cwd=home, stdout=subprocess.DEVNULL)
        if number == 0:
            process.wait()
            whole = time.monotonic() - started
            continue
        time.sleep(0.5 + (whole - 0.5) * number / times)
        process.kill()
        process.wait()
        moment = time.monotonic() - started
        timed(home, "export", ALBUM, output=output)
        left.append(len(json.loads(output.read_bytes())))
        print(f"killed after {moment:5.2f} of {whole:.2f} s: {left[-1]:,} of {count:,} are there")
    print("all or nothing each time:", set(left) <= {0, count})


def main() -> None:
    """Run both drills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("IMAGEAPI_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        round_trip(Path(folder), arguments.records)
    with tempfile.TemporaryDirectory() as folder:
        killed(Path(folder), arguments.records // 5, arguments.kills + 1)


if __name__ == "__main__":
    main()
