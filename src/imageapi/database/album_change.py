"""One change of an album: a transaction that alone holds the album's row, and leaves one event."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Executable,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from imageapi.database.engine import Database
from imageapi.database.errors import ChangeNotRecorded, ImageNotFound
from imageapi.database.images import STORED, StoredImage
from imageapi.database.tables import THERE, albums, events, images


class _WatchedConnection:
    """Executes the statements of one change, and remembers whether a write still needs its event.

    `AlbumChange` has no other connection, so that a new method cannot write without being noticed:
    every statement that is not a SELECT counts as a write.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.has_unrecorded_writes = False

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Execute the statement, with each of the parameters where there are some."""
        if not statement.is_select:
            self.has_unrecorded_writes = True
        return await self._connection.execute(statement, parameters)


class AlbumChange:
    """What may be done within the transaction; `note` ends it, and raises the album's version."""

    def __init__(
        self, connection: _WatchedConnection, album_id: str, version: int, user_id: str | None
    ) -> None:
        self._connection = connection
        self._album_id = album_id
        self._user_id = user_id
        #: What the album's version will be.
        self.version = version + 1

    async def images(self, public_ids: Sequence[UUID]) -> list[StoredImage]:
        """The images of these ids, in their order, none of them in the trash.

        Raises ImageNotFound, which names the ids that the album does not have.
        """
        found = await self._stored(images.c.public_id.in_(public_ids), THERE)
        there = {image.public_id: image for image in found}
        missing = [each for each in public_ids if each not in there]
        if missing:
            raise ImageNotFound(missing)
        return [there[each] for each in public_ids]

    async def find(self, public_id: UUID) -> StoredImage | None:
        """The image of this id, in the trash or not."""
        return next(iter(await self._stored(images.c.public_id == public_id)), None)

    async def find_by_digest(self, digest: bytes) -> StoredImage | None:
        """The image with this content, unless it is in the trash."""
        return next(iter(await self._stored(images.c.digest == digest, THERE)), None)

    async def list_after(self, public_id: UUID, most: int) -> list[StoredImage]:
        """Images whose ids follow this one, in the order of their ids, in the trash or not."""
        return await self._stored(
            images.c.public_id > public_id, order_by=images.c.public_id, limit=most
        )

    async def list_trashed_before(self, moment: datetime, most: int) -> list[StoredImage]:
        """Images that were deleted before the moment, longest ago first."""
        return await self._stored(
            images.c.deleted_at < moment, order_by=images.c.deleted_at, limit=most
        )

    async def find_pictures_in_use(self, pictures: Iterable[UUID]) -> set[UUID]:
        """Which of the pictures some image has, in the trash or not."""
        query = select(images.c.picture).where(
            images.c.album_id == self._album_id, images.c.picture.in_(list(pictures))
        )
        return set((await self._connection.execute(query)).scalars())

    async def add(self, **columns: object) -> None:
        """Add an image of these columns, but for album and version, which are the change's."""
        values = {"album_id": self._album_id, "version": self.version, **columns}
        await self._connection.execute(insert(images).values(values))

    async def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Give images new columns: each row is ``public_id`` and the columns, the same in all."""
        names = [name for name in rows[0] if name != "public_id"]
        await self._connection.execute(
            update(images)
            .where(images.c.album_id == self._album_id, images.c.public_id == bindparam("of_image"))
            .values(version=self.version, **{name: bindparam(f"new_{name}") for name in names}),
            [
                {"of_image": row["public_id"], **{f"new_{name}": row[name] for name in names}}
                for row in rows
            ],
        )

    async def remove(self, public_ids: Sequence[UUID]) -> None:
        """Remove images for good."""
        await self._connection.execute(
            delete(images).where(
                images.c.album_id == self._album_id, images.c.public_id.in_(public_ids)
            )
        )

    async def record_event(
        self, kind: str, public_ids: Iterable[UUID], before: object, after: object
    ) -> None:
        """Raise the album's version, and write down who changed what; both sides become JSON.

        Call it once, after the last write.
        """
        of_album = albums.c.album_id == self._album_id
        raised = update(albums).where(of_album).values(version=self.version)
        await self._connection.execute(raised)
        await self._connection.execute(
            insert(events).values(
                album_id=self._album_id,
                version=self.version,
                at=func.clock_timestamp(),
                user_id=self._user_id,
                kind=kind,
                public_ids=list(public_ids),
                before=_to_json(before),
                after=_to_json(after),
            )
        )
        self._connection.has_unrecorded_writes = False

    async def _stored(
        self,
        *conditions: ColumnElement[bool] | TextClause,
        order_by: ColumnElement[Any] | None = None,
        limit: int | None = None,
    ) -> list[StoredImage]:
        query = STORED.where(images.c.album_id == self._album_id, *conditions)
        rows = await self._connection.execute(query.order_by(order_by).limit(limit))
        return [StoredImage(*row) for row in rows]


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@asynccontextmanager
async def album_change(
    database: Database, album_id: str, user_id: str | None = None, *, rendering: str | None = None
) -> AsyncIterator[AlbumChange]:
    """A change of the album, committed when the block ends, undone when it raises.

    Changes of one album follow each other. An album that was never seen is made where
    ``rendering`` names what will make its records, and has no images otherwise.
    Raises ChangeNotRecorded, and undoes the change, where rows were written and `note` was not
    called after that.
    """
    async with database.transaction() as connection:
        of_album = select(albums.c.version).where(albums.c.album_id == album_id).with_for_update()
        version = await connection.scalar(of_album)
        if version is None and rendering is not None:
            fresh = upsert(albums).values(album_id=album_id, version=0, rendering=rendering)
            await connection.execute(fresh.on_conflict_do_nothing())
            version = await connection.scalar(of_album)
        watched = _WatchedConnection(connection)
        yield AlbumChange(watched, album_id, version or 0, user_id)
        if watched.has_unrecorded_writes:
            raise ChangeNotRecorded


async def list_album_ids(database: Database) -> list[str]:
    """Every album, for whoever keeps house over all of them."""
    async with database.transaction() as connection:
        return list(await connection.scalars(select(albums.c.album_id).order_by(albums.c.album_id)))
