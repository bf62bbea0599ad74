"""Table of the rate limits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "rates",
        sa.Column("subject", sa.Text(collation="C"), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_rates"),
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    op.drop_table("rates")
