"""Where pictures are kept, the same for a folder and for a bucket on a real server."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep

import pytest

from imageapi.storage import staging
from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.errors import InvalidStore, ObjectNotFound, StoreUnavailable
from imageapi.storage.folder import Folder
from imageapi.storage.store import Store, open_store
from s3 import Bucket, s3_server

KEY = "album/7d1f0a52-41f8-4f0c-9a44-0f6d2f8a8f0e/original.jpg"
MIB = 1024**2
SMALL = b"small"
LARGE = bytes(range(256)) * (20 * MIB // 256)


class Place:
    """A store, and a look behind it."""

    def __init__(
        self,
        address: str | Path,
        scratch: Path,
        bucket: Bucket | None = None,
        deadlines: StoreDeadlines | None = None,
    ) -> None:
        self.address = address
        self.scratch = scratch
        self.bucket = bucket
        self.root = Path(address)
        self.store: Store = open_store(address, scratch, deadlines)

    async def keys(self, prefix: str = "") -> list[str]:
        return sorted([each.key async for each in self.store.list(prefix)])

    async def bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join([chunk async for chunk in self.store.stream(key, start, end)])

    def left_over(self) -> list[Path]:
        """Files on their way."""
        staging = self.scratch if self.bucket else self.root / ".incoming"
        return list(staging.iterdir())

    async def holds_nothing(self) -> bool:
        unfinished = self.bucket.unfinished() if self.bucket else 0
        return not await self.keys() and not self.left_over() and not unfinished

    def command(self, script: str) -> list[str]:
        """A program that has `store`, and runs `main`."""
        whole = f"""\
import asyncio, resource, signal, sys
from datetime import timedelta
from pathlib import Path
from imageapi.storage.errors import StoreUnavailable
from imageapi.storage.store import open_store
KEY, MIB = {KEY!r}, {MIB}
store = open_store(sys.argv[1], Path(sys.argv[2]))
{dedent(script)}
asyncio.run(main())
"""
        return [sys.executable, "-c", whole, str(self.address), str(self.scratch)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of the test's own, and the way to it in the environment."""
    bucket = Bucket(endpoint, f"b-{uuid.uuid4()}")
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


@pytest.fixture
def folder(tmp_path: Path, scratch: Path) -> Place:
    return Place(tmp_path / "pictures", scratch)


@pytest.fixture
def remote(bucket: Bucket, scratch: Path) -> Place:
    return Place(f"s3://{bucket.name}/below/here", scratch, bucket)


@pytest.fixture(params=["folder", "remote"])
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture
def hanging(tmp_path: Path, scratch: Path) -> Iterator[Place]:
    """A folder that does not answer when KEY is read: what is there waits to be written to."""
    deadlines = StoreDeadlines(response_seconds=1)
    folder = Place(tmp_path / "pictures", scratch, deadlines=deadlines)
    path = folder.root / KEY
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    yield folder
    stuck = True
    while stuck:  # let go of the threads
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            sleep(0.05)
        except OSError:
            stuck = False


async def test_folder_that_hangs_is_away_and_others_are_read(hanging: Place) -> None:
    """However many wait for it, and leave."""
    other = KEY.replace("original", "other")
    await hanging.store.put(other, SMALL)
    started = monotonic()
    asked = [
        asyncio.create_task(hanging.store.get(KEY)) for _ in range(staging.MAX_DISK_THREADS - 1)
    ]
    await asyncio.sleep(0.1)
    asked[0].cancel()
    assert await hanging.store.get(other) == SMALL
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in outcomes} == {asyncio.CancelledError, StoreUnavailable}
    assert monotonic() - started < 5
    assert await hanging.store.get(other) == SMALL


async def test_folder_that_hangs_holds_up_no_more_than_its_threads(hanging: Place) -> None:
    asked = [hanging.store.get(KEY) for _ in range(staging.MAX_DISK_THREADS + 5)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in outcomes} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await hanging.store.size(KEY)


