"""Entitlements: meters, the ledger of events, and the place of their one sender."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "entitlement_meters",
        *ascii_text("name", "meaning"),
        *numbers("since_ms", "told_to_ms"),
        sa.Column("again_from_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", name="entitlement_meters_pk"),
    )
    make_events()
    op.create_table(
        "entitlement_senders",
        *ascii_text("name", "holder"),
        *numbers("held_until_ms"),
        sa.PrimaryKeyConstraint("name", name="entitlement_senders_pk"),
    )


def ascii_text(*names: str) -> list[sa.Column[Any]]:
    """Make columns of text that is compared byte by byte."""
    return [sa.Column(name, ASCII, nullable=False) for name in names]


def numbers(*names: str) -> list[sa.Column[Any]]:
    """Make columns of 64-bit numbers."""
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def make_events() -> None:
    """Make the ledger."""
    place = ("workspace_id", "meter", "begins_at_ms", "environment", "owner_id", "revision")
    op.create_table(
        "entitlement_events",
        *ascii_text("workspace_id", "meter"),
        *numbers("begins_at_ms"),
        *ascii_text("environment", "owner_id"),
        *numbers("revision"),
        *ascii_text("id"),
        *numbers("value", "recorded_at_ms", "due_at_ms"),
        sa.Column("acknowledged_at_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint(*place, name="entitlement_events_pk"),
        sa.UniqueConstraint("id", name="entitlement_events_id"),
    )
    pending = sa.text("acknowledged_at_ms IS NULL")
    op.create_index(
        "entitlement_events_pending",
        "entitlement_events",
        ["due_at_ms", "id"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
