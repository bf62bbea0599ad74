"""Changes of one album. Each is a transaction that locks the album's row and records one event."""

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
from imageapi.database.images import SELECT_STORED, StoredImage
from imageapi.database.tables import NOT_DELETED, albums, events, images


class _WatchedConnection:
    """Executes the statements of one change, and remembers whether a write still needs its event.

    `AlbumChange` has no other connection, so that no new method can write unnoticed: every
    statement that is not a SELECT counts as a write.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.has_unrecorded_writes = False

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Execute the statement, once for each of the parameters where there are some."""
        if not statement.is_select:
            self.has_unrecorded_writes = True
        return await self._connection.execute(statement, parameters)


class AlbumChange:
    """Reads and changes images of one album within its transaction.

    After the last write, call `record_event` once. It also raises the album's version.
    """

    def __init__(
        self, connection: _WatchedConnection, album_id: str, version: int, user_id: str | None
    ) -> None:
        self._connection = connection
        self._album_id = album_id
        self._user_id = user_id
        #: The album's version after this change.
        self.version = version + 1

    async def get_images(self, public_ids: Sequence[UUID]) -> list[StoredImage]:
        """Return the images with these ids, in their order.

        Raises ImageNotFound, with the ids that the album does not have or has in its trash.
        """
        stored = await self._select(_is_one_of(images.c.public_id, public_ids), NOT_DELETED)
        by_id = {image.public_id: image for image in stored}
        missing = [public_id for public_id in public_ids if public_id not in by_id]
        if missing:
            raise ImageNotFound(missing)
        return [by_id[public_id] for public_id in public_ids]

    async def find_image(self, public_id: UUID) -> StoredImage | None:
        """Return the image with this id, also from the trash; None if there is none."""
        return next(iter(await self._select(images.c.public_id == public_id)), None)

    async def find_by_digest(self, digest: bytes) -> StoredImage | None:
        """Return the image with this content; None if there is none, or in the trash."""
        return next(iter(await self._select(images.c.digest == digest, NOT_DELETED)), None)

    async def list_after(self, public_id: UUID, limit: int) -> list[StoredImage]:
        """Return at most ``limit`` images whose ids follow this one, by id, also from the trash."""
        return await self._select(
            images.c.public_id > public_id, order_by=images.c.public_id, limit=limit
        )

    async def list_trashed_before(self, moment: datetime, limit: int) -> list[StoredImage]:
        """Return at most ``limit`` images that were deleted before the moment, oldest first."""
        return await self._select(
            images.c.deleted_at < moment, order_by=images.c.deleted_at, limit=limit
        )

    async def filter_pictures_in_use(self, pictures: Iterable[UUID]) -> set[UUID]:
        """Return those of the pictures that an image of the album has, also one in the trash."""
        query = select(images.c.picture).where(
            images.c.album_id == self._album_id, _is_one_of(images.c.picture, pictures)
        )
        return set((await self._connection.execute(query)).scalars())

    async def add_image(self, **columns: object) -> None:
        """Insert an image with these columns; its album and version are those of the change."""
        values = {"album_id": self._album_id, "version": self.version, **columns}
        await self._connection.execute(insert(images).values(values))

    async def update_images(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update columns of images, and set their version to the change's.

        Each row is ``public_id`` and the new values; all rows have the same columns.
        """
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

    async def remove_images(self, public_ids: Sequence[UUID]) -> None:
        """Delete the images' rows: what was in the trash cannot be restored after this."""
        await self._connection.execute(
            delete(images).where(
                images.c.album_id == self._album_id, _is_one_of(images.c.public_id, public_ids)
            )
        )

    async def record_event(
        self, kind: str, public_ids: Iterable[UUID], before: object, after: object
    ) -> None:
        """Raise the album's version, and insert the event of the change.

        ``before`` and ``after`` are stored as JSON. Call it once, after the last write.
        """
        of_album = albums.c.album_id == self._album_id
        await self._connection.execute(update(albums).where(of_album).values(version=self.version))
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

    async def _select(
        self,
        *conditions: ColumnElement[bool] | TextClause,
        order_by: ColumnElement[Any] | None = None,
        limit: int | None = None,
    ) -> list[StoredImage]:
        query = SELECT_STORED.where(images.c.album_id == self._album_id, *conditions)
        rows = await self._connection.execute(query.order_by(order_by).limit(limit))
        return [StoredImage(*row) for row in rows]


def _is_one_of(column: ColumnElement[UUID], values: Iterable[UUID]) -> ColumnElement[bool]:
    """Return the condition that the column has one of the values, of which there is at least one.

    SQLAlchemy's `in_` leaves a cycle for the garbage collector (tests/test_garbage.py), so it is
    not used for one value. Not `= ANY`: for a prepared statement PostgreSQL assumes ten values,
    and may then read a whole album.
    """
    first, *others = values
    return column.in_([first, *others]) if others else column == first


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@asynccontextmanager
async def album_change(
    database: Database,
    album_id: str,
    user_id: str | None = None,
    *,
    serializer_name: str | None = None,
) -> AsyncIterator[AlbumChange]:
    """Yield a change of the album; commit it when the block ends, roll it back when it raises.

    It locks the album's row, so that changes of one album follow each other. An unknown album is
    created where ``serializer_name`` says which serializer will make its records' texts (see
    `tables`); without it, an unknown album just has no images.

    Raises DatabaseUnavailable, and ChangeNotRecorded where rows were written and `record_event` was
    not called after that; then the change is rolled back.
    """
    async with database.album_transaction(album_id) as connection:
        lock_album = select(albums.c.version).where(albums.c.album_id == album_id).with_for_update()
        version = await connection.scalar(lock_album)
        if version is None and serializer_name is not None:
            album = upsert(albums).values(album_id=album_id, version=0, rendering=serializer_name)
            await connection.execute(album.on_conflict_do_nothing())
            version = await connection.scalar(lock_album)
        watched = _WatchedConnection(connection)
        yield AlbumChange(watched, album_id, version or 0, user_id)
        if watched.has_unrecorded_writes:
            raise ChangeNotRecorded


async def list_album_ids(database: Database) -> list[str]:
    """Return the ids of all albums, in order; for maintenance, which goes through all of them."""
    async with database.transaction() as connection:
        return list(await connection.scalars(select(albums.c.album_id).order_by(albums.c.album_id)))