async def test_what_is_put_is_there(place: Place) -> None:
    await place.store.put(KEY, SMALL)
    assert await place.store.get(KEY) == SMALL
    assert await place.store.size(KEY) == len(SMALL)
    [kept] = [each async for each in place.store.list()]
    assert (kept.key, kept.size_bytes) == (KEY, len(SMALL))
    assert abs(datetime.now(UTC) - kept.modified) < timedelta(minutes=1)
    assert not place.left_over()


async def test_empty_content_is_kept(place: Place) -> None:
    await place.store.put(KEY, b"")
    assert await place.store.get(KEY) == b""
    assert await place.bytes(KEY) == b""


async def test_what_is_put_later_wins(place: Place) -> None:
    await place.store.put(KEY, SMALL)
    await place.store.put(KEY, b"other")
    assert await place.store.get(KEY) == b"other"


async def test_contents_put_at_once_are_never_mixed(place: Place) -> None:
    contents = [bytes([number]) * 300_000 for number in range(10)]
    await place.store.put(KEY, contents[0])

    async def look() -> None:
        for _ in range(10):
            assert await place.store.get(KEY) in contents

    await asyncio.gather(look(), *(place.store.put(KEY, content) for content in contents))
    assert await place.store.get(KEY) in contents
    assert not place.left_over()


@pytest.mark.parametrize("key", [KEY, "album", "album/x"])
async def test_missing_key_raises_object_not_found(place: Place, key: str) -> None:
    await place.store.put("album/x/y", SMALL)
    with pytest.raises(ObjectNotFound):
        await place.store.get(key)
    with pytest.raises(ObjectNotFound):
        await place.store.size(key)
    with pytest.raises(ObjectNotFound):
        await place.bytes(key)
    with pytest.raises(ObjectNotFound):
        async with place.store.as_file(key):
            pass
    assert not place.left_over()


async def test_what_is_deleted_is_gone(place: Place) -> None:
    await place.store.put(KEY, SMALL)
    await place.store.delete(KEY)
    with pytest.raises(ObjectNotFound):
        await place.store.get(KEY)


async def test_deleting_nothing_is_fine(place: Place) -> None:
    await place.store.put("album/x", SMALL)
    await place.store.delete("album/y")
    await place.store.delete("nothing/at/all")
    assert await place.keys() == ["album/x"]


async def test_no_empty_folders_stay(folder: Place) -> None:
    await folder.store.put("album/x/a.jpg", SMALL)
    await folder.store.put("album/y/b.jpg", SMALL)
    await folder.store.delete("album/x/a.jpg")
    assert sorted(path.name for path in folder.root.rglob("*")) == [
        ".incoming",
        "album",
        "b.jpg",
        "y",
    ]


async def test_a_folder_removed_for_being_empty_is_made_again(folder: Place) -> None:
    async def churn(key: str) -> None:
        for _ in range(40):
            await folder.store.put(key, SMALL)
            await folder.store.delete(key)

    await asyncio.gather(*(churn(f"album/x/{number}") for number in range(6)))
    assert await folder.holds_nothing()


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 1), (5, None), (5, 10), (2 * MIB - 1, 5 * MIB + 1), (20 * MIB - 1, 21 * MIB)],
)
async def test_a_part_is_streamed(place: Place, start: int, end: int | None) -> None:
    await place.store.put(KEY, LARGE)
    assert await place.bytes(KEY, start, end) == LARGE[start:end]


async def test_chunks_are_bounded(place: Place) -> None:
    await place.store.put(KEY, LARGE)
    sizes = [len(chunk) async for chunk in place.store.stream(KEY)]
    assert max(sizes) <= MIB
    assert min(sizes) > 0


