"""Pictures out: renditions made when they are first asked for, kept, and made once."""

import asyncio
from contextlib import suppress
from functools import partial

from imageapi.albums.asset_paths import ORIGINAL, build_store_key
from imageapi.albums.backend import Backend
from imageapi.database.images import StoredImage
from imageapi.imaging.errors import DecodeFailed, DecodersBusy, InvalidPicture
from imageapi.imaging.views import View
from imageapi.metrics import RENDITIONS
from imageapi.single_flight import SingleFlight
from imageapi.storage.errors import ObjectNotFound, StoreError

#: So many renditions are made at once at most: each holds a connection to the database.
MAX_CONCURRENT_RENDITIONS = 2


class Renditions:
    """Shows views of pictures; of several who ask for the same one, one makes it.

    One may take ``seconds``, with the wait for a turn, and for what the store gives.
    """

    def __init__(self, backend: Backend, seconds: float) -> None:
        self._backend = backend
        self._seconds = seconds
        self._turns = asyncio.Semaphore(MAX_CONCURRENT_RENDITIONS)
        self._making = SingleFlight[str, bytes]()

    async def show(self, album_id: str, image: StoredImage, name: str, view: View) -> bytes:
        """The JPEG of this view; empty where it cannot be made.

        Raises ObjectNotFound for an image without a picture, StoreUnavailable, DecodersBusy and
        DatabaseUnavailable.
        """
        if image.picture is None:
            raise ObjectNotFound
        key = build_store_key(album_id, image.picture, name)
        try:
            return await self._backend.store.get(key)
        except ObjectNotFound:
            original = build_store_key(album_id, image.picture, ORIGINAL)
            make = partial(self._make, key, original, image.format, view)
            return await self._making.run(key, make)

    async def close(self) -> None:
        """Let what is being made be done."""
        await self._making.wait_until_idle()

    async def _make(self, key: str, original: str, format_: str, view: View) -> bytes:
        """Make and keep the rendition, unless another worker has meanwhile."""
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._turns,
                self._backend.database.advisory_lock(key),
            ):
                try:
                    return await self._backend.store.get(key)
                except ObjectNotFound:
                    rendition = await self._rendered(original, format_, view)
                    with suppress(StoreError):  # full, say: then it is made again the next time
                        await self._backend.store.put(key, rendition)
                    return rendition
        except TimeoutError:
            raise DecodersBusy from None

    async def _rendered(self, original: str, format_: str, view: View) -> bytes:
        """The rendition; empty, and so kept, where it would not be fit the next time either."""
        async with self._backend.store.as_file(original) as path:
            try:
                rendition = await self._backend.decoders.render(path, format_, view)
            except DecodeFailed:  # it was, when it came
                raise DecodersBusy from None
            except InvalidPicture:
                rendition = b""
        RENDITIONS.labels("made" if rendition else "unfit").inc()
        return rendition
