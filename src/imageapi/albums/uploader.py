"""Photographs in: the picture first, its record after, and never a record without its picture."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from imageapi.albums.asset_paths import (
    BLANK,
    KEY_BYTES,
    ORIGINAL,
    build_rendition_name,
    build_store_key,
)
from imageapi.albums.backend import Backend
from imageapi.albums.errors import PublicIdTaken
from imageapi.albums.geometry import choose_position
from imageapi.albums.record_serializer import get_view
from imageapi.database.album_change import AlbumChange, album_change
from imageapi.database.images import Images, StoredImage
from imageapi.imaging.decode_pool import PictureFacts
from imageapi.imaging.errors import NotAPicture, PictureTooLarge
from imageapi.imaging.formats import MAGIC_BYTES, detect_format
from imageapi.imaging.views import View
from imageapi.metrics import UPLOADED_BYTES, UPLOADS, UPLOADS_UNDER_WAY
from imageapi.records.image import Image, Location
from imageapi.storage.errors import ObjectNotFound, StoreError, StoreUnavailable
from imageapi.storage.store import StoreWriter

Degrees = list[int | float]


@dataclass(frozen=True, slots=True)
class UploadFields:
    """What whoever adds a picture says of it. Positions are latitude and longitude in degrees."""

    public_id: UUID | None = None
    tags: Sequence[str] = ()
    location: Location | None = None
    gps_html: Degrees | None = None
    gps_ip: Degrees | None = None


@dataclass(frozen=True, slots=True)
class PictureContent:
    """What can be said of a picture's bytes without decoding them."""

    format: str
    length_bytes: int
    md5: str
    sha256: bytes


