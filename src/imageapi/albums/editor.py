"""Changes that people make to the images of an album: tags, rotation, crop, position, trash."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from imageapi.albums.errors import DuplicatePicture, InvalidChange
from imageapi.albums.geometry import apply_changes
from imageapi.albums.record_serializer import RecordSerializer
from imageapi.database.album_change import AlbumChange, album_change
from imageapi.database.engine import Database
from imageapi.database.errors import ImageChanged, ImageNotFound
from imageapi.database.images import StoredImage
from imageapi.records.fields import MAX_TAGS
from imageapi.records.image import Image
from imageapi.records.tags import InvalidTag, TooManyTags, add_tags, require_not_album_id

#: The versions of an image for which a change is allowed; None allows any.
ExpectedVersions = Collection[int] | None

#: What people can change of an image besides its tags. Events list these.
_CHANGEABLE_FIELDS = ("rotation", "crop_x", "crop_y", "crop_w", "crop_h", "gps_html")


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The album's version after a change, and how many images it changed."""

    version: int
    images: int


class Editor:
    """Changes images of one album on behalf of ``user_id``.

    Each method is one transaction, and records one event if anything changes. It raises
    ImageNotFound for an image that the album does not have or has in its trash, ImageChanged where
    the image's version is none of ``versions``, and DatabaseUnavailable.
    """

    def __init__(
        self, database: Database, serializer: RecordSerializer, album_id: str, user_id: str | None
    ) -> None:
        self._database = database
        self._serializer = serializer
        self.album_id = album_id
        self._user_id = user_id

    async def tag(self, public_id: UUID, tag: str, versions: ExpectedVersions) -> StoredImage:
        """Add a tag behind those that the image has. Raises InvalidChange."""
        return await self._edit_one(
            "tag", public_id, versions, lambda image: self._add_tags(image, [tag], "tag")
        )

    async def untag(self, public_id: UUID, tag: str, versions: ExpectedVersions) -> StoredImage:
        """Remove a tag from the image, if it has it."""
        return await self._edit_one(
            "tag", public_id, versions, lambda image: _remove_tags(image, [tag])
        )

    async def tag_many(
        self, public_ids: Sequence[UUID], add: Sequence[str], remove: Sequence[str]
    ) -> ChangeResult:
        """Remove tags from images and add others to them, to all images or none.

        Raises InvalidChange.
        """

        def edit(image: Image) -> None:
            _remove_tags(image, remove)
            self._add_tags(image, add, "add")

        async with self._change_album() as change:
            images = await change.get_images(list(dict.fromkeys(public_ids)))
            count = await self._edit_images("tag", change, images, edit)
            return ChangeResult(change.version if count else change.version - 1, count)

    async def edit(
        self, public_id: UUID, changes: Mapping[str, Any], versions: ExpectedVersions
    ) -> StoredImage:
        """Change rotation, crop and position, as `apply_changes` does. Raises InvalidChange."""
        return await self._edit_one(
            "update", public_id, versions, lambda image: apply_changes(image, changes)
        )

    async def delete(self, public_id: UUID, versions: ExpectedVersions) -> None:
        """Move the image to the trash."""
        async with self._change_album() as change:
            image = (await change.get_images([public_id]))[0]
            _require_version(image, versions)
            await _set_deleted_at(change, "delete", public_id, datetime.now(UTC))

    async def restore(self, public_id: UUID, versions: ExpectedVersions) -> StoredImage:
        """Move the image out of the trash; do nothing if it is not there.

        Raises DuplicatePicture if an image outside the trash has the same picture.
        """
        async with self._change_album() as change:
            image = await change.find_image(public_id)
            if image is None:
                raise ImageNotFound
            _require_version(image, versions)
            if image.deleted_at is None:
                return image
            duplicate = image.digest and await change.find_by_digest(image.digest)
            if duplicate:
                raise DuplicatePicture(duplicate.public_id)
            await _set_deleted_at(change, "restore", public_id, None)
            return (await change.get_images([public_id]))[0]

    def _change_album(self) -> AbstractAsyncContextManager[AlbumChange]:
        return album_change(self._database, self.album_id, self._user_id)

    def _add_tags(self, image: Image, tags: Sequence[str], field: str) -> None:
        """Add the tags that the image does not have. Raises InvalidChange for the field."""
        try:
            for tag in tags:
                require_not_album_id(tag, self.album_id)
            image.set_tags(add_tags(image.tags, tags))
        except InvalidTag as error:
            raise InvalidChange(field, str(error)) from error
        except TooManyTags as error:
            reason = f"would be more than {MAX_TAGS} on image {image.public_id}"
            raise InvalidChange(field, reason) from error

    async def _edit_one(
        self, kind: str, public_id: UUID, versions: ExpectedVersions, edit: Callable[[Image], None]
    ) -> StoredImage:
        async with self._change_album() as change:
            images = await change.get_images([public_id])
            _require_version(images[0], versions)
            if await self._edit_images(kind, change, images, edit):
                images = await change.get_images([public_id])
            return images[0]

    async def _edit_images(
        self,
        kind: str,
        change: AlbumChange,
        images: Sequence[StoredImage],
        edit: Callable[[Image], None],
    ) -> int:
        """Edit the images, record one event for those that change, and return how many do."""
        rows, before, after = [], {}, {}
        for stored in images:
            image = Image.model_validate_json(stored.record)
            old_state = _get_state(image)
            edit(image)
            new_state = _get_state(image)
            changed = [name for name, value in new_state.items() if value != old_state[name]]
            if changed:
                before[image.public_id] = {name: old_state[name] for name in changed}
                after[image.public_id] = {name: new_state[name] for name in changed}
                columns = self._serializer.build_columns(image, stored.asset_key)
                rows.append({"public_id": stored.public_id, **columns._asdict()})
        if rows:
            await change.update_images(rows)
            await change.record_event(kind, [row["public_id"] for row in rows], before, after)
        return len(rows)


def _get_state(image: Image) -> dict[str, Any]:
    """Return what people can change of the image."""
    return {"tags": image.tags, **{name: getattr(image, name) for name in _CHANGEABLE_FIELDS}}


def _remove_tags(image: Image, tags: Sequence[str]) -> None:
    image.set_tags(tag for tag in image.tags if tag not in tags)


def _require_version(image: StoredImage, versions: ExpectedVersions) -> None:
    if versions is not None and image.version not in versions:
        raise ImageChanged


async def _set_deleted_at(
    change: AlbumChange, kind: str, public_id: UUID, deleted_at: datetime | None
) -> None:
    """Set the moment of the image's deletion, None for an image that is not in the trash."""
    is_deleted = deleted_at is not None
    await change.update_images([{"public_id": public_id, "deleted_at": deleted_at}])
    await change.record_event(
        kind,
        [public_id],
        {str(public_id): {"deleted": not is_deleted}},
        {str(public_id): {"deleted": is_deleted}},
    )
