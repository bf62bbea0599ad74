"""Columns for searching by an image's format and position."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("images", sa.Column("format", sa.Text(collation="C")))
    op.add_column("images", sa.Column("latitude", sa.Double))
    op.add_column("images", sa.Column("longitude", sa.Double))
    op.execute("""
        UPDATE images SET format = coalesce(record -> 'infos' ->> 'format', ''),
            latitude = (record -> 'gps' ->> 0)::double precision,
            longitude = (record -> 'gps' ->> 1)::double precision
    """)
    op.alter_column("images", "format", nullable=False)


def downgrade() -> None:
    for name in ("longitude", "latitude", "format"):
        op.drop_column("images", name)
