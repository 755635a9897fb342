"""What was done about secrets that are older than their plans allow, and who looks for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables, and the index that secrets are walked by."""
    op.create_table(
        "rotation_notices",
        sa.Column("secret_id", ASCII, nullable=False),
        sa.Column("told_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("suspended_at_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("secret_id", name="rotation_notices_pk"),
        sa.ForeignKeyConstraint(["secret_id"], ["secrets.id"], name="rotation_notices_secret", ondelete="CASCADE"),
    )
    op.create_table(
        "turns",
        sa.Column("name", ASCII, nullable=False),
        sa.Column("begun_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="turns_pk"),
    )
    current = sa.text("retires_at_ms IS NULL")
    op.create_index(
        "secrets_by_age", "secrets", ["created_at_ms", "id"], sqlite_where=current, postgresql_where=current
    )
