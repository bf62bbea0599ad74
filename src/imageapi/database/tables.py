"""The tables. Every primary key starts with the album, so that they can be distributed by it.

Only ``rates`` is of no album: it counts those who ask, and may be lost.

``images.record`` is the exact JSON text that clients are sent (``json`` keeps it, ``jsonb`` would
reorder its keys); the other columns are what is searched and sorted by, or never sent: where the
picture lies in the store, the key of its asset paths, its digest (SHA-256 of the content).
``albums.rendering`` says what its records' texts were rendered by: where that has changed, they
are rendered anew. ``events`` holds one row for each change of an album, written with it.
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

#: The newest migration; a test compares it with ``alembic/versions``.
SCHEMA_VERSION = "0004"

#: Predicates of partial indexes, so written only here.
THERE = text("deleted_at IS NULL")
#: An image that nobody has tagged.
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
    Index("ix_images_there", "album_id", "created_at", "public_id", postgresql_where=THERE),
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
