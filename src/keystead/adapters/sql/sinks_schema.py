"""The tables of sinks: what each is, how far it has come, and what it set aside.

What people change (``version``) and what the one who carries changes (the place) stand in one row, and neither writes
the columns of the other.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from keystead.adapters.sql.schema import Ascii, metadata

__all__ = ["metadata", "sink_dead_letters", "sinks"]

# ``file_name`` is empty for what is no file. The secrets in ``sealed`` are encrypted under the master ``master_id``.
# ``due_at_ms`` and ``held_until_ms`` are by the database's clock.
sinks = Table(
    "sinks",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Ascii, nullable=False),
    Column("file_name", Ascii, nullable=False),
    Column("destination", Text, nullable=False),
    Column("payload", Ascii, nullable=False),
    Column("state", Ascii, nullable=False),
    Column("strict_lag_ms", BigInteger, nullable=False),
    Column("sealed", LargeBinary),
    Column("master_id", Ascii, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("next_index", BigInteger, nullable=False),
    Column("checkpoint_size", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("delivered_at_ms", BigInteger),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("holder", Ascii, nullable=False),
    Column("held_until_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("id", name="sinks_pk"),
    UniqueConstraint("workspace_id", "name", name="sinks_name"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="sinks_workspace", ondelete="CASCADE"),
    Index(
        "sinks_files",
        "workspace_id",
        "file_name",
        unique=True,
        sqlite_where=text("file_name <> ''"),
        postgresql_where=text("file_name <> ''"),
    ),
    Index(
        "sinks_strict",
        "workspace_id",
        sqlite_where=text("strict_lag_ms > 0"),
        postgresql_where=text("strict_lag_ms > 0"),
    ),
)

# ``again`` is to be sent once more before the sink goes on.
sink_dead_letters = Table(
    "sink_dead_letters",
    metadata,
    Column("sink_id", Ascii, nullable=False),
    Column("event_id", Ascii, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("is_checkpoint", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("again", Boolean, nullable=False),
    PrimaryKeyConstraint("sink_id", "event_id", name="sink_dead_letters_pk"),
    ForeignKeyConstraint(["sink_id"], ["sinks.id"], name="sink_dead_letters_sink", ondelete="CASCADE"),
    Index("sink_dead_letters_by_index", "sink_id", "leaf_index", "event_id"),
    # What is due is asked for twice a second, and must not read all that was set aside.
    Index(
        "sink_dead_letters_again",
        "sink_id",
        "leaf_index",
        "event_id",
        sqlite_where=text("again = 1"),
        postgresql_where=text("again"),
    ),
)
