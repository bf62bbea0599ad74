"""Where pictures are kept: a folder, or a bucket of S3, Google Cloud Storage or Azure.

Keys are this service's own, such as ``album/uuid/name.jpg``. What is under a key is whole: it comes
there at once, after it was written elsewhere, and of two that come at the same time one wins.
Whatever a disk or a bucket may raise comes out as StoreUnavailable or ObjectNotFound.
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
_BUCKET = re.compile(rf"(?:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(?:/{KEY_PART})*/?")
_QUOTED = re.compile(r"""(["'`]).*\1""")


class Store(Protocol):
    """A folder or a bucket.

    Every method raises StoreUnavailable where the store misses one of the `StoreDeadlines`,
    refuses or is full.
    """

    def open_writer(self, key: str) -> AbstractAsyncContextManager[StoreWriter]:
        """A picture on its way: thrown away at the end of the block, unless it was told `keep`."""

    async def put(self, key: str, content: bytes) -> None:
        """Keep something small, whole or not at all. It is durable on return."""

    async def get(self, key: str) -> bytes:
        """All of something small. Raises ObjectNotFound."""

    def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `end`, in chunks of at most 1 MiB.

        `start` is 0 or within the content, `end` after it. Raises ObjectNotFound at the first
        chunk.
        """

    async def size(self, key: str) -> int:
        """How many bytes there are. Raises ObjectNotFound."""

    async def delete(self, key: str) -> None:
        """Have nothing under the key, also where nothing was."""

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """What is kept, in no order. The prefix is whole parts: ``a/b`` is none of ``a/bc``."""

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A file with the content, to be read within the block and not changed.

        Raises ObjectNotFound.
        """

    async def sweep(self, older_than: timedelta) -> int:
        """Remove what killed processes left half written on this machine; how many there were.

        Parts that they left in a bucket are for a lifecycle rule of the bucket, such as S3's
        ``AbortIncompleteMultipartUpload``.
        """


def open_store(
    address: str | Path, scratch: Path | None = None, deadlines: StoreDeadlines | None = None
) -> Store:
    """The store in a folder, made where it is missing, or at s3://, gs:// or az://.

    A bucket's credentials, endpoint and region are those of the usual environment variables. It is
    not contacted here. `scratch` is a folder for files on their way to or from a bucket, by default
    the system's for temporary files. Raises InvalidStore.
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
    if not _BUCKET.fullmatch(url):
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
