"""The processes that serve, and how far each has read the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "nodes",
        sa.Column("id", ASCII, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", ASCII, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("applied_seq", sa.BigInteger(), nullable=False),
        sa.Column("staleness_bound_ms", sa.BigInteger(), nullable=False),
        sa.Column("serves_stale", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="nodes_pk"),
    )
