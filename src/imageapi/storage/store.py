"""The interface of a store of pictures, and how to open one from its address.

Keys are this program's own, for example ``album/uuid/name.jpg``. What is under a key is always
complete: it is written elsewhere first and appears at once. If two writers use the same key at the
same time, one of them wins. Errors of disks and buckets become StoreUnavailable or ObjectNotFound.
"""

import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from obstore.exceptions import BaseError
from obstore.store import from_url

from imageapi.storage.bucket import Bucket, client_options, retry_options
from imageapi.storage.deadlines import StoreDeadlines
from imageapi.storage.errors import InvalidStore
from imageapi.storage.folder import Folder
from imageapi.storage.staging import KEY_PART, StoredObject, StoreWriter

__all__ = ["Store", "StoreWriter", "StoredObject", "open_store"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:.*", re.DOTALL)  # a drive of Windows is one letter
_BUCKET_URL = re.compile(rf"(?:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(?:/{KEY_PART})*/?")
_QUOTED = re.compile(r"""(["'`]).*\1""")


class Store(Protocol):
    """A folder or a bucket.

    Every method raises StoreUnavailable where the store misses one of the `StoreDeadlines`,
    refuses, or is full.
    """

    def open_writer(self, key: str) -> AbstractAsyncContextManager[StoreWriter]:
        """Yield a writer; the picture is discarded when the block ends without a commit."""

    async def put(self, key: str, content: bytes) -> None:
        """Store something small, whole or not at all. It is durable on return."""

    async def get(self, key: str) -> bytes:
        """Return the whole content of something small. Raises ObjectNotFound."""

    def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to, not including, ``end``, in chunks of at most 1 MiB.

        ``start`` is 0 or within the content, and ``end`` is greater. Raises ObjectNotFound at the
        first chunk.
        """

    async def size(self, key: str) -> int:
        """Return the size in bytes. Raises ObjectNotFound."""

    async def delete(self, key: str) -> None:
        """Delete the object if it exists."""

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Yield the stored objects, in no order.

        The prefix is whole parts of keys: ``a/b`` does not match ``a/bc``.
        """

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Yield the path of a file with the content, valid within the block.

        Do not change the file: it may be the stored one. Raises ObjectNotFound.
        """

    async def sweep(self, older_than: timedelta) -> int:
        """Remove unfinished files that killed processes left on this machine; return how many.

        Unfinished uploads in a bucket are not removed here. A lifecycle rule of the bucket does
        that, for example ``AbortIncompleteMultipartUpload`` of S3.
        """


def open_store(
    address: str | Path, scratch: Path | None = None, deadlines: StoreDeadlines | None = None
) -> Store:
    """Return the store at the address: a folder, or a URL with s3://, gs:// or az://.

    A missing folder is created. A bucket is not contacted; its credentials, endpoint and region
    come from the usual environment variables. ``scratch`` is the folder for temporary files on the
    way to and from a bucket, by default the system's. Raises InvalidStore.
    """
    deadlines = deadlines or StoreDeadlines()
    if isinstance(address, str) and _URL.fullmatch(address):
        return _open_bucket(address, scratch or Path(tempfile.gettempdir()), deadlines)
    if not str(address):
        raise InvalidStore("is empty")
    return _open_folder(Path(address), deadlines)


def _open_folder(path: Path, deadlines: StoreDeadlines) -> Folder:
    try:
        return Folder(path.expanduser().absolute(), deadlines)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidStore(f"is no folder that can be used: {path}: {reason}") from error


def _open_bucket(url: str, scratch: Path, deadlines: StoreDeadlines) -> Bucket:
    if not _BUCKET_URL.fullmatch(url):
        raise InvalidStore(
            "must be a folder, or s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, "
            "without user, port, query and fragment"
        )
    try:
        store = from_url(
            url, client_options=client_options(deadlines), retry_config=retry_options(deadlines)
        )
    except (BaseError, OSError, ValueError) as error:
        reason = _QUOTED.sub("…", str(error).partition("\n")[0])  # it may quote a secret
        raise InvalidStore(f"is no bucket that can be used: {url}: {reason}") from None
    return Bucket(store, scratch, deadlines)
