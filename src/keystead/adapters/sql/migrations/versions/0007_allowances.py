"""What is left of quotas and credits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "allowances",
        sa.Column("counter", ASCII, nullable=False),
        sa.Column("begins_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("environment", ASCII, nullable=False),
        sa.Column("owner_id", ASCII, nullable=False),
        sa.Column("name", ASCII, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("resets", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("refilled_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "begins_at_ms", name="allowances_pk"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="allowances_workspace", ondelete="CASCADE"),
    )
    op.create_index("allowances_by_workspace", "allowances", ["workspace_id"])
    op.create_index("allowances_by_end", "allowances", ["ends_at_ms"])
