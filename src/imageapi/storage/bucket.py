"""Stores pictures in a bucket of S3, Google Cloud Storage or Azure.

A picture is sent to the bucket in parts while it comes in, and exists there once the upload is
completed. It is also written to a local file, so that it can be decoded before it is stored.
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

if TYPE_CHECKING:  # obstore defines these for type checkers only
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

_PART_BYTES = 5 * 1024**2  # the smallest part that S3 accepts
_MAX_CONCURRENT_PARTS = 2
_MIN_CHUNK_BYTES = 256 * 1024  # obstore adds what the socket returns at once
_SCRATCH_PREFIX = "imageapi-incoming-"
_MAX_RETRIES = 3


def client_options(deadlines: StoreDeadlines) -> "ClientConfig":
    """Return the options of obstore's HTTP client.

    ``timeout`` is a day, because it would end a whole stream, also one whose reader is slow. The
    methods of `Bucket` have a deadline for each request instead. Plain HTTP is used only where the
    address of the endpoint says so.
    """
    return {
        "connect_timeout": timedelta(seconds=deadlines.connect_seconds),
        "read_timeout": timedelta(seconds=deadlines.write_seconds),
        "timeout": timedelta(days=1),
        "allow_http": True,
    }


def retry_options(deadlines: StoreDeadlines) -> "RetryConfig":
    """Return how often, and for how long, obstore sends a failed request again."""
    retry_timeout = timedelta(seconds=deadlines.retry_seconds)
    return {"max_retries": _MAX_RETRIES, "retry_timeout": retry_timeout}


class Bucket:
    """A `Store` in a bucket. Local files in the folder ``scratch`` hold pictures temporarily."""

    def __init__(self, store: ObjectStore, scratch: Path, deadlines: StoreDeadlines) -> None:
        self._store = store
        self._scratch = scratch
        self._deadlines = deadlines

    @asynccontextmanager
    async def open_writer(self, key: str) -> AsyncIterator[StoreWriter]:
        """Yield a writer; the picture is discarded when the block ends without a commit."""
        validate_key(key)
        async with self._create_staged_file() as staged, self._start_upload(key) as upload:
            yield StoreWriter(staged, self._deadlines.response_seconds, upload.finish, upload.send)

    async def put(self, key: str, content: bytes) -> None:
        """Store something small, whole or not at all."""
        async with self._request():
            await self._store.put_async(validate_key(key), content, use_multipart=False)

    async def get(self, key: str) -> bytes:
        """Return the whole content. Raises ObjectNotFound."""
        async with self._request(ObjectNotFound):
            result = await self._store.get_async(validate_key(key))
            return bytes(await result.bytes_async())

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to, not including, ``end``. Raises ObjectNotFound."""
        options: GetOptions = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        async with self._request(ObjectNotFound):
            result = await self._store.get_async(validate_key(key), options=options)
        chunks = result.stream(_MIN_CHUNK_BYTES)
        while True:
            async with self._request():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def size(self, key: str) -> int:
        """Return the size in bytes. Raises ObjectNotFound."""
        async with self._request(ObjectNotFound):
            return (await self._store.head_async(validate_key(key)))["size"]

    async def delete(self, key: str) -> None:
        """Delete the object. Some buckets raise an error if there is none; it is ignored."""
        with suppress(ObjectNotFound):
            async with self._request(ObjectNotFound):
                await self._store.delete_async(validate_key(key))

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Yield the stored objects, in no order."""
        return list_objects(self._store, prefix, self._deadlines.response_seconds)

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """Download the content to a file, and remove the file when the block ends."""
        async with self._create_staged_file() as staged:
            async with aclosing(self.stream(key)) as chunks:
                async for chunk in chunks:
                    with translate_store_errors():
                        await self._run_in_thread(staged.write, chunk)
            yield staged.path

    async def sweep(self, older_than: timedelta) -> int:
        """Remove local files that were last written so long ago; return how many."""
        with translate_store_errors():
            pattern = f"{_SCRATCH_PREFIX}*"
            return await self._run_in_thread(remove_stale, self._scratch, pattern, older_than)

    @asynccontextmanager
    async def _create_staged_file(self) -> AsyncIterator[StagedFile]:
        staged = StagedFile(self._scratch / f"{_SCRATCH_PREFIX}{uuid4()}")
        try:
            with translate_store_errors():
                await self._run_in_thread(staged.open)
            yield staged
        finally:
            await discard(staged, self._deadlines.response_seconds)

    @asynccontextmanager
    async def _start_upload(self, key: str) -> AsyncIterator["_Upload"]:
        upload = _Upload(self._store, key, self._deadlines)
        try:
            yield upload
        finally:
            await upload.abort()

    @asynccontextmanager
    async def _request(
        self, missing: type[StoreUnavailable | ObjectNotFound] = StoreUnavailable
    ) -> AsyncIterator[None]:
        """Limit the time of the requests in the block, and translate their errors.

        Raises StoreUnavailable, and ``missing`` where the bucket has no such object.
        """
        with translate_store_errors(missing):
            async with asyncio.timeout(self._deadlines.response_seconds):
                yield

    async def _run_in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what ``work`` returns in a disk thread. Raises TimeoutError and its errors."""
        seconds = self._deadlines.response_seconds
        return await run_in_disk_thread(work, *arguments, seconds=seconds)


class _Upload:
    """Sends a picture to the bucket: in one request if it is small, else in parts."""

    def __init__(self, store: ObjectStore, key: str, deadlines: StoreDeadlines) -> None:
        self._deadlines = deadlines
        self._is_finishing = False
        self._writer = obstore.open_writer_async(
            store, key, buffer_size=_PART_BYTES, max_concurrency=_MAX_CONCURRENT_PARTS
        )

    async def send(self, chunk: bytes) -> None:
        """Send the next bytes. Raises StoreUnavailable."""
        async with self._request():
            await self._writer.write(chunk)

    async def finish(self) -> None:
        """Complete the upload: the object exists on return. Raises StoreUnavailable."""
        self._is_finishing = True
        async with self._request():
            await self._writer.close()

    async def abort(self) -> None:
        """Let the bucket delete the parts, unless the upload was finished.

        obstore has no method for that. It aborts the upload when a block of its writer raises.
        """
        if self._is_finishing:
            return
        with suppress(_Abandoned, BaseError, OSError):
            async with asyncio.timeout(self._deadlines.response_seconds), self._writer:
                raise _Abandoned

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        """Limit the time for one part, and translate errors. Raises StoreUnavailable."""
        with translate_store_errors():
            async with asyncio.timeout(self._deadlines.write_seconds):
                yield


class _Abandoned(Exception):
    """The upload was not committed."""
