"""Makes renditions when they are first requested, and stores them.

If several requests need the same rendition at once, it is made once.
"""

import asyncio
from contextlib import suppress
from functools import partial

from imageapi.albums.asset_paths import ORIGINAL, build_store_key
from imageapi.albums.backend import Backend
from imageapi.database.images import StoredImage
from imageapi.fair_slots import FairSlots
from imageapi.imaging.errors import DecodeFailed, DecodersBusy, PictureError
from imageapi.imaging.views import View
from imageapi.metrics import RENDITIONS
from imageapi.single_flight import SingleFlight
from imageapi.storage.errors import ObjectNotFound, StoreError

#: How many renditions are made at the same time, and one more for an album that makes none. Each
#: holds a connection to the database.
MAX_CONCURRENT_RENDITIONS = 2


class Renditions:
    """Returns views of pictures, from the store or newly made.

    Requests for the same view share one making of it, also between processes and machines. It may
    take ``seconds``, including the waits for a slot, for other processes and for the store.
    """

    def __init__(self, backend: Backend, seconds: float) -> None:
        self._backend = backend
        self._seconds = seconds
        self._slots = FairSlots(MAX_CONCURRENT_RENDITIONS, extra=1)
        self._flights = SingleFlight[str, bytes]()

    async def get(self, album_id: str, image: StoredImage, name: str, view: View) -> bytes:
        """Return the JPEG of this view; it is empty where the picture cannot be decoded.

        Raises ObjectNotFound for an image without a picture, DecodersBusy where it was not made in
        time or its decoder died, StoreUnavailable and DatabaseUnavailable.
        """
        if image.picture is None:
            raise ObjectNotFound
        key = build_store_key(album_id, image.picture, name)
        try:
            return await self._backend.store.get(key)
        except ObjectNotFound:
            original = build_store_key(album_id, image.picture, ORIGINAL)
            make = partial(self._make, album_id, key, original, image.format, view)
            return await self._flights.run(key, make)

    async def close(self) -> None:
        """Wait until the renditions that are being made are done."""
        await self._flights.wait_until_idle()

    async def _make(
        self, album_id: str, key: str, original: str, format_: str, view: View
    ) -> bytes:
        """Make and store the rendition, unless another process has done so meanwhile."""
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._slots.hold(album_id),
                self._backend.database.advisory_lock(key),
            ):
                try:
                    return await self._backend.store.get(key)
                except ObjectNotFound:
                    rendition = await self._render(album_id, original, format_, view)
                    with suppress(StoreError):  # for example full: it is made again next time
                        await self._backend.store.put(key, rendition)
                    return rendition
        except TimeoutError:
            raise DecodersBusy from None

    async def _render(self, album_id: str, original: str, format_: str, view: View) -> bytes:
        """Return the rendition, empty for a picture that cannot be decoded.

        The empty one is stored as well, because another try would fail in the same way. Raises
        DecodersBusy where the decoder died or took too long: another try may succeed.
        """
        async with self._backend.store.as_file(original) as path:
            try:
                rendition = await self._backend.decoders.render(
                    path, format_, view, tenant=album_id
                )
            except DecodeFailed:  # its upload was decoded, so the picture is probably not the cause
                raise DecodersBusy from None
            except PictureError:  # as for raw files, which older versions took for TIFFs
                rendition = b""
        RENDITIONS.labels("made" if rendition else "unfit").inc()
        return rendition
