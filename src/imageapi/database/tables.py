"""The tables. Every primary key starts with the album, so that they can be distributed by it.

``images.record`` is the exact JSON text that clients are sent (``json`` keeps it, ``jsonb`` would
reorder its keys); the other columns are what is searched and sorted by.
``albums.rendering`` says what its records' texts were rendered by: where that has changed, they
are rendered anew.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

#: The newest migration; a test compares it with ``alembic/versions``.
SCHEMA_VERSION = "0002"

#: An image that nobody has tagged: the predicate of the queue's index, so written only here.
UNTAGGED = text("tags = '{}'")

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
    PrimaryKeyConstraint("album_id", "public_id"),
    ForeignKeyConstraint(["album_id"], ["albums.album_id"]),
    Index("ix_images_queue", "album_id", "created_at", "public_id", postgresql_where=UNTAGGED),
    Index("ix_images_album_id_created_at_public_id", "album_id", "created_at", "public_id"),
)
