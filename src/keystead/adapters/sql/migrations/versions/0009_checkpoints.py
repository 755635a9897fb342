"""Signed checkpoints of the event log, and the key that signs them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "checkpoints",
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("previous_size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "size", name="checkpoints_pk"),
        sa.UniqueConstraint("workspace_id", "previous_size", name="checkpoints_chain"),
    )
    op.create_table(
        "audit_keys",
        sa.Column("name", ASCII, nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("master_id", ASCII, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="audit_keys_pk"),
    )
