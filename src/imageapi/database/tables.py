"""The tables of the database, as the newest migration leaves them.

Every primary key starts with the album, so that tables can be distributed by it. Only ``rates``
belongs to no album: it holds the state of the rate limits, which may be lost.

``images.record`` is the exact JSON text that clients are sent (``json`` preserves it, ``jsonb``
would reorder its keys). The other columns are for searching and sorting, or internal: the name of
the picture in the store, the key of its asset paths, its digest (SHA-256 of the content).

``albums.rendering`` is the name of the serializer that made the texts of the album's records. Where
it is not the current one, `reserialize` makes them again.

``events`` has one row for each change of an album, inserted in the transaction of the change.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

#: The revision of the newest migration; a test compares it with ``alembic/versions``.
SCHEMA_VERSION = "0004"

#: An image that is not in the trash. This and the next are also predicates of partial indexes. An
#: index serves only statements with its predicate, so both use the same text.
NOT_DELETED = text("deleted_at IS NULL")
#: An image of the queue: without tags, and not in the trash.
UNTAGGED = text("tags = '{}' AND deleted_at IS NULL")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

albums = Table(
    "albums",
    metadata,
    Column("album_id", Text(collation="C"), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("rendering", Text, nullable=False),
    PrimaryKeyConstraint("album_id"),
)

images = Table(
    "images",
    metadata,
    Column("album_id", Text(collation="C"), nullable=False),
    Column("public_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    Column("record", JSON, nullable=False),
    Column("format", Text(collation="C"), nullable=False),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("deleted_at", DateTime(timezone=True)),
    Column("picture", Uuid),
    Column("asset_key", LargeBinary),
    Column("digest", LargeBinary),
    PrimaryKeyConstraint("album_id", "public_id"),
    ForeignKeyConstraint(["album_id"], ["albums.album_id"]),
    Index("ix_images_queue", "album_id", "created_at", "public_id", postgresql_where=UNTAGGED),
    Index("ix_images_there", "album_id", "created_at", "public_id", postgresql_where=NOT_DELETED),
    Index(
        "ix_images_trash",
        "album_id",
        "deleted_at",
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
    Index(
        "uq_images_digest",
        "album_id",
        "digest",
        unique=True,
        postgresql_where=text("digest IS NOT NULL AND deleted_at IS NULL"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("album_id", Text(collation="C"), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("user_id", Text),
    Column("kind", Text, nullable=False),
    Column("public_ids", ARRAY(Uuid), nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    PrimaryKeyConstraint("album_id", "version"),
    ForeignKeyConstraint(["album_id"], ["albums.album_id"]),
)

rates = Table(
    "rates",
    metadata,
    Column("subject", Text(collation="C"), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("granted", Boolean, nullable=False),
    PrimaryKeyConstraint("subject"),
    prefixes=["UNLOGGED"],
)
