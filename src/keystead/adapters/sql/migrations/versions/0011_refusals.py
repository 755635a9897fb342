"""Refused calls and failed authentications on their way into the event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

GROUP = (
    "workspace_id",
    "environment",
    "action",
    "reason",
    "client_ip",
    "actor_id",
    "target",
    "method",
    "presented",
)
SUBJECT = ("workspace_id", "environment", "kind", "name")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "refusal_pages",
        sa.Column("journal_id", ASCII, nullable=False),
        sa.Column("staged_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("journal_id", name="refusal_pages_pk"),
    )
    op.create_table(
        "refusals",
        sa.Column("minute_ms", sa.BigInteger(), nullable=False),
        *[sa.Column(name, ASCII, nullable=False) for name in GROUP],
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in ("count", "first_at_ms", "last_at_ms")],
        sa.PrimaryKeyConstraint("minute_ms", *GROUP, name="refusals_pk"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "failures",
        sa.Column("stretch_ms", sa.BigInteger(), nullable=False),
        *[sa.Column(name, ASCII, nullable=False) for name in SUBJECT],
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stretch_ms", *SUBJECT, name="failures_pk"),
        sqlite_with_rowid=False,
    )
