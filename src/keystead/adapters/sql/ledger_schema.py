"""The tables of what is told to the Entitlements service, beside those of usage and in the same database.

Nothing refers to workspaces or owners, whose end a bill outlives.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table, UniqueConstraint, text

from keystead.adapters.sql.schema import Ascii
from keystead.adapters.sql.usage_schema import metadata

# Whoever imports ``metadata`` from here has every table.
__all__ = ["entitlement_events", "entitlement_meters", "entitlement_senders", "metadata"]

# ``again_from_ms`` is from where windows are looked at once more.
entitlement_meters = Table(
    "entitlement_meters",
    metadata,
    Column("name", Ascii, nullable=False),
    Column("meaning", Ascii, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("told_to_ms", BigInteger, nullable=False),
    Column("again_from_ms", BigInteger),
    PrimaryKeyConstraint("name", name="entitlement_meters_pk"),
)

# One row an event. ``due_at_ms`` is when it is to be sent, ``acknowledged_at_ms`` absent until the receiver has it.
entitlement_events = Table(
    "entitlement_events",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("meter", Ascii, nullable=False),
    Column("begins_at_ms", BigInteger, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("id", Ascii, nullable=False),
    Column("value", BigInteger, nullable=False),
    Column("recorded_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("acknowledged_at_ms", BigInteger),
    PrimaryKeyConstraint(
        "workspace_id",
        "meter",
        "begins_at_ms",
        "environment",
        "owner_id",
        "revision",
        name="entitlement_events_pk",
    ),
    UniqueConstraint("id", name="entitlement_events_id"),
    Index(
        "entitlement_events_pending",
        "due_at_ms",
        "id",
        sqlite_where=text("acknowledged_at_ms IS NULL"),
        postgresql_where=text("acknowledged_at_ms IS NULL"),
    ),
)

# The place of the one sender.
entitlement_senders = Table(
    "entitlement_senders",
    metadata,
    Column("name", Ascii, nullable=False),
    Column("holder", Ascii, nullable=False),
    Column("held_until_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", name="entitlement_senders_pk"),
)
