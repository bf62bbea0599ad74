"""Columns for pictures and the trash, and the table of events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

IN_ORDER = ["album_id", "created_at", "public_id"]


def upgrade() -> None:
    op.add_column("images", sa.Column("deleted_at", sa.DateTime(timezone=True)))
    op.add_column("images", sa.Column("picture", sa.Uuid))
    op.add_column("images", sa.Column("asset_key", sa.LargeBinary))
    op.add_column("images", sa.Column("digest", sa.LargeBinary))
    op.drop_index("ix_images_queue")
    op.drop_index("ix_images_album_id_created_at_public_id")
    there = sa.text("deleted_at IS NULL")
    untagged = sa.text("tags = '{}' AND deleted_at IS NULL")
    op.create_index("ix_images_queue", "images", IN_ORDER, postgresql_where=untagged)
    op.create_index("ix_images_there", "images", IN_ORDER, postgresql_where=there)
    op.create_index(
        "ix_images_trash",
        "images",
        ["album_id", "deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "uq_images_digest",
        "images",
        ["album_id", "digest"],
        unique=True,
        postgresql_where=sa.text("digest IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "events",
        sa.Column("album_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("public_ids", postgresql.ARRAY(sa.Uuid), nullable=False),
        sa.Column("before", postgresql.JSON, nullable=False),
        sa.Column("after", postgresql.JSON, nullable=False),
        sa.PrimaryKeyConstraint("album_id", "version", name="pk_events"),
        sa.ForeignKeyConstraint(["album_id"], ["albums.album_id"], name="fk_events_albums"),
    )


def downgrade() -> None:
    op.drop_table("events")
    op.execute("DELETE FROM images WHERE deleted_at IS NOT NULL")
    for name in ("uq_images_digest", "ix_images_trash", "ix_images_there", "ix_images_queue"):
        op.drop_index(name)
    for name in ("digest", "asset_key", "picture", "deleted_at"):
        op.drop_column("images", name)
    op.create_index("ix_images_album_id_created_at_public_id", "images", IN_ORDER)
    op.create_index("ix_images_queue", "images", IN_ORDER, postgresql_where=sa.text("tags = '{}'"))
