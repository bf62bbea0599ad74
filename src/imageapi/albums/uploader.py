"""Adds pictures to albums: first the picture is stored, then its record is written.

So no record is ever without its picture.
"""

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
    """What the sender says about a picture. Positions are latitude and longitude in degrees."""

    public_id: UUID | None = None
    tags: Sequence[str] = ()
    location: Location | None = None
    gps_html: Degrees | None = None
    gps_ip: Degrees | None = None


@dataclass(frozen=True, slots=True)
class PictureContent:
    """What is known of a picture's bytes without decoding them."""

    format: str
    length_bytes: int
    md5: str
    sha256: bytes


class UploadInProgress:
    """A picture that is being received. It is measured, hashed and recognised while it is written.

    ``picture`` is the id under which the store will have it.
    """

    def __init__(self, writer: StoreWriter, limit_bytes: int, picture: UUID) -> None:
        self.writer = writer
        self.picture = picture
        self._limit_bytes = limit_bytes
        self._length_bytes = 0
        self._head = bytearray()
        self._format: str | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    async def write(self, chunk: bytes) -> None:
        """Write the next bytes. Raises PictureTooLarge, NotAPicture and StoreUnavailable."""
        self._length_bytes += len(chunk)
        if self._length_bytes > self._limit_bytes:
            raise PictureTooLarge(self._limit_bytes)
        if self._format is None:
            self._head += chunk[:MAGIC_BYTES]
            if len(self._head) >= MAGIC_BYTES:
                self._detect_format()
        self._md5.update(chunk)
        self._sha256.update(chunk)
        await self.writer.write(chunk)

    def get_content(self) -> PictureContent:
        """Return what is known of the content, after all of it was written. Raises NotAPicture."""
        format_ = self._format or self._detect_format()
        digest = self._sha256.digest()
        return PictureContent(format_, self._length_bytes, self._md5.hexdigest(), digest)

    def _detect_format(self) -> str:
        self._format = detect_format(bytes(self._head))
        if self._format is None:
            raise NotAPicture
        return self._format


