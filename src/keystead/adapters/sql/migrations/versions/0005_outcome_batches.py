"""The batch of outcomes that is on its way to another usage store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make its table."""
    op.create_table(
        "outcome_batches",
        sa.Column("name", ASCII, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("held_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", ASCII, nullable=False),
        sa.PrimaryKeyConstraint("name", name="outcome_batches_pk"),
    )
