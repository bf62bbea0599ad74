"""Albums in from files and out again: equal, all or nothing, and in little memory."""

import asyncio
import gc
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from conftest import IMAGEAPI, Command
from factories import DOCUMENTED_ALBUM, DOCUMENTED_BODY, ODD_TAGS, SAMPLE, changed, record
from fixture_types import AddRecords
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database import bulk_import
from imageapi.database.copy_format import CopyLines
from imageapi.database.engine import Database
from imageapi.database.errors import DuplicateRecord
from imageapi.database.images import Images
from imageapi.database.tables import albums, events, images
from imageapi.transfer import record_import, record_reader
from imageapi.transfer.record_import import ImportRefused
from imageapi.transfer.record_reader import RecordReader
from in_process import InProcess


def written(path: Path, records: Any) -> str:
    path.write_text(json.dumps(records))
    return str(path)


def exported(run: Command | InProcess, album: str) -> Any:
    """The album's records; none for an album that is not there, which the command refuses."""
    result = run("export", album)
    if result.returncode == 1:
        assert result.stderr.decode() == f"imageapi: there is no album {album}\n"
        assert result.stdout == b""
        return []
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def records(album: str, count: int) -> list[Any]:
    """Records whose dates are written in the configured time zone already."""
    made = [record(album, number, tags=("b", "a") if number % 3 else ()) for number in range(count)]
    return [each | {"created_at": f"{each['created_at'][:-6]}+01:00"} for each in made]


def test_sample_comes_back_to_the_byte(imageapi: Command) -> None:
    assert imageapi("import", str(SAMPLE)).returncode == 0
    assert imageapi("export", DOCUMENTED_ALBUM).stdout == DOCUMENTED_BODY


@pytest.mark.every_way
def test_what_is_imported_is_exported_equal_and_in_order(
    imageapi: Command, tmp_path: Path, album: str
) -> None:
    given = records(album, 50)
    given[7]["infos"] |= {"colors": [["#fff", 1.50]], "phash": "ab", "faces": None}
    given[8]["exifs"] = {"Z": 1, "A": {"Ä": [0.1, 10**20, -0.0, 1e-7]}}
    result = imageapi("import", written(tmp_path / "a.json", given[::-1]))
    assert (result.returncode, result.stdout) == (0, b"images added: 50, there already: 0\n")
    assert exported(imageapi, album) == given


def test_album_never_seen_is_exported_empty(in_process: InProcess, album: str) -> None:
    assert exported(in_process, album) == []


@pytest.mark.every_way
def test_import_may_be_repeated_without_harm(
    in_process: InProcess, tmp_path: Path, album: str
) -> None:
    file = written(tmp_path / "a.json", records(album, 5))
    assert in_process("import", file).stdout == b"images added: 5, there already: 0\n"
    assert in_process("import", file).stdout == b"images added: 0, there already: 5\n"
    more = written(tmp_path / "b.json", records(album, 7))
    assert in_process("import", more).stdout == b"images added: 2, there already: 5\n"
    assert exported(in_process, album) == records(album, 7)


def test_image_that_is_there_is_left_as_it_is(
    imageapi: Command, in_process: InProcess, tmp_path: Path, album: str
) -> None:
    first, *_ = records(album, 1)
    imageapi("import", written(tmp_path / "a.json", [first]))
    imageapi("import", written(tmp_path / "b.json", [first | {"rotation": 90}]))
    assert exported(in_process, album) == [first]


def test_several_files_and_standard_input_are_one_import(
    imageapi: Command, in_process: InProcess, tmp_path: Path, album: str
) -> None:
    first, second, third = records(album, 3)
    files = [written(tmp_path / "a.json", [first]), "-", written(tmp_path / "b.json", [third])]
    result = imageapi("import", *files, stdin=json.dumps([second]).encode())
    assert result.returncode == 0
    assert exported(in_process, album) == [first, second, third]


def test_odd_tags_come_back(
    imageapi: Command, in_process: InProcess, tmp_path: Path, album: str
) -> None:
    given = records(album, 2)
    given[1]["infos"]["tags"] = [album, *ODD_TAGS]
    assert imageapi("import", written(tmp_path / "a.json", given)).returncode == 0
    assert exported(in_process, album) == given


@pytest.mark.every_way
def test_large_file_is_read_in_batches(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, album: str
) -> None:
    monkeypatch.setattr(record_reader, "BATCH_CHARACTERS", 300_000)
    given = records(album, 2500)
    file = written(tmp_path / "a.json", given)
    assert Path(file).stat().st_size > 5 * 300_000
    assert in_process("import", file).stdout == b"images added: 2500, there already: 0\n"
    assert exported(in_process, album) == given
    bad = written(tmp_path / "b.json", [*given, record(album, 2501, rotation=7)])
    assert b"b.json: record 2500: rotation: " in in_process("import", bad).stderr


