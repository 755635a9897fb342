"""The tables in which refusals wait until they are told, and what is held against the threshold of failures.

Nothing here lasts: a group is deleted with the event that it becomes, and nothing refers to workspaces or keys.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Table

from keystead.adapters.sql.schema import Ascii
from keystead.adapters.sql.sinks_schema import metadata

__all__ = ["failures", "metadata", "refusal_pages", "refusals"]

# ``staged_to`` is the number of a journal's last page that was staged.
refusal_pages = Table(
    "refusal_pages",
    metadata,
    Column("journal_id", Ascii, nullable=False),
    Column("staged_to", BigInteger, nullable=False),
    PrimaryKeyConstraint("journal_id", name="refusal_pages_pk"),
)

_GROUP = (
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

# The minute comes first: what is over is told from the beginning on.
refusals = Table(
    "refusals",
    metadata,
    Column("minute_ms", BigInteger, nullable=False),
    *[Column(name, Ascii, nullable=False) for name in _GROUP],
    *[Column(name, BigInteger, nullable=False) for name in ("count", "first_at_ms", "last_at_ms")],
    PrimaryKeyConstraint("minute_ms", *_GROUP, name="refusals_pk"),
    sqlite_with_rowid=False,
)

_SUBJECT = ("workspace_id", "environment", "kind", "name")

failures = Table(
    "failures",
    metadata,
    Column("stretch_ms", BigInteger, nullable=False),
    *[Column(name, Ascii, nullable=False) for name in _SUBJECT],
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("stretch_ms", *_SUBJECT, name="failures_pk"),
    sqlite_with_rowid=False,
)
