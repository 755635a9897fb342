"""How long events are kept, and where the log was cut."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them; what is kept for ever today stays so."""
    op.add_column("workspaces", sa.Column("audit_retention_days", sa.Integer(), nullable=False, server_default="0"))
    unheard = sa.text("seq IS NULL AND touches <> '[]'")
    op.create_index(
        "events_unheard", "events", ["occurred_at_ms", "id"], sqlite_where=unheard, postgresql_where=unheard
    )
    op.create_table(
        "log_cuts",
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("swept_to", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("cut_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name="log_cuts_pk"),
    )
    op.create_table(
        "cut_leaves",
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "first_index", name="cut_leaves_pk"),
    )
