"""The table of the processes that serve. Its moments are by the database's clock, which all of them share."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, Table, Text

from keystead.adapters.sql.refusal_schema import metadata
from keystead.adapters.sql.schema import Ascii

__all__ = ["metadata", "nodes"]

nodes = Table(
    "nodes",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Ascii, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("applied_seq", BigInteger, nullable=False),
    Column("staleness_bound_ms", BigInteger, nullable=False),
    Column("serves_stale", Boolean, nullable=False),
    PrimaryKeyConstraint("id", name="nodes_pk"),
)
