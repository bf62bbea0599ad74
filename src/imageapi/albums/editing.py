"""Changes that people make to the images of an album."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from imageapi.albums.errors import PictureThere, UnfitChange
from imageapi.albums.geometry import edited
from imageapi.albums.rendering import Rendering
from imageapi.database.changes import AlbumChange, changing
from imageapi.database.engine import Database
from imageapi.database.errors import ImageChanged, ImageNotFound
from imageapi.database.repository import StoredImage
from imageapi.records.image import Image
from imageapi.records.values import MOST_TAGS

#: Versions of an image that a change is made for; None where it is made for any.
Versions = Collection[int] | None

#: What people change of an image, as events tell it.
_CHANGEABLE = ("rotation", "crop_x", "crop_y", "crop_w", "crop_h", "gps_html")


@dataclass(frozen=True, slots=True)
class Changed:
    """How many images a change was for in the end, and the album's version after it."""

    version: int
    images: int


class Editor:
    """Changes images of one album on behalf of ``user_id``.

    Each method is one transaction, and one event where anything changes. They raise ImageNotFound
    for what the album has not or only in its trash, ImageChanged where the image's version is not
    among those the change is for, and DatabaseAway.
    """

    def __init__(
        self, database: Database, rendering: Rendering, album_id: str, user_id: str | None
    ) -> None:
        self._database = database
        self._rendering = rendering
        self.album_id = album_id
        self._user_id = user_id

    async def tag(self, public_id: UUID, tag: str, versions: Versions) -> StoredImage:
        """Give the image a tag, behind those it has; raises UnfitChange."""
        return await self._one(
            "tag", public_id, versions, lambda image: self._tag(image, [tag], "tag")
        )

    async def untag(self, public_id: UUID, tag: str, versions: Versions) -> StoredImage:
        """Take a tag away from the image."""
        return await self._one("tag", public_id, versions, lambda image: _untag(image, [tag]))

    async def tag_many(
        self, public_ids: Sequence[UUID], add: Sequence[str], remove: Sequence[str]
    ) -> Changed:
        """Take tags away from images and give them others: all of them, or none."""

        def edit(image: Image) -> None:
            _untag(image, remove)
            self._tag(image, add, "add")

        async with self._changing() as change:
            images = await change.images(list(dict.fromkeys(public_ids)))
            count = await self._edit("tag", change, images, edit)
            return Changed(change.version if count else change.version - 1, count)

    async def edit(
        self, public_id: UUID, changes: Mapping[str, Any], versions: Versions
    ) -> StoredImage:
        """Rotate, crop, place: `edited` says how; raises UnfitChange."""
        return await self._one("update", public_id, versions, lambda image: edited(image, changes))

    async def delete(self, public_id: UUID, versions: Versions) -> None:
        """Put the image into the trash."""
        async with self._changing() as change:
            image = (await change.images([public_id]))[0]
            _require(image, versions)
            await _mark(change, "delete", public_id, datetime.now(UTC))

    async def restore(self, public_id: UUID, versions: Versions) -> StoredImage:
        """Take the image out of the trash, if it is there; raises PictureThere."""
        async with self._changing() as change:
            image = await change.find(public_id)
            if image is None:
                raise ImageNotFound
            _require(image, versions)
            if image.deleted_at is None:
                return image
            same = image.digest and await change.find_by_digest(image.digest)
            if same:
                raise PictureThere(same.public_id)
            await _mark(change, "restore", public_id, None)
            return (await change.images([public_id]))[0]

    def _changing(self) -> AbstractAsyncContextManager[AlbumChange]:
        return changing(self._database, self.album_id, self._user_id)

    def _tag(self, image: Image, tags: Sequence[str], field: str) -> None:
        """Add the tags that the image does not have; the album's id is none that people give."""
        if self.album_id in tags:
            raise UnfitChange(field, "must not be the album's id")
        image.infos.tags = list(dict.fromkeys([*image.infos.tags, *tags]))
        if len(image.tags) > MOST_TAGS:
            raise UnfitChange(field, f"would be more than {MOST_TAGS} on image {image.public_id}")

    async def _one(
        self, kind: str, public_id: UUID, versions: Versions, edit: Callable[[Image], None]
    ) -> StoredImage:
        async with self._changing() as change:
            images = await change.images([public_id])
            _require(images[0], versions)
            if await self._edit(kind, change, images, edit):
                images = await change.images([public_id])
            return images[0]

    async def _edit(
        self,
        kind: str,
        change: AlbumChange,
        images: Sequence[StoredImage],
        edit: Callable[[Image], None],
    ) -> int:
        """Edit the images, with one event for those that change; return how many do."""
        rows, before, after = [], {}, {}
        for stored in images:
            image = Image.model_validate_json(stored.record)
            was = _state(image)
            edit(image)
            now = _state(image)
            differing = [name for name, value in now.items() if value != was[name]]
            if differing:
                before[image.public_id] = {name: was[name] for name in differing}
                after[image.public_id] = {name: now[name] for name in differing}
                rows.append(self._row(stored, image))
        if rows:
            await change.update(rows)
            await change.note(kind, [row["public_id"] for row in rows], before, after)
        return len(rows)

    def _row(self, stored: StoredImage, image: Image) -> dict[str, Any]:
        latitude, longitude = image.gps or (None, None)
        return {
            "public_id": stored.public_id,
            "tags": image.tags,
            "latitude": latitude,
            "longitude": longitude,
            "record": self._rendering.text(image, stored.asset_key),
        }


def _state(image: Image) -> dict[str, Any]:
    return {"tags": image.tags, **{name: getattr(image, name) for name in _CHANGEABLE}}


def _untag(image: Image, tags: Sequence[str]) -> None:
    image.infos.tags = [
        image.album_id,
        *(tag for tag in image.tags if tag not in tags),
    ]


def _require(image: StoredImage, versions: Versions) -> None:
    if versions is not None and image.version not in versions:
        raise ImageChanged


async def _mark(
    change: AlbumChange, kind: str, public_id: UUID, deleted_at: datetime | None
) -> None:
    """Mark the image as deleted then, or as there where ``deleted_at`` is None."""
    is_deleted = deleted_at is not None
    await change.update([{"public_id": public_id, "deleted_at": deleted_at}])
    await change.note(
        kind,
        [public_id],
        {str(public_id): {"deleted": not is_deleted}},
        {str(public_id): {"deleted": is_deleted}},
    )