@dataclass(frozen=True, slots=True)
class Uploader:
    """Adds pictures to an album on behalf of ``user_id``. ``kind`` is the kind of its events."""

    backend: Backend
    album_id: str
    user_id: str | None
    kind: str = field(default="add")

    @asynccontextmanager
    async def start_upload(self) -> AsyncIterator[UploadInProgress]:
        """Yield an upload: write the picture to it, then `add` it.

        The picture is discarded when the block ends without that. Raises StoreUnavailable.
        """
        picture = uuid4()
        key = build_store_key(self.album_id, picture, ORIGINAL)
        with UPLOADS_UNDER_WAY.track_inprogress():
            async with self.backend.store.open_writer(key) as writer:
                yield UploadInProgress(writer, self.backend.limits.max_bytes, picture)

    async def find_by_digest(self, sha256: bytes) -> StoredImage | None:
        """Return the album's image with this content; None if there is none, or in the trash."""
        return await Images(self.backend.database).find_by_digest(self.album_id, sha256)

    async def add(self, upload: UploadInProgress, fields: UploadFields) -> tuple[StoredImage, bool]:
        """Add the picture; return its image, and whether it is new.

        If the album has the same picture already, return that image. Raises NotAPicture,
        InvalidPicture, PublicIdTaken, DecodersBusy, StoreUnavailable and DatabaseUnavailable.
        """
        image, is_new = await self._find_or_add(upload, fields)
        UPLOADS.labels("added" if is_new else "there").inc()
        return image, is_new

    async def _find_or_add(
        self, upload: UploadInProgress, fields: UploadFields
    ) -> tuple[StoredImage, bool]:
        content = upload.get_content()
        if (existing := await self.find_by_digest(content.sha256)) is not None:
            return existing, False
        await upload.writer.flush()
        edge = self.backend.serializer.sizes["mini"]
        facts = await self.backend.decoders.inspect(
            upload.writer.path, content.format, View(edge), tenant=self.album_id
        )
        await upload.writer.commit()
        image = build_image(self.album_id, content, facts, fields)
        return await self._write_record(upload.picture, image, content, facts)

    async def _write_record(
        self, picture: UUID, image: Image, content: PictureContent, facts: PictureFacts
    ) -> tuple[StoredImage, bool]:
        """Insert the record of a stored picture; delete the picture if the insert is refused.

        If we cannot know whether the commit succeeded, keep the picture: `purge` removes orphans,
        but a lost original is lost.
        """
        backend = self.backend
        try:
            async with album_change(
                backend.database,
                self.album_id,
                self.user_id,
                serializer_name=backend.serializer.name,
            ) as change:
                existing = await change.find_by_digest(content.sha256)
                if existing is None:
                    await self._require_stored(picture)
                    added = await self._insert_image(change, picture, image, content)
        except PublicIdTaken:
            await self._delete_original(picture)
            raise
        if existing is not None:
            await self._delete_original(picture)
            return existing, False
        UPLOADED_BYTES.inc(content.length_bytes)
        await self._store_mini(picture, image, facts.mini)
        return added, True

    async def _require_stored(self, picture: UUID) -> None:
        """Raise StoreUnavailable if the picture is gone: a `purge` with a wrong clock took it."""
        try:
            await self.backend.store.size(build_store_key(self.album_id, picture, ORIGINAL))
        except ObjectNotFound:
            raise StoreUnavailable from None

    async def _delete_original(self, picture: UUID) -> None:
        with suppress(StoreError):
            await self.backend.store.delete(build_store_key(self.album_id, picture, ORIGINAL))

    async def _store_mini(self, picture: UUID, image: Image, mini: bytes) -> None:
        """Store the rendition that `inspect` made. If that fails, it is made again when needed."""
        view = get_view(image, self.backend.serializer.sizes["mini"])
        with suppress(StoreError):
            key = build_store_key(self.album_id, picture, build_rendition_name("mini", view))
            await self.backend.store.put(key, mini)

    async def _insert_image(
        self, change: AlbumChange, picture: UUID, image: Image, content: PictureContent
    ) -> StoredImage:
        public_id = UUID(image.public_id)
        if (other := await change.find_image(public_id)) is not None:
            raise PublicIdTaken(public_id, is_in_trash=other.deleted_at is not None)
        asset_key = secrets.token_bytes(KEY_BYTES)
        await change.add_image(
            public_id=public_id,
            created_at=image.created_at,
            picture=picture,
            asset_key=asset_key,
            digest=content.sha256,
            **self.backend.serializer.build_columns(image, asset_key)._asdict(),
        )
        name = str(public_id)
        await change.record_event(
            self.kind, [public_id], {name: None}, {name: {"tags": image.tags}}
        )
        return (await change.get_images([public_id]))[0]


def build_image(
    album_id: str, content: PictureContent, facts: PictureFacts, fields: UploadFields
) -> Image:
    """Return the image of a new picture. Its moment of creation is now."""
    now = datetime.now(UTC)
    size = {"width": facts.width, "height": facts.height}
    infos = {
        "bytes": content.length_bytes,
        "created_at": now.isoformat(timespec="seconds"),
        "etag": content.md5,
        "format": facts.format,
        "resource_type": "image",
        "tags": list(dict.fromkeys([album_id, *fields.tags])),
        "type": "private",
        **size,
    }
    if fields.location is not None:
        infos["location"] = fields.location
    return Image.model_validate(
        {
            "public_id": str(fields.public_id or uuid4()),
            "infos": infos,
            "exifs": facts.exifs,
            "gps": choose_position(facts.position, fields.gps_html, fields.gps_ip),
            "gps_ip": fields.gps_ip,
            "gps_exifs": facts.position,
            "gps_html": fields.gps_html,
            "created_at": now.isoformat(timespec="milliseconds"),
            **size,
            "rotation": 0,
            **dict.fromkeys(("crop_x", "crop_y", "crop_w", "crop_h"), 0.0),
            "album_id": album_id,
            "thumbnails": dict.fromkeys(("full", "large", "mini"), BLANK),
        }
    )
