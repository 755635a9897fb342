"""Sinks, their places in the log, and what they set aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "sinks",
        sa.Column("id", ASCII, nullable=False),
        sa.Column("workspace_id", ASCII, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", ASCII, nullable=False),
        sa.Column("file_name", ASCII, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("payload", ASCII, nullable=False),
        sa.Column("state", ASCII, nullable=False),
        sa.Column("strict_lag_ms", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("master_id", ASCII, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint_size", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("delivered_at_ms", sa.BigInteger()),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("holder", ASCII, nullable=False),
        sa.Column("held_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="sinks_pk"),
        sa.UniqueConstraint("workspace_id", "name", name="sinks_name"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="sinks_workspace", ondelete="CASCADE"),
    )
    op.create_index(
        "sinks_files",
        "sinks",
        ["workspace_id", "file_name"],
        unique=True,
        sqlite_where=sa.text("file_name <> ''"),
        postgresql_where=sa.text("file_name <> ''"),
    )
    op.create_index(
        "sinks_strict",
        "sinks",
        ["workspace_id"],
        sqlite_where=sa.text("strict_lag_ms > 0"),
        postgresql_where=sa.text("strict_lag_ms > 0"),
    )
    _make_letters()


def _make_letters() -> None:
    op.create_table(
        "sink_dead_letters",
        sa.Column("sink_id", ASCII, nullable=False),
        sa.Column("event_id", ASCII, nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=False),
        sa.Column("is_checkpoint", sa.Boolean(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sink_id", "event_id", name="sink_dead_letters_pk"),
        sa.ForeignKeyConstraint(["sink_id"], ["sinks.id"], name="sink_dead_letters_sink", ondelete="CASCADE"),
    )
    op.create_index("sink_dead_letters_by_index", "sink_dead_letters", ["sink_id", "leaf_index", "event_id"])
    op.create_index(
        "sink_dead_letters_again",
        "sink_dead_letters",
        ["sink_id", "leaf_index", "event_id"],
        sqlite_where=sa.text("again = 1"),
        postgresql_where=sa.text("again"),
    )
