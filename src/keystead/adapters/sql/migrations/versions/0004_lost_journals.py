"""Journals that can be declared lost: who opened one, when it was reported last, and that it is waited for no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns; nodes of the version before go on without them."""
    op.add_column("journals", sa.Column("node", ASCII, nullable=False, server_default=""))
    op.add_column("journals", sa.Column("seen_at_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("journals", sa.Column("lost_at_ms", sa.BigInteger()))