async def test_next_batch_is_read_while_the_last_is_added() -> None:
    is_read, main = threading.Event(), threading.get_ident()

    def batches() -> Iterator[CopyLines]:
        yield CopyLines(1, b"first")
        assert threading.get_ident() != main
        is_read.set()
        yield CopyLines(1, b"second")

    async with aclosing(record_import._read_ahead(batches())) as ahead:
        assert await anext(ahead) == CopyLines(1, b"first")
        assert await asyncio.to_thread(is_read.wait, 10)
        assert [each async for each in ahead] == [CopyLines(1, b"second")]


async def test_error_of_a_batch_that_is_not_wanted_any_more_is_dropped() -> None:
    """Where the database fails first, asyncio must not print what the next batch raised."""
    is_read = threading.Event()

    def batches() -> Iterator[CopyLines]:
        yield CopyLines(1, b"first")
        is_read.set()
        raise ImportRefused

    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        async with aclosing(record_import._read_ahead(batches())) as ahead:
            await anext(ahead)
            await asyncio.to_thread(is_read.wait, 10)
            await asyncio.sleep(0.01)
        del ahead
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert unhandled == []


@pytest.mark.parametrize("present", [(), (1,), range(4)])
@pytest.mark.parametrize(("twice", "named"), [((1, 2), (1, 4)), ((3, 0), (3, 4))])
async def test_record_twice_is_found_across_batches(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    album: str,
    add: AddRecords,
    present: Sequence[int],
    twice: tuple[int, int],
    named: tuple[int, int],
) -> None:
    await add(record(album, number) for number in present)
    monkeypatch.setattr(bulk_import, "BATCH_BYTES", 1)
    serializer = RecordSerializer(ZoneInfo("UTC"), {"full": 3, "large": 2, "mini": 1})
    reader = RecordReader(serializer, None)

    async def incoming() -> AsyncIterator[CopyLines]:
        for numbers in ((0, 1), (2, 3), twice):
            array = json.dumps([record(album, each) for each in numbers]).encode()
            for lines in reader.read([array]):
                yield lines

    with pytest.raises(DuplicateRecord) as refused:
        await bulk_import.add_images(database, incoming(), serializer.name)
    assert (refused.value.first, refused.value.second) == named
    assert (await Images(database).count_all_and_untagged(album))[0] == len(present)


async def test_images_of_an_album_share_events_over_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch, album: str, add: AddRecords
) -> None:
    """A thousand images to an event, whatever the batches, and no version left out."""
    other = f"{album}-2"
    await add([record(album, 5)])
    monkeypatch.setattr(bulk_import, "BATCH_BYTES", 1)
    monkeypatch.setattr(bulk_import, "MAX_EVENT_IMAGES", 3)
    serializer = RecordSerializer(ZoneInfo("UTC"), {"full": 3, "large": 2, "mini": 1})
    reader = RecordReader(serializer, None)

    async def incoming() -> AsyncIterator[CopyLines]:
        for first in (0, 4, 8):
            both = [record(each, first + n) for n in range(4) for each in (album, other)]
            for lines in reader.read([json.dumps(both).encode()]):
                yield lines

    added = await bulk_import.add_images(database, incoming(), serializer.name)
    assert (added.added, added.present) == (23, 1)
    async with database.transaction() as connection:
        rows = await connection.execute(
            select(events.c.album_id, events.c.version, events.c.public_ids)
            .where(events.c.album_id.in_([album, other]), events.c.kind == "import")
            .order_by(events.c.album_id, events.c.version)
        )
        sizes = {(row.album_id, row.version): len(row.public_ids) for row in rows}
        versions = await connection.execute(
            select(images.c.album_id, images.c.version, func.count())
            .where(images.c.album_id.in_([album, other]))
            .group_by(images.c.album_id, images.c.version)
        )
        assert {(row[0], row[1]): row[2] for row in versions} == sizes
    assert sizes == {
        (album, 1): 1,
        (album, 2): 3,
        (album, 3): 3,
        (album, 4): 3,
        (album, 5): 2,
        **{(other, version): 3 for version in (1, 2, 3, 4)},
    }


