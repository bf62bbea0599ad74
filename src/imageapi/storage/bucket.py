"""Pictures in a bucket of S3, Google Cloud Storage or Azure.

What comes is sent on in parts while it comes, and is there once the upload is completed; beside
that it is written to a local file, so that it can be looked at before.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.errors import ObjectNotFound, StoreUnavailable
from imageapi.storage.staging import (
    StagedFile,
    StoredObject,
    StoreWriter,
    discard,
    list_objects,
    remove_stale,
    run_in_disk_thread,
    translate_store_errors,
    validate_key,
)

if TYPE_CHECKING:  # obstore has them for type checkers only
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

_PART_BYTES = 5 * 1024**2  # the least that S3 takes
_PARTS_AT_ONCE = 2
_STREAMED_BYTES = 256 * 1024  # at least; what a socket gives at once comes on top
_SCRATCH = "imageapi-incoming-"
_MOST_RETRIES = 3


def client_options(deadlines: StoreDeadlines) -> "ClientConfig":
    """How obstore talks to a bucket.

    `timeout` would be for all of a stream, however slow its reader; what bounds a request is here.
    Plain HTTP is spoken only to an endpoint that says so.
    """
    return {
        "connect_timeout": timedelta(seconds=deadlines.connect_seconds),
        "read_timeout": timedelta(seconds=deadlines.write_seconds),
        "timeout": timedelta(days=1),
        "allow_http": True,
    }


def retry_options(deadlines: StoreDeadlines) -> "RetryConfig":
    """How often, and for how long, obstore sends a request again."""
    retry_timeout = timedelta(seconds=deadlines.retry_seconds)
    return {"max_retries": _MOST_RETRIES, "retry_timeout": retry_timeout}


class Bucket:
    """A store in a bucket, with a local folder for what is on its way."""

    def __init__(self, store: ObjectStore, scratch: Path, deadlines: StoreDeadlines) -> None:
        self._store = store
        self._scratch = scratch
        self._deadlines = deadlines

    @asynccontextmanager
    async def open_writer(self, key: str) -> AsyncIterator[StoreWriter]:
        """A picture on its way: thrown away at the end of the block, unless it was told `keep`."""
        async with self._staged() as staged, self._upload(validate_key(key)) as upload:
            yield StoreWriter(staged, self._deadlines.answer_seconds, upload.finish, upload.send)

    async def put(self, key: str, content: bytes) -> None:
        """Keep something small, whole or not at all."""
        async with self._translate_with_timeout():
            await self._store.put_async(validate_key(key), content, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """All of it."""
        async with self._translate_with_timeout(ObjectNotFound):
            found = await self._store.get_async(validate_key(key))
            return bytes(await found.bytes_async())

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `end`, in chunks."""
        options: GetOptions = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        async with self._translate_with_timeout(ObjectNotFound):
            found = await self._store.get_async(validate_key(key), options=options)
        chunks = found.stream(_STREAMED_BYTES)
        while True:
            async with self._translate_with_timeout():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def size(self, key: str) -> int:
        """How many bytes there are."""
        async with self._translate_with_timeout(ObjectNotFound):
            return (await self._store.head_async(validate_key(key)))["size"]

    async def delete(self, key: str) -> None:
        """Have nothing under the key; some buckets mind if nothing was."""
        with suppress(ObjectNotFound):
            async with self._translate_with_timeout(ObjectNotFound):
                await self._store.delete_async(validate_key(key))

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """What is kept, in no order."""
        return list_objects(self._store, prefix, self._deadlines.answer_seconds)

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """A file with what was downloaded, removed at the end of the block."""
        async with self._staged() as staged:
            async with aclosing(self.stream(key)) as chunks:
                async for chunk in chunks:
                    with translate_store_errors():
                        await self._in_thread(staged.write, chunk)
            yield staged.path

    async def sweep(self, older_than: timedelta) -> int:
        """Remove local files that were not written to for so long."""
        with translate_store_errors():
            return await self._in_thread(remove_stale, self._scratch, f"{_SCRATCH}*", older_than)

    @asynccontextmanager
    async def _staged(self) -> AsyncIterator[StagedFile]:
        staged = StagedFile(self._scratch / f"{_SCRATCH}{uuid4()}")
        try:
            with translate_store_errors():
                await self._in_thread(staged.open)
            yield staged
        finally:
            await discard(staged, self._deadlines.answer_seconds)

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncIterator["_Upload"]:
        upload = _Upload(self._store, key, self._deadlines)
        try:
            yield upload
        finally:
            await upload.abort()

    @asynccontextmanager
    async def _translate_with_timeout(
        self, missing: type[StoreUnavailable | ObjectNotFound] = StoreUnavailable
    ) -> AsyncIterator[None]:
        """A block in which the bucket answers in time; raises ``missing`` and StoreUnavailable."""
        with translate_store_errors(missing):
            async with asyncio.timeout(self._deadlines.answer_seconds):
                yield

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """What the work returns, which the local disk has to answer in time."""
        return await run_in_disk_thread(work, *arguments, seconds=self._deadlines.answer_seconds)


class _Upload:
    """What obstore sends on: at once if it is small, or else in parts."""

    def __init__(self, store: ObjectStore, key: str, deadlines: StoreDeadlines) -> None:
        self._deadlines = deadlines
        self._finishing = False
        self._writer = obstore.open_writer_async(
            store, key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )

    async def send(self, chunk: bytes) -> None:
        async with self._sending():
            await self._writer.write(chunk)

    async def finish(self) -> None:
        self._finishing = True
        async with self._sending():
            await self._writer.close()

    async def abort(self) -> None:
        """Give the parts up. obstore does so at the end of a block that raises."""
        if self._finishing:
            return
        with suppress(_Abandoned, BaseError, OSError):
            async with asyncio.timeout(self._deadlines.answer_seconds), self._writer:
                raise _Abandoned

    @asynccontextmanager
    async def _sending(self) -> AsyncIterator[None]:
        """A block in which a part is sent in time; raises StoreUnavailable."""
        with translate_store_errors():
            async with asyncio.timeout(self._deadlines.write_seconds):
                yield


class _Abandoned(Exception):
    """Nobody told the upload to be kept."""