class UploadInProgress:
    """A picture on its way in: hashed, measured and recognised while it is written."""

    def __init__(self, incoming: StoreWriter, limit_bytes: int, picture: UUID) -> None:
        self.open_writer = incoming
        self.picture = picture
        self._limit_bytes = limit_bytes
        self._length_bytes = 0
        self._head = bytearray()
        self._format: str | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises PictureTooLarge, NotAPicture, StoreUnavailable."""
        self._length_bytes += len(chunk)
        if self._length_bytes > self._limit_bytes:
            raise PictureTooLarge(self._limit_bytes)
        if self._format is None:
            self._head += chunk[:MAGIC_BYTES]
            if len(self._head) >= MAGIC_BYTES:
                self._recognise()
        self._md5.update(chunk)
        self._sha256.update(chunk)
        await self.open_writer.write(chunk)

    def content(self) -> PictureContent:
        """What has come, now that all of it has; raises NotAPicture."""
        format_ = self._format or self._recognise()
        digest = self._sha256.digest()
        return PictureContent(format_, self._length_bytes, self._md5.hexdigest(), digest)

    def _recognise(self) -> str:
        self._format = detect_format(bytes(self._head))
        if self._format is None:
            raise NotAPicture
        return self._format


@dataclass(frozen=True, slots=True)
class Uploader:
    """Adds pictures to an album on behalf of ``user_id``; ``kind`` is that of its events."""

    backend: Backend
    album_id: str
    user_id: str | None
    kind: str = field(default="add")

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[UploadInProgress]:
        """A picture to be written and then added; thrown away where it is not."""
        picture = uuid4()
        key = build_store_key(self.album_id, picture, ORIGINAL)
        with UPLOADS_UNDER_WAY.track_inprogress():
            async with self.backend.store.open_writer(key) as incoming:
                yield UploadInProgress(incoming, self.backend.limits.max_bytes, picture)

    async def find(self, sha256: bytes) -> StoredImage | None:
        """The image of the album with this content, unless it is in the trash."""
        return await Images(self.backend.database).find_by_digest(self.album_id, sha256)

    async def add(
        self, arriving: UploadInProgress, given: UploadFields
    ) -> tuple[StoredImage, bool]:
        """The image of the picture, and whether it is new: the same one again is found instead.

        Raises NotAPicture, InvalidPicture, PublicIdTaken, StoreUnavailable, DatabaseUnavailable.
        """
        image, is_new = await self._added(arriving, given)
        UPLOADS.labels("added" if is_new else "there").inc()
        return image, is_new

    async def _added(
        self, arriving: UploadInProgress, given: UploadFields
    ) -> tuple[StoredImage, bool]:
        content = arriving.content()
        if (there := await self.find(content.sha256)) is not None:
            return there, False
        await arriving.open_writer.flush()
        edge = self.backend.serializer.sizes["mini"]
        facts = await self.backend.decoders.inspect(
            arriving.open_writer.path, content.format, View(edge)
        )
        await arriving.open_writer.commit()
        image = build_image(self.album_id, content, facts, given)
        return await self._record(arriving.picture, image, content, facts)

    async def _record(
        self, picture: UUID, image: Image, content: PictureContent, facts: PictureFacts
    ) -> tuple[StoredImage, bool]:
        """Write the record of a picture that is kept; let go of the picture if none comes of it.

        Where it stays unknown whether the record was written, the picture stays: an orphan can be
        removed later, a picture that is missing cannot be brought back.
        """
        backend = self.backend
        try:
            async with album_change(
                backend.database,
                self.album_id,
                self.user_id,
                serializer_name=backend.serializer.name,
            ) as change:
                there = await change.find_by_digest(content.sha256)
                if there is None:
                    await self._require_kept(picture)
                    added = await self._add(change, picture, image, content)
        except PublicIdTaken:
            await self._let_go(picture)
            raise
        if there is not None:
            await self._let_go(picture)
            return there, False
        UPLOADED_BYTES.inc(content.length_bytes)
        await self._keep_mini(picture, image, facts.mini)
        return added, True

    async def _require_kept(self, picture: UUID) -> None:
        """Raise StoreUnavailable if the picture is gone: a purge with a wrong clock took it."""
        try:
            await self.backend.store.size(build_store_key(self.album_id, picture, ORIGINAL))
        except ObjectNotFound:
            raise StoreUnavailable from None

    async def _let_go(self, picture: UUID) -> None:
        with suppress(StoreError):
            await self.backend.store.delete(build_store_key(self.album_id, picture, ORIGINAL))

    async def _keep_mini(self, picture: UUID, image: Image, mini: bytes) -> None:
        """Keep what was made as a proof; without it, it is made again when it is asked for."""
        view = get_view(image, self.backend.serializer.sizes["mini"])
        with suppress(StoreError):
            key = build_store_key(self.album_id, picture, build_rendition_name("mini", view))
            await self.backend.store.put(key, mini)

    async def _add(
        self, change: AlbumChange, picture: UUID, image: Image, content: PictureContent
    ) -> StoredImage:
        public_id = UUID(image.public_id)
        if await change.find_image(public_id) is not None:
            raise PublicIdTaken(public_id)
        asset_key = secrets.token_bytes(KEY_BYTES)
        await change.add_image(
            public_id=public_id,
            created_at=image.created_at,
            picture=picture,
            asset_key=asset_key,
            digest=content.sha256,
            **self.backend.serializer.build_columns(image, asset_key)._asdict(),
        )
        named = str(public_id)
        await change.record_event(
            self.kind, [public_id], {named: None}, {named: {"tags": image.tags}}
        )
        return (await change.get_images([public_id]))[0]


def build_image(
    album_id: str, content: PictureContent, facts: PictureFacts, given: UploadFields
) -> Image:
    """The image of a picture that has just come."""
    now = datetime.now(UTC)
    size = {"width": facts.width, "height": facts.height}
    infos = {
        "bytes": content.length_bytes,
        "created_at": now.isoformat(timespec="seconds"),
        "etag": content.md5,
        "format": facts.format,
        "resource_type": "image",
        "tags": list(dict.fromkeys([album_id, *given.tags])),
        "type": "private",
        **size,
    }
    if given.location is not None:
        infos["location"] = given.location
    return Image.model_validate(
        {
            "public_id": str(given.public_id or uuid4()),
            "infos": infos,
            "exifs": facts.exifs,
            "gps": choose_position(facts.position, given.gps_html, given.gps_ip),
            "gps_ip": given.gps_ip,
            "gps_exifs": facts.position,
            "gps_html": given.gps_html,
            "created_at": now.isoformat(timespec="milliseconds"),
            **size,
            "rotation": 0,
            **dict.fromkeys(("crop_x", "crop_y", "crop_w", "crop_h"), 0.0),
            "album_id": album_id,
            "thumbnails": dict.fromkeys(("full", "large", "mini"), BLANK),
        }
    )
