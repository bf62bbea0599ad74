"""Pictures decoded by children: what they are, how they look, and what strangers send instead."""

import asyncio
import io
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop
from PIL import Image

from factories import PROJECT
from imageapi.imaging import decode_pool
from imageapi.imaging.decode_pool import DecodePool, PictureFacts
from imageapi.imaging.errors import DecodeFailed, DecodersBusy, InvalidPicture, PictureError
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.imaging.views import View
from imageapi.workers.process import WorkerDied, WorkerProcess
from pictures import (
    BLUE,
    CORNERS,
    GREEN,
    RED,
    YELLOW,
    animated_webp,
    avif,
    bomb,
    cmyk_jpeg,
    corners,
    each_format,
    eight_orientations,
    gif,
    grey_jpeg,
    heic,
    jpeg,
    marked,
    mutated,
    png,
    png_16_bit,
    tiff,
    webp,
    written,
)

MINI = View(48)
FORMATS = tuple(each_format())
PHOTOS = Path(
    os.environ.get("IMAGEAPI_TEST_PHOTOS") or PROJECT.parent / "shared" / "photos"
).absolute()
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc")
Keep = Callable[[bytes], Path]


@pytest.fixture(scope="module")
async def decoders() -> AsyncIterator[DecodePool]:
    decoders = DecodePool(2, max_pixels=20_000_000, seconds=20)
    yield decoders
    await decoders.close()


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Puts content into a file whose name says nothing."""
    numbers = count()

    def keep(content: bytes) -> Path:
        path = tmp_path / f"{next(numbers)}[page=1].svg"
        path.write_bytes(content)
        return path

    return keep


def size(jpeg_: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg_)) as image:
        assert image.format == "JPEG"
        image.load()
        return image.size


def pids(decoders: DecodePool) -> list[int]:
    return [child._process.pid for child in decoders._workers]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def told_by_linux(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def at_work(decoders: DecodePool) -> int:
    """The number of a child that is at work, as soon as there is one."""
    async with asyncio.timeout(20):
        while not (busy := decoders._workers - set(decoders._idle)):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
    return busy.pop()._process.pid


# What a picture is


@pytest.mark.parametrize("format_", FORMATS)
async def test_each_format_is_inspected(decoders: DecodePool, keep: Keep, format_: str) -> None:
    facts = await decoders.inspect(keep(each_format()[format_]), format_, MINI)
    assert (facts.format, facts.width, facts.height) == (format_, 96, 64)
    assert size(facts.mini) == (48, 32)
    assert corners(facts.mini) == list(CORNERS)
    if format_ != "gif":  # which has no EXIF
        assert facts.exifs["Make"] == "Camera of the tests"
        assert facts.position == pytest.approx([38.713750, -9.139333], abs=1e-6)


async def test_nothing_written_by_a_camera_is_nothing(decoders: DecodePool, keep: Keep) -> None:
    facts = await decoders.inspect(keep(written(marked(), "JPEG")), "jpg", MINI)
    assert (facts.exifs, facts.position) == ({}, None)


async def test_broken_exif_is_left_out(decoders: DecodePool, keep: Keep) -> None:
    content = written(marked(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nothing")
    facts = await decoders.inspect(keep(content), "jpg", MINI)
    assert (facts.width, facts.exifs, facts.position) == (96, {}, None)


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_every_orientation_is_shown_upright(
    decoders: DecodePool, keep: Keep, orientation: int
) -> None:
    pictures = {
        "jpg": eight_orientations()[orientation],
        "tiff": tiff(orientation),
        "heic": heic(orientation),
        "avif": avif(orientation),
    }
    for format_, content in pictures.items():
        facts = await decoders.inspect(keep(content), format_, MINI)
        assert (format_, facts.width, facts.height) == (format_, 96, 64)
        assert size(facts.mini) == (48, 32)
        assert corners(facts.mini) == list(CORNERS)


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        ("jpg", cmyk_jpeg()),
        ("png", png_16_bit()),
        ("png", png("P")),
        ("tiff", written(marked().convert("CMYK"), "TIFF")),
        ("tiff", tiff(compression="tiff_lzw")),
        ("webp", webp(lossless=True)),
    ],
)
async def test_every_kind_of_pixel_becomes_srgb(
    decoders: DecodePool, keep: Keep, format_: str, content: bytes
) -> None:
    assert corners(await decoders.render(keep(content), format_, MINI)) == list(CORNERS)


async def test_grey_stays_grey(decoders: DecodePool, keep: Keep) -> None:
    mini = await decoders.render(keep(grey_jpeg()), "jpg", MINI)
    with Image.open(io.BytesIO(mini)) as image:
        red, green, blue = image.convert("RGB").getpixel((5, 5))
    assert max(red, green, blue) - min(red, green, blue) <= 2


async def test_what_is_transparent_becomes_white(decoders: DecodePool, keep: Keep) -> None:
    mini = await decoders.render(keep(png("RGBA")), "png", MINI)
    with Image.open(io.BytesIO(mini)) as image:
        assert min(image.getpixel((40, 10))) >= 250
        assert image.getpixel((5, 5)) == pytest.approx(RED, abs=12)


@pytest.mark.parametrize(("format_", "content"), [("gif", gif(40)), ("webp", animated_webp(40))])
async def test_of_many_frames_the_first_is_shown(
    decoders: DecodePool, keep: Keep, format_: str, content: bytes
) -> None:
    assert corners(await decoders.render(keep(content), format_, MINI)) == list(CORNERS)


# How it is shown


async def test_a_view_is_turned_clockwise(decoders: DecodePool, keep: Keep) -> None:
    path = keep(jpeg(orientation=6))
    turned = {
        90: [BLUE, RED, YELLOW, GREEN],
        180: [YELLOW, BLUE, GREEN, RED],
        270: [GREEN, YELLOW, RED, BLUE],
    }
    for rotation, expected in turned.items():
        view = await decoders.render(path, "jpg", View(48, rotation))
        assert corners(view) == expected
        assert size(view) == ((48, 32) if rotation == 180 else (32, 48))


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_view_shows_the_crop_alone(decoders: DecodePool, keep: Keep, format_: str) -> None:
    path = keep(each_format()[format_])
    for crop, colour in (
        ((2.5, 2, 40, 28), RED),
        ((50, 2, 40, 28), GREEN),
        ((2, 34, 40, 28), BLUE),
        ((50, 34, 400, 280), YELLOW),
    ):
        assert corners(await decoders.render(path, format_, View(20, 0, crop))) == [colour] * 4
    # Turned by 90 degrees, what was left below is left above.
    assert corners(await decoders.render(path, format_, View(20, 90, (2, 2, 28, 40)))) == [BLUE] * 4


@pytest.mark.parametrize("rotation", [0, 90])
async def test_the_crop_is_as_large_as_asked_for(
    decoders: DecodePool, keep: Keep, rotation: int
) -> None:
    path = keep(jpeg(2000, 1600))
    assert size(await decoders.render(path, "jpg", View(100, rotation, (0, 0, 400, 200)))) == (
        100,
        50,
    )
    assert size(await decoders.render(path, "jpg", View(999, rotation, (9, 9, 40, 20)))) == (40, 20)
    assert size(await decoders.render(path, "jpg", View(9, rotation, (-5, 5000, 1, 1)))) == (1, 1)


async def test_nothing_is_enlarged(decoders: DecodePool, keep: Keep) -> None:
    assert size(await decoders.render(keep(jpeg()), "jpg", View(5000))) == (96, 64)


async def test_what_the_camera_wrote_is_not_in_the_view(decoders: DecodePool, keep: Keep) -> None:
    content = jpeg(gps=(38.7, -9.1), orientation=6)
    assert b"Exif" in content
    for view in (View(48), View(5000), View(48, 90, (1, 1, 50, 50))):
        rendered = await decoders.render(keep(content), "jpg", view)
        for name in (b"Exif", b"ICC_PROFILE", b"Camera", b"http://ns.adobe.com", b"Photoshop"):
            assert name not in rendered


# What strangers send


@pytest.mark.parametrize("format_", FORMATS)
async def test_what_is_there_of_a_truncated_picture_is_shown(
    decoders: DecodePool, keep: Keep, format_: str
) -> None:
    whole = jpeg(1200, 800) if format_ == "jpg" else each_format()[format_]
    for part in (1, 20, 300, len(whole) // 2, len(whole) - 3):
        try:
            shown = await decoders.render(keep(whole[:part]), format_, MINI)
        except InvalidPicture:
            assert format_ != "jpg" or part <= 300
        else:
            assert size(shown)[0] == 48


@linux
async def test_a_bomb_is_refused_by_its_header(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=100_000_000)
    path = keep(bomb())
    began = time.monotonic()
    with pytest.raises(
        InvalidPicture, match=r"400,000,000 pixels; at most 100,000,000 are taken\.$"
    ):
        await decoders.inspect(path, "png", MINI)
    assert time.monotonic() - began < 5
    status = told_by_linux(pids(decoders)[0], "status")
    peak_kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    await decoders.close()
    assert peak_kilobytes < 100_000


async def test_too_many_frames_are_refused(decoders: DecodePool, keep: Keep) -> None:
    with pytest.raises(InvalidPicture, match=r"1,001 frames; at most 1,000 are taken\."):
        await decoders.inspect(keep(gif(1001)), "gif", MINI)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect/></svg>",
        b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj",
        b"P6\n1 1\n255\n\0\0\0",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"\xff\xd8\xff\xe0" + bytes(50),
        bytes(5000),
    ],
)
async def test_another_content_is_no_picture_of_the_format(
    decoders: DecodePool, keep: Keep, format_: str, content: bytes
) -> None:
    with pytest.raises(InvalidPicture, match=r"^The picture cannot be decoded\.$"):
        await decoders.inspect(keep(content), format_, MINI)


async def test_a_picture_of_another_format_is_refused(decoders: DecodePool, keep: Keep) -> None:
    with pytest.raises(InvalidPicture):
        await decoders.inspect(keep(jpeg()), "png", MINI)


async def test_a_file_that_is_not_there_is_no_fault_of_a_picture(
    decoders: DecodePool, tmp_path: Path
) -> None:
    with pytest.raises(DecodersBusy) as caught:
        await decoders.inspect(tmp_path / "nothing", "jpg", MINI)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("format_", FORMATS)
async def test_damaged_pictures_are_shown_or_unfit_and_nothing_else(
    decoders: DecodePool, keep: Keep, format_: str
) -> None:
    whole = each_format()[format_]

    async def outcome(seed: int) -> PictureFacts | str:
        try:
            return await decoders.inspect(keep(mutated(whole, seed)), format_, MINI)
        except PictureError as unfit:
            return str(unfit)

    outcomes = await asyncio.gather(*(outcome(seed) for seed in range(300)))
    shown = [each for each in outcomes if isinstance(each, PictureFacts)]
    assert all(size(facts.mini) for facts in shown)
    sentences = {each for each in outcomes if isinstance(each, str)}
    expected = (
        r"The picture (cannot be decoded|has [^/]+|is not whole: [^/]+)\."
        r"|The picture's pixels are of a kind of TIFF that is not read: [^/]+\."
        r"|The file is not a JPEG, .+ or AVIF\."
    )
    assert all(re.fullmatch(expected, sentence) for sentence in sentences)
    assert shown
    assert sentences


# Children that die


async def test_a_child_killed_at_rest_is_replaced(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=10**6)
    path = keep(jpeg())
    await decoders.inspect(path, "jpg", MINI)
    killed = pids(decoders)[0]
    os.kill(killed, signal.SIGKILL)
    await decoders.inspect(path, "jpg", MINI)
    await decoders.inspect(path, "jpg", MINI)
    assert killed not in pids(decoders)
    await decoders.close()


def test_children_killed_at_rest_are_replaced_under_uvloop(keep: Keep) -> None:
    path = keep(jpeg())

    async def kill_and_ask() -> None:
        decoders = DecodePool(1, max_pixels=10**6)
        for pause in (0, 0, 0.01, 0.1):
            await decoders.inspect(path, "jpg", MINI)
            os.kill(pids(decoders)[0], signal.SIGKILL)
            await asyncio.sleep(pause)
        await decoders.close()

    uvloop.run(kill_and_ask())


async def test_a_used_child_killed_at_work_is_not_noticed(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=10**8)
    await decoders.inspect(keep(jpeg()), "jpg", MINI)
    slow = asyncio.create_task(decoders.inspect(keep(bomb(6000)), "png", MINI))
    os.kill(await at_work(decoders), signal.SIGKILL)
    assert (await slow).width == 6000
    await decoders.close()


async def test_picture_that_kills_a_new_worker_is_refused_and_affects_no_other(keep: Keep) -> None:
    decoders = DecodePool(2, max_pixels=10**9)
    path = keep(jpeg())
    slow = asyncio.create_task(decoders.inspect(keep(bomb()), "png", MINI))
    killed = await at_work(decoders)
    others = [asyncio.create_task(decoders.inspect(path, "jpg", MINI)) for _ in range(5)]
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(InvalidPicture, match=r"^The picture cannot be decoded\.$"):
        await slow
    assert all(facts.width == 96 for facts in await asyncio.gather(*others))
    await decoders.close()


async def test_a_picture_that_takes_too_long_is_unfit_and_its_child_ends(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=10**9, seconds=0.4)
    began = time.monotonic()
    slow = asyncio.create_task(decoders.inspect(keep(bomb()), "png", View(5000)))
    child = await at_work(decoders)
    with pytest.raises(InvalidPicture, match=r"^The picture takes too long to decode\.$"):
        await slow
    assert time.monotonic() - began < 5
    await decoders.close()
    assert not is_there(child)


async def test_a_turn_is_not_waited_for_without_end(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start_sleeping(*_: str, **__: Any) -> WorkerProcess:
        pipe = asyncio.subprocess.PIPE
        return WorkerProcess(
            await asyncio.create_subprocess_exec("sleep", "60", stdin=pipe, stdout=pipe)
        )

    monkeypatch.setattr(WorkerProcess, "start", start_sleeping)
    decoders = DecodePool(1, max_pixels=10**9, seconds=0.5)
    path = keep(jpeg())
    slow = asyncio.create_task(decoders.inspect(path, "jpg", MINI))
    await at_work(decoders)
    began = time.monotonic()
    waiting = [decoders.inspect(path, "jpg", MINI) for _ in range(20)]
    outcomes = await asyncio.gather(slow, *waiting, return_exceptions=True)
    assert {type(each) for each in outcomes} == {DecodeFailed, DecodersBusy}
    assert time.monotonic() - began < 8  # one after the other would take more than ten
    await decoders.close()


async def test_a_child_whose_parent_is_away_ends_by_itself(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=10**9)
    child = await decoders._start_worker()
    job = decoders._build_job(keep(bomb()), "png", View(5000), inspect=False) | {"seconds": 0.2}
    with pytest.raises(WorkerDied):
        await child.run(job)
    assert await child._process.wait() == -signal.SIGALRM
    idle = await decoders._start_worker()
    idle._stdin.close()
    assert await idle._process.wait() == 0
    await decoders.close()


@linux
async def test_memory_is_bounded(keep: Keep) -> None:
    decoders = DecodePool(1, max_pixels=10**6)
    await decoders.inspect(keep(jpeg()), "jpg", MINI)
    limits = told_by_linux(pids(decoders)[0], "limits")
    await decoders.close()
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert int(soft["Max address space"]) < 2**31
    assert soft["Max file size"] == "0"
    assert soft["Max core file size"] == "0"
    assert int(soft["Max open files"]) <= 64


async def test_who_stops_waiting_leaves_no_child_at_work(keep: Keep) -> None:
    decoders = DecodePool(2, max_pixels=10**9)
    path, slow_path = keep(jpeg()), keep(bomb())
    for pause in (0, 0.001, 0.01, 0.1, 0.3):
        slow = asyncio.create_task(decoders.inspect(slow_path, "png", View(5000)))
        await asyncio.sleep(pause)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await decoders.inspect(path, "jpg", MINI)).width == 96
    await asyncio.gather(*decoders._closing_tasks)
    assert decoders._workers == set(decoders._idle)
    await decoders.close()


async def test_close_leaves_no_process(keep: Keep) -> None:
    decoders = DecodePool(3, max_pixels=10**9)
    path = keep(jpeg())
    await asyncio.gather(*(decoders.inspect(path, "jpg", MINI) for _ in range(6)))
    slow = asyncio.create_task(decoders.inspect(keep(bomb()), "png", View(5000)))
    await at_work(decoders)
    children = pids(decoders)
    await decoders.close()
    assert len(children) >= 2
    assert not any(is_there(child) for child in children)
    with pytest.raises(RuntimeError):
        await slow
    with pytest.raises(RuntimeError):
        await decoders.inspect(path, "jpg", MINI)


@pytest.mark.parametrize("pause", [0, 0.0005, 0.002, 0.01, 0.05, 0.2])
async def test_close_at_any_moment_leaves_no_process(keep: Keep, pause: float) -> None:
    decoders = DecodePool(2, max_pixels=10**9)
    path = keep(bomb())
    jobs = [asyncio.create_task(decoders.render(path, "png", View(5000))) for _ in range(4)]
    await asyncio.sleep(pause)
    children = pids(decoders)
    await decoders.close()
    assert not decoders._workers
    assert not any(is_there(child) for child in children)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(each, RuntimeError) for each in outcomes)


async def test_no_child_is_started_before_it_is_needed() -> None:
    decoders = DecodePool(2, max_pixels=10**6)
    assert not decoders._workers
    await decoders.close()


async def test_many_jobs_share_few_children(keep: Keep) -> None:
    decoders = DecodePool(2, max_pixels=10**6)
    paths = [keep(jpeg(96 + number, 64)) for number in range(20)]
    facts = await asyncio.gather(*(decoders.inspect(path, "jpg", MINI) for path in paths))
    assert [each.width for each in facts] == [96 + number for number in range(20)]
    assert len(decoders._workers) == 2
    await decoders.close()


async def test_a_child_is_replaced_after_many_jobs(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_pool, "MAX_JOBS", 3)
    decoders = DecodePool(1, max_pixels=10**6)
    path = keep(jpeg())
    seen = set()
    for _ in range(7):
        await decoders.inspect(path, "jpg", MINI)
        seen.update(child._process.pid for child in decoders._idle)
    assert len(seen) == 3
    await decoders.close()


# Children that a picture has taken over


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff\xff{",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{}",
        b"\0\0\0\x03{}}",
        b'\0\0\0\x12{"blob":900000000}',
        b'\0\0\0\x0b{"blob":-1}',
        b'\0\0\0\x0c{"blob":NaN}',
        b"\0\x0f\0\0" + b"[" * 0x0F0000,
        b'\0\0\0\x0a{"blob":9}short',
    ],
)
async def test_an_answer_that_is_none_counts_as_death(answer: bytes) -> None:
    program = f"import sys; sys.stdout.buffer.write({answer[:4]!r} + {answer[4:200]!r})"
    if len(answer) > 200:
        program = f"import sys; sys.stdout.buffer.write({answer[:4]!r} + b'[' * {len(answer) - 4})"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    child = WorkerProcess(process)
    with pytest.raises(WorkerDied):
        await child.run({})
    child.kill()
    await child.wait_closed()


TRUE: dict[str, Any] = {"width": 9, "height": 9, "exifs": {}, "position": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"width": "9"},
        {"width": 10**9},
        {"exifs": []},
        {"position": [1]},
        {"position": "12"},
        {"position": [1, 181]},
        {"position": [float("nan"), 1]},
        {"position": ["x", 1]},
    ],
)
def test_facts_that_cannot_be_are_not_believed(changes: dict[str, Any]) -> None:
    assert decode_pool._parse_facts(TRUE, "jpg", 100, b"").width == 9
    with pytest.raises(decode_pool._MALFORMED):
        decode_pool._parse_facts(TRUE | changes, "jpg", 100, b"")


# Real photographs


def photographs() -> list[Any]:
    files = sorted(PHOTOS.iterdir()) if PHOTOS.is_dir() else []
    named = [
        (path, detect_format(path.read_bytes()[:MAGIC_BYTES])) for path in files if path.is_file()
    ]
    reason = f"no photographs in {PHOTOS}: name a folder in IMAGEAPI_TEST_PHOTOS"
    return [pytest.param(path, name, id=path.name) for path, name in named if name] or [
        pytest.param(PHOTOS, "", marks=pytest.mark.skip(reason=reason))
    ]


@pytest.mark.parametrize(("photograph", "format_"), photographs())
async def test_real_photographs_are_decoded(
    decoders: DecodePool, photograph: Path, format_: str
) -> None:
    facts = await decoders.inspect(photograph, format_, View(480))
    width, height = size(facts.mini)
    assert max(width, height) == min(480, max(facts.width, facts.height))
    assert width / height == pytest.approx(facts.width / facts.height, rel=0.02)
