"""The tables of usage, beside those of ``schema`` and in the same database.

Nothing refers to keys or workspaces, whose end usage outlives. On PostgreSQL the two tables that grow fastest have a
partition for each day (``partitions``), and one for what belongs to no such day.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import DDL, BigInteger, Boolean, Column, Index, PrimaryKeyConstraint, SmallInteger, Table, event

from keystead.adapters.sql.node_schema import metadata
from keystead.adapters.sql.schema import Ascii

__all__ = [
    "attempts",
    "calls",
    "journals",
    "latencies",
    "metadata",
    "outcome_batches",
    "usage_days",
    "usage_hours",
    "usage_minutes",
    "usage_tags",
    "used_expressions",
    "waiting_outcomes",
]

# ``counted_to`` is the place up to which a journal is counted, ``attempts_counted_to`` its last page of attempts.
# ``seen_at_ms`` is when somebody reported it last, by the database's clock, and ``lost_at_ms`` when it was given up.
journals = Table(
    "journals",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("registered_at_ms", BigInteger, nullable=False),
    Column("counted_to", BigInteger, nullable=False),
    Column("complete_until_ms", BigInteger, nullable=False),
    Column("attempts_counted_to", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("node", Ascii, nullable=False, server_default=""),
    Column("seen_at_ms", BigInteger, nullable=False, server_default="0"),
    Column("lost_at_ms", BigInteger),
    PrimaryKeyConstraint("id", name="journals_pk"),
)


_CELL = ("key_id", "environment", "secret_id", "owner_id", "operation", "code")
_SUMS = ("calls", "cost", "outcomes", "errors")
_SMALL = {"code", "bucket"}


def _sums(name: str, cell: Sequence[str], sums: Sequence[str], **options: Any) -> Table:
    """Describe a table of ``sums``, one row for each ``cell``.

    The interval comes before the key: what is counted now lies together, so a flush touches few pages, and a
    workspace's top is one range; one key's series is a search per interval. Nothing refers to keys or workspaces,
    whose end usage outlives.
    """
    return Table(
        name,
        metadata,
        *[Column(it, _type_of(it), nullable=False) for it in cell],
        *[Column(it, BigInteger, nullable=False) for it in sums],
        PrimaryKeyConstraint(*cell, name=f"{name}_pk"),
        sqlite_with_rowid=False,
        **options,
    )


def _type_of(name: str) -> Any:
    if name in _SMALL:
        return SmallInteger
    return BigInteger if name.endswith("_ms") else Ascii


def _rollup(name: str, **options: Any) -> Table:
    return _sums(name, ("workspace_id", "begins_at_ms", *_CELL), _SUMS, **options)


usage_minutes = _rollup("usage_minutes", postgresql_partition_by="RANGE (begins_at_ms)")
usage_hours = _rollup("usage_hours")
usage_days = _rollup("usage_days")

# No primary key: that a call is counted once is the journal's place's doing, and a stretch that could not be stored for
# an id that is there already would be tried for ever.
calls = Table(
    "calls",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("verification_id", Ascii, nullable=False),
    Column("key_id", Ascii, nullable=False),
    Column("secret_id", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("operation", Ascii, nullable=False),
    Column("code", SmallInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("client_ip", Ascii, nullable=False),
    Column("scope_expression", Ascii, nullable=False),
    Column("tags", Ascii, nullable=False),
    Column("http_status", SmallInteger),
    Column("latency_us", BigInteger),
    Index("calls_by_key", "workspace_id", "key_id", "at_ms", "verification_id"),
    Index("calls_by_time", "workspace_id", "at_ms", "verification_id"),
    postgresql_partition_by="RANGE (at_ms)",
)

# Sums of calls with a label, by hour; a call with several is in several rows.
usage_tags = _sums("usage_tags", ("workspace_id", "begins_at_ms", "tag", *_CELL), _SUMS)

# When valid calls of a key last asked for something: what of its grants it uses.
used_expressions = _sums("used_expressions", ("workspace_id", "key_id", "scope_expression"), ("last_used_at_ms",))

# Sketches of how long answers took, by hour: how many fell into a bucket.
latencies = _sums("latencies", ("workspace_id", "begins_at_ms", *_CELL, "bucket"), ("calls",))

# What was reported and not joined to its call yet. ``environment`` is the reporter's, empty for one that has both.
waiting_outcomes = Table(
    "waiting_outcomes",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("verification_id", Ascii, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("called_at_ms", BigInteger, nullable=False),
    Column("http_status", SmallInteger, nullable=False),
    Column("latency_us", BigInteger),
    Column("kept_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("workspace_id", "verification_id", "environment", name="waiting_outcomes_pk"),
    Index("waiting_outcomes_by_age", "kept_at_ms"),
)

# The outcomes that are on their way to a usage store elsewhere, as text; empty when none are. There is one row at most.
outcome_batches = Table(
    "outcome_batches",
    metadata,
    Column("name", Ascii, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("held_until_ms", BigInteger, nullable=False),
    Column("body", Ascii, nullable=False),
    PrimaryKeyConstraint("name", name="outcome_batches_pk"),
)

# Verdicts about no key, by the minute.
attempts = _sums(
    "attempts",
    ("workspace_id", "minute_ms", "environment", "brand", "secret_environment", "code", "client_ip"),
    ("count", "first_at_ms", "last_at_ms"),
)

PARTITIONED = {calls: calls.c.at_ms, usage_minutes: usage_minutes.c.begins_at_ms}
"""The tables with a partition for each day on PostgreSQL, and the column that says which."""

REST = "rest"
_MAKE_REST = DDL(f"CREATE TABLE %(table)s_{REST} PARTITION OF %(table)s DEFAULT")  # type: ignore[no-untyped-call]  # has no types
for _table in PARTITIONED:
    event.listen(_table, "after_create", _MAKE_REST.execute_if(dialect="postgresql"))