async def test_a_prefix_is_whole_parts(place: Place) -> None:
    for key in ("a/b/c", "a/b/d/e", "a/bc", "b"):
        await place.store.put(key, SMALL)
    assert await place.keys("a/b") == ["a/b/c", "a/b/d/e"]
    assert await place.keys("a/b/") == ["a/b/c", "a/b/d/e"]
    assert await place.keys("a") == ["a/b/c", "a/b/d/e", "a/bc"]
    assert await place.keys("c") == []


async def test_more_than_a_page_is_listed(folder: Place) -> None:
    (folder.root / "album").mkdir()
    for number in range(2500):
        (folder.root / "album" / str(number)).touch()
    assert len(set(await folder.keys())) == 2500


async def test_a_file_has_the_content(place: Place) -> None:
    await place.store.put(KEY, LARGE)
    async with place.store.as_file(KEY) as path:
        assert path.read_bytes() == LARGE
    assert path.exists() == (place.bucket is None)
    assert not place.left_over()


async def test_errors_of_the_caller_pass_through(place: Place) -> None:
    await place.store.put(KEY, SMALL)
    with pytest.raises(FileNotFoundError):
        async with place.store.as_file(KEY):
            raise FileNotFoundError
    with pytest.raises(FileNotFoundError):
        async with place.store.open_writer(KEY):
            raise FileNotFoundError
    assert not place.left_over()


async def test_an_upload_can_be_looked_at_and_is_then_kept(place: Place) -> None:
    async with place.store.open_writer(KEY) as incoming:
        for start in range(0, len(LARGE), 64 * 1024):
            await incoming.write(LARGE[start : start + 64 * 1024])
        await incoming.flush()
        assert incoming.path.read_bytes() == LARGE
        assert await place.keys() == []
        await incoming.commit()
        assert await place.keys() == [KEY]
    assert await place.bytes(KEY) == LARGE
    assert not place.left_over()


async def test_an_upload_is_sent_in_parts_while_it_comes(remote: Place, bucket: Bucket) -> None:
    async with remote.store.open_writer(KEY) as incoming:
        for start in range(0, len(LARGE), MIB):
            await incoming.write(LARGE[start : start + MIB])
        assert bucket.unfinished() == 1
        await incoming.commit()
    assert bucket.unfinished() == 0
    assert bucket.is_of_parts(f"below/here/{KEY}")


async def test_a_small_upload_is_sent_at_once(remote: Place, bucket: Bucket) -> None:
    async with remote.store.open_writer(KEY) as incoming:
        await incoming.write(SMALL)
        await incoming.commit()
    assert await remote.store.get(KEY) == SMALL
    assert not bucket.is_of_parts(f"below/here/{KEY}")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells its memory")
async def test_an_upload_takes_little_memory(place: Place) -> None:
    script = """
    def grown_to():  # ru_maxrss would begin with what the parent had
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    async def upload(count):
        async with store.open_writer(KEY) as incoming:
            for _ in range(count):
                await incoming.write(bytes(MIB))
            await incoming.commit()

    async def main():
        await upload(1)
        before = grown_to()
        await upload(100)
        print(grown_to() - before)
    """
    done = await asyncio.to_thread(
        subprocess.run, place.command(script), check=True, capture_output=True, timeout=60
    )
    assert int(done.stdout) < 40 * MIB


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["nothing", "small", "large"])
async def test_uncommitted_upload_is_discarded(place: Place, content: bytes) -> None:
    async with place.store.open_writer(KEY) as incoming:
        await incoming.write(content)
        await incoming.flush()
    assert await place.holds_nothing()


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["nothing", "small", "large"])
async def test_an_error_throws_everything_away(place: Place, content: bytes) -> None:
    async def upload() -> None:
        async with place.store.open_writer(KEY) as incoming:
            await incoming.write(content)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await upload()
    assert await place.holds_nothing()


async def test_cancelled_write_leaves_nothing(place: Place) -> None:
    for delay in (0, 0.001, 0.01, 0.05, 0.1):

        async def upload() -> None:
            async with place.store.open_writer(KEY) as incoming:
                while True:
                    await incoming.write(bytes(MIB))

        task = asyncio.create_task(upload())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await place.keys()
        assert not place.left_over()