def test_file_with_a_byte_order_mark_is_read(
    in_process: InProcess, tmp_path: Path, album: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records(album, 1)), encoding="utf-8-sig")
    assert in_process("import", str(path)).returncode == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("infos.bytes", "3604"),
        ("infos.location.latitude", float("nan")),
        ("gps", [100, 0]),
        ("public_id", "no-uuid"),
        ("created_at", "2016-02-15T13:02:58"),
        ("exifs", {"a": "\0"}),
        ("album_id", "a b"),
    ],
)
def test_one_bad_record_changes_nothing_and_is_named(
    in_process: InProcess, tmp_path: Path, album: str, field: str, value: Any
) -> None:
    given = records(album, 20)
    given[13] = changed(given[13], field, value)
    result = in_process("import", written(tmp_path / "a.json", given))
    assert result.returncode == 1
    assert result.stdout == b""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"imageapi: {tmp_path / 'a.json'}: record 13: {field}")
    assert exported(in_process, album) == []


@pytest.mark.every_way
def test_bad_record_of_a_second_file_undoes_the_first(
    in_process: InProcess, tmp_path: Path, album: str
) -> None:
    good = written(tmp_path / "good.json", records(album, 3))
    bad = written(tmp_path / "bad.json", [record(album, 9), record(album, 10, rotation=7)])
    result = in_process("import", good, bad)
    assert result.returncode == 1
    assert b"bad.json: record 1: rotation: " in result.stderr
    assert exported(in_process, album) == []


def test_record_twice_names_both(in_process: InProcess, tmp_path: Path, album: str) -> None:
    first = written(tmp_path / "a.json", records(album, 4))
    second = written(tmp_path / "b.json", [record(album, 8), record(album, 2)])
    result = in_process("import", first, second)
    assert result.returncode == 1
    assert b"b.json: record 1: public_id: is that of " in result.stderr
    assert b"a.json: record 2 too" in result.stderr
    assert exported(in_process, album) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "record 0: is not a JSON array of objects"),
        (b'[{"a":1}', "record 0: public_id: is required"),
        (b"[{", "record 0: is not JSON"),
        (b"\xff\xfe", "record 0: is not UTF-8"),
        (b'[{"a":"\xe4"}]', "record 0: is not UTF-8"),
        (b"<html>", "record 0: is not a JSON array of objects"),
    ],
)
def test_file_that_is_no_array_is_refused(
    in_process: InProcess, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    result = in_process("import", str(path))
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"imageapi: {path}: {message}")
    assert result.stderr.count(b"\n") == 1


def test_refusal_is_one_plain_line_whatever_the_record_says(
    in_process: InProcess, tmp_path: Path, album: str
) -> None:
    given = record(album) | {"a\nb\x1b[31m": 1}
    result = in_process("import", written(tmp_path / "a.json", [given]))
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 1
    assert b"record 0: a b?[31m: is not a field that is known here" in result.stderr


def test_file_that_is_not_there_is_one_line(in_process: InProcess, tmp_path: Path) -> None:
    path = tmp_path / "missing.json"
    result = in_process("import", str(path))
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"imageapi: {path}: ")
    assert result.stderr.count(b"\n") == 1


def test_album_option_refuses_records_of_others(
    in_process: InProcess, tmp_path: Path, album: str
) -> None:
    file = written(tmp_path / "a.json", [record(album, 0), record("another", 1)])
    result = in_process("import", "--album", album, file)
    assert result.returncode == 1
    assert b"record 1: album_id: must be " in result.stderr
    assert (
        in_process(
            "import", "--album", album, written(tmp_path / "b.json", [record(album)])
        ).returncode
        == 0
    )


async def test_album_version_rises_by_one_for_an_import(
    in_process: InProcess, tmp_path: Path, album: str, database: Database
) -> None:
    for count in (3, 3, 5):
        in_process("import", written(tmp_path / "a.json", records(album, count)))
    async with database.transaction() as connection:
        version = await connection.scalar(
            select(albums.c.version).where(albums.c.album_id == album)
        )
        newest = await connection.scalar(
            select(func.max(images.c.version)).where(images.c.album_id == album)
        )
    assert (version, newest) == (2, 2)


@pytest.mark.every_way
def test_reader_that_leaves_ends_an_export_quietly(
    imageapi: Command, tmp_path: Path, album: str
) -> None:
    imageapi("import", written(tmp_path / "a.json", records(album, 500)))
    with subprocess.Popen(
        [IMAGEAPI, "export", album],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=imageapi.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("seed", range(4))
def test_killed_import_leaves_all_or_nothing(
    imageapi: Command, in_process: InProcess, tmp_path: Path, album: str, seed: int
) -> None:
    """Killed at a random moment; `make drill` does it ten times on a larger file."""
    given = records(album, 3000)
    file = written(tmp_path / "a.json", given)
    process = subprocess.Popen([IMAGEAPI, "import", file], env=imageapi.environment)
    time.sleep(random.Random(seed).uniform(0.3, 1.8))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(exported(in_process, album)) in (0, 3000)
    assert imageapi("import", file).returncode == 0
    assert exported(in_process, album) == given
