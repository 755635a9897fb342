"""Usage: journals, sums by minute, hour and day, and raw calls.

On PostgreSQL ``calls`` and ``usage_minutes`` have a partition for each day, which makes forgetting old usage a
``DROP TABLE``. Those are made while the server runs; here each gets the one that takes what belongs to no such day.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
CELL = (
    "workspace_id",
    "begins_at_ms",
    "key_id",
    "environment",
    "secret_id",
    "owner_id",
    "operation",
    "code",
)


def upgrade() -> None:
    """Make every table."""
    make_journals()
    make_rollup("usage_minutes", postgresql_partition_by="RANGE (begins_at_ms)")
    for name in ("usage_hours", "usage_days"):
        make_rollup(name)
    make_calls()
    for name in ("usage_minutes", "calls"):
        make_rest(name)
    make_tags()
    make_used_expressions()
    make_latencies()
    make_waiting_outcomes()
    make_attempts()


def ascii_text(*names: str) -> list[sa.Column[Any]]:
    """Make columns of text that is compared byte by byte."""
    return [sa.Column(name, ASCII, nullable=False) for name in names]


def numbers(*names: str) -> list[sa.Column[Any]]:
    """Make columns of 64-bit numbers: milliseconds, places and sums."""
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def code() -> sa.Column[Any]:
    """Make the column of a verdict's code."""
    return sa.Column("code", sa.SmallInteger(), nullable=False)


def make_journals() -> None:
    """Make the places up to which journals are counted."""
    op.create_table(
        "journals",
        *ascii_text("id"),
        *numbers("registered_at_ms", "counted_to", "complete_until_ms", "attempts_counted_to"),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="journals_pk"),
    )


def make_rest(name: str) -> None:
    """Make the partition of what belongs to no day that has one."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT")


def make_rollup(name: str, **options: Any) -> None:
    """Make the sums of one interval."""
    op.create_table(
        name,
        *ascii_text("workspace_id"),
        *numbers("begins_at_ms"),
        *ascii_text("key_id", "environment", "secret_id", "owner_id", "operation"),
        code(),
        *numbers("calls", "cost", "outcomes", "errors"),
        sa.PrimaryKeyConstraint(*CELL, name=f"{name}_pk"),
        sqlite_with_rowid=False,
        **options,
    )


def make_calls() -> None:
    """Make the raw calls, by key and by time."""
    op.create_table(
        "calls",
        *ascii_text("workspace_id", "environment"),
        *numbers("at_ms"),
        *ascii_text("verification_id", "key_id", "secret_id", "owner_id", "operation"),
        code(),
        *numbers("cost"),
        *ascii_text("client_ip", "scope_expression", "tags"),
        sa.Column("http_status", sa.SmallInteger()),
        sa.Column("latency_us", sa.BigInteger()),
        postgresql_partition_by="RANGE (at_ms)",
    )
    op.create_index("calls_by_key", "calls", ["workspace_id", "key_id", "at_ms", "verification_id"])
    op.create_index("calls_by_time", "calls", ["workspace_id", "at_ms", "verification_id"])


def make_tags() -> None:
    """Make the sums of labels by hour."""
    cell = (*CELL[:2], "tag", *CELL[2:])
    op.create_table(
        "usage_tags",
        *ascii_text("workspace_id"),
        *numbers("begins_at_ms"),
        *ascii_text("tag", "key_id", "environment", "secret_id", "owner_id", "operation"),
        code(),
        *numbers("calls", "cost", "outcomes", "errors"),
        sa.PrimaryKeyConstraint(*cell, name="usage_tags_pk"),
        sqlite_with_rowid=False,
    )


def make_used_expressions() -> None:
    """Make the expressions that keys' calls asked for."""
    op.create_table(
        "used_expressions",
        *ascii_text("workspace_id", "key_id", "scope_expression"),
        *numbers("last_used_at_ms"),
        sa.PrimaryKeyConstraint("workspace_id", "key_id", "scope_expression", name="used_expressions_pk"),
        sqlite_with_rowid=False,
    )


def make_latencies() -> None:
    """Make the sketches of latency by hour."""
    op.create_table(
        "latencies",
        *ascii_text("workspace_id"),
        *numbers("begins_at_ms"),
        *ascii_text("key_id", "environment", "secret_id", "owner_id", "operation"),
        code(),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        *numbers("calls"),
        sa.PrimaryKeyConstraint(*CELL, "bucket", name="latencies_pk"),
        sqlite_with_rowid=False,
    )


def make_waiting_outcomes() -> None:
    """Make the outcomes that wait for their calls."""
    op.create_table(
        "waiting_outcomes",
        *ascii_text("workspace_id", "verification_id", "environment"),
        *numbers("called_at_ms"),
        sa.Column("http_status", sa.SmallInteger(), nullable=False),
        sa.Column("latency_us", sa.BigInteger()),
        *numbers("kept_at_ms"),
        sa.PrimaryKeyConstraint("workspace_id", "verification_id", "environment", name="waiting_outcomes_pk"),
    )
    op.create_index("waiting_outcomes_by_age", "waiting_outcomes", ["kept_at_ms"])


def make_attempts() -> None:
    """Make the sums of verdicts about no key."""
    group = ("workspace_id", "minute_ms", "environment", "brand", "secret_environment", "code", "client_ip")
    op.create_table(
        "attempts",
        *ascii_text("workspace_id"),
        *numbers("minute_ms"),
        *ascii_text("environment", "brand", "secret_environment"),
        code(),
        *ascii_text("client_ip"),
        *numbers("count", "first_at_ms", "last_at_ms"),
        sa.PrimaryKeyConstraint(*group, name="attempts_pk"),
        sqlite_with_rowid=False,
    )