async def test_cancelled_commit_leaves_all_or_nothing(place: Place) -> None:
    content = bytes(8 * MIB)
    for delay in (0, 0.001, 0.005, 0.02, 0.1):
        key = f"album/{delay}"

        async def upload(key: str) -> None:
            async with place.store.open_writer(key) as incoming:
                await incoming.write(content)
                await incoming.commit()

        task = asyncio.create_task(upload(key))
        await asyncio.sleep(delay)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not place.left_over()
    assert {each.size_bytes async for each in place.store.list()} <= {len(content)}


async def test_cancelled_put_leaves_all_or_nothing(place: Place) -> None:
    for delay in (0, 0.0001, 0.001, 0.01):
        task = asyncio.create_task(place.store.put(f"album/{delay}", bytes(MIB)))
        await asyncio.sleep(delay)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not place.left_over()
    assert {each.size_bytes async for each in place.store.list()} <= {MIB}


@pytest.mark.parametrize("way", ["put", "incoming"])
async def test_what_is_kept_survives_a_power_cut(
    folder: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (folder.root / KEY).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    if way == "put":
        await folder.store.put(KEY, SMALL)
    else:
        async with folder.store.open_writer(KEY) as incoming:
            await incoming.write(SMALL)
            await incoming.commit()
    target = folder.root / KEY
    folders = [target.parent, target.parent.parent, folder.root]
    assert synced == [
        (target.stat().st_ino, False),
        *((each.stat().st_ino, True) for each in folders),
    ]


async def test_what_a_killed_process_left_is_swept(place: Place) -> None:
    script = """
    async def main():
        async with store.open_writer(KEY) as incoming:
            for _ in range(7):
                await incoming.write(bytes(MIB))
            print("written", flush=True)
            await asyncio.sleep(60)
    """
    process = await asyncio.create_subprocess_exec(
        *place.command(script), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await place.keys() == []
    assert len(place.left_over()) == 1
    assert await place.store.sweep(timedelta(hours=1)) == 0
    assert await place.store.sweep(timedelta()) == 1
    assert not place.left_over()


async def test_what_others_have_in_the_scratch_folder_stays(remote: Place) -> None:
    (remote.scratch / "others").touch()
    assert await remote.store.sweep(timedelta()) == 0
    assert remote.left_over() == [remote.scratch / "others"]


async def test_full_disk_raises_and_leaves_nothing(place: Place) -> None:
    script = f"""
    async def tell(doing):
        try:
            await doing
        except StoreUnavailable:
            print("away", flush=True)

    async def upload():
        async with store.open_writer(KEY) as incoming:
            try:
                for _ in range(3):
                    await incoming.write(bytes(MIB))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                await incoming.commit()  # what is not whole cannot be kept

    async def main():
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + 1, resource.RLIM_INFINITY))
        if {place.bucket is None}:
            await tell(store.put(KEY, bytes(2 * MIB)))
        await tell(upload())
    """
    done = await asyncio.to_thread(
        subprocess.run, place.command(script), check=True, capture_output=True, timeout=60
    )
    assert done.stdout == (b"away\n" if place.bucket else b"away\naway\n")
    assert await place.holds_nothing()


def each_call(place: Place) -> list[Callable[[], Awaitable[object]]]:
    """Everything that asks the store."""

    async def upload() -> None:
        async with place.store.open_writer(KEY) as incoming:
            await incoming.write(SMALL)
            await incoming.commit()

    async def upload_much() -> None:
        async with place.store.open_writer(KEY) as incoming:
            for _ in range(20):
                await incoming.write(bytes(MIB))
            await incoming.commit()

    async def read_file() -> None:
        async with place.store.as_file(KEY):
            pass

    return [
        upload,
        upload_much,
        read_file,
        place.keys,
        lambda: place.store.put(KEY, SMALL),
        lambda: place.store.get(KEY),
        lambda: place.store.size(KEY),
        lambda: place.store.delete(KEY),
        lambda: place.bytes(KEY),
    ]


async def test_a_bucket_that_cannot_be_reached_is_away(
    bucket: Bucket, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    place = Place(f"s3://{bucket.name}", scratch, bucket)
    began = monotonic()
    outcomes = await asyncio.gather(*(call() for call in each_call(place)), return_exceptions=True)
    assert monotonic() - began < 15
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * len(outcomes)
    assert not place.left_over()


async def test_a_bucket_that_does_not_exist_takes_nothing(remote: Place) -> None:
    place = Place("s3://no-such-bucket", remote.scratch, remote.bucket)
    for call in each_call(place)[:2]:
        with pytest.raises(StoreUnavailable):
            await call()
    with pytest.raises(StoreUnavailable):
        await place.store.put(KEY, SMALL)
    assert not place.left_over()


async def test_a_folder_that_is_gone_is_away_and_is_not_made_again(folder: Place) -> None:
    """As when its disk is not mounted: then nothing is lost, and nothing may be put there."""
    await folder.store.put(KEY, SMALL)
    folder.root.rename(folder.root.with_name("elsewhere"))
    for call in each_call(folder):
        with pytest.raises(StoreUnavailable):
            await call()
    assert not folder.root.exists()
    folder.root.with_name("elsewhere").rename(folder.root)
    assert await folder.store.get(KEY) == SMALL


async def test_only_this_user_sees_the_pictures(folder: Place) -> None:
    await folder.store.put(KEY, SMALL)
    for path in (folder.root, *folder.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_of_the_operators_is_taken_as_it_is(tmp_path: Path, scratch: Path) -> None:
    tmp_path.chmod(0o750)
    assert isinstance(open_store(str(tmp_path)), Folder)
    assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_a_folder_that_cannot_be_made_is_unfit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidStore, match=r"^is no folder .*/file/pictures: Not a directory$"):
        open_store(tmp_path / "file" / "pictures")


def test_a_folder_that_cannot_be_written_is_unfit(folder: Place, tmp_path: Path) -> None:
    script = """
    import os
    os.chdir(sys.argv[1])
    if os.geteuid() == 0:
        os.setuid(65534)  # root may write everywhere
    try:
        from imageapi.storage.deadlines import StoreDeadlines
        from imageapi.storage.folder import Folder
        Folder(Path("."), StoreDeadlines())
    except OSError as error:
        print(error.strerror)

    async def main():
        pass
    """
    folder.root.chmod(0o555)
    done = subprocess.run(folder.command(script), check=True, capture_output=True, timeout=60)
    folder.root.chmod(0o700)
    assert done.stdout == b"Permission denied\n"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "s3://",
        "s3:///prefix",
        "s3:bucket",
        "s3://bucket/../other",
        "s3://bucket//prefix",
        "s3://somebody:secret@bucket/prefix",
        "s3://bucket/prefix?token=secret",
        "s3://bucket/prefix#secret",
        "s3://bucket/a\nsecret",
        "s3a://bucket",
        "https://example.com/bucket",
        "file:///pictures",
        "memory:///",
        "az://container",
        "gs://bucket",
    ],
)
def test_an_address_that_cannot_be_used_is_unfit(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '"secret"')
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidStore) as caught:
        open_store(address)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_clouds_are_opened_without_being_asked(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    for address in ("s3://bucket/prefix/", "gs://bucket", "az://container/prefix"):
        open_store(address, scratch)


@pytest.mark.parametrize(
    "key", ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a b", "é", "a\n", ".incoming/a"]
)
async def test_a_key_that_leads_elsewhere_is_a_mistake(place: Place, key: str) -> None:
    with pytest.raises(AssertionError):
        await place.store.put(key, SMALL)
    with pytest.raises(AssertionError):
        await place.store.get(key)
    with pytest.raises(AssertionError):
        async with place.store.open_writer(key):
            pass
