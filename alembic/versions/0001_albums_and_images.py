"""Tables of albums and images."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "albums",
        sa.Column("album_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("rendering", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("album_id", name="pk_albums"),
    )
    op.create_table(
        "images",
        sa.Column("album_id", sa.Text(collation="C"), nullable=False),
        sa.Column("public_id", sa.Uuid, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("record", postgresql.JSON, nullable=False),
        sa.PrimaryKeyConstraint("album_id", "public_id", name="pk_images"),
        sa.ForeignKeyConstraint(["album_id"], ["albums.album_id"], name="fk_images_albums"),
    )
    in_order = ["album_id", "created_at", "public_id"]
    op.create_index("ix_images_album_id_created_at_public_id", "images", in_order)
    op.create_index("ix_images_queue", "images", in_order, postgresql_where=sa.text("tags = '{}'"))


def downgrade() -> None:
    op.drop_table("images")
    op.drop_table("albums")
