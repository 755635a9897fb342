"""The tables, once for SQLite and PostgreSQL.

Times are milliseconds since the epoch; what is a list or a mapping in the model is canonical JSON in a text column, and
what must be found exactly has rows of its own (``key_labels``). Text that sorts or is searched by its beginning is
compared byte by byte: SQLite does so by itself, PostgreSQL by the collation "C".
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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

GLOBAL_HEAD = ""
"""The row of ``log_heads`` that counts the whole deployment rather than one workspace."""

# Compared byte by byte, whatever the language of the database.
Ascii = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("brand", Ascii, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("default_plan_id", Ascii, nullable=False, server_default=""),
    Column("audit_retention_days", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("id", name="workspaces_pk"),
    UniqueConstraint("brand", name="workspaces_brand"),
)

# Who refers to a plan holds its row until the reference is stored, so there are no foreign keys to it.
plans = Table(
    "plans",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    Column("name", Ascii, nullable=False),
    Column("description", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("max_keys_per_owner", BigInteger, nullable=False),
    Column("rotate_every_ms", BigInteger, nullable=False),
    Column("suspend_overdue", Boolean, nullable=False),
    Column("on_limiter_outage", Ascii, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("id", name="plans_pk"),
    UniqueConstraint("workspace_id", "name", name="plans_name"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="plans_workspace", ondelete="CASCADE"),
)


def _referring(name: str, column: str) -> Index:
    """Index those alone that refer to a plan: most do not."""
    given = text(f"{column} <> ''")
    return Index(name, "workspace_id", column, sqlite_where=given, postgresql_where=given)


owners = Table(
    "owners",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("name", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("search", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("plan_id", Ascii, nullable=False, server_default=""),
    Column("limits", Text, nullable=False, server_default="[]"),
    Column("entitled_plan_id", Ascii, nullable=False, server_default=""),
    Column("entitled_until_ms", BigInteger),
    PrimaryKeyConstraint("workspace_id", "owner_id", name="owners_pk"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="owners_workspace", ondelete="CASCADE"),
    Index("owners_by_creation", "workspace_id", "created_at_ms", "owner_id"),
    _referring("owners_by_plan", "plan_id"),
    _referring("owners_by_entitlement", "entitled_plan_id"),
)

# A key keeps the id of an owner that is gone, so there is no foreign key to owners.
keys = Table(
    "keys",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("kind", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("state", Ascii, nullable=False),
    Column("state_reason", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("allowed_ips", Text, nullable=False),
    Column("search", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("created_by", Ascii, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("version", Integer, nullable=False),
    Column("plan_id", Ascii, nullable=False, server_default=""),
    Column("limits", Text, nullable=False, server_default="[]"),
    PrimaryKeyConstraint("id", name="keys_pk"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="keys_workspace", ondelete="CASCADE"),
    Index("keys_by_workspace", "workspace_id", "id"),
    Index("keys_by_environment", "workspace_id", "environment", "id"),
    Index("keys_by_owner", "workspace_id", "owner_id", "id"),
    Index("keys_by_state", "workspace_id", "state", "id"),
    Index("keys_by_kind", "workspace_id", "kind", "id"),
    Index("keys_by_expiry", "workspace_id", "expires_at_ms"),
    Index("keys_by_last_use", "workspace_id", "last_used_at_ms"),
    _referring("keys_by_plan", "plan_id"),
)

# ``kind`` is ``scope`` or ``tag``; the workspace stands here too, so that one index answers "which keys here have it".
# What was done about a current secret that is older than its plan allows; it goes with the secret.
rotation_notices = Table(
    "rotation_notices",
    metadata,
    Column("secret_id", Ascii, nullable=False),
    Column("told_at_ms", BigInteger, nullable=False),
    Column("suspended_at_ms", BigInteger),
    PrimaryKeyConstraint("secret_id", name="rotation_notices_pk"),
    ForeignKeyConstraint(["secret_id"], ["secrets.id"], name="rotation_notices_secret", ondelete="CASCADE"),
)
# When work that one node does for all was last begun, by its name.
turns = Table(
    "turns",
    metadata,
    Column("name", Ascii, nullable=False),
    Column("begun_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", name="turns_pk"),
)
key_labels = Table(
    "key_labels",
    metadata,
    Column("key_id", Ascii, nullable=False),
    Column("kind", Ascii, nullable=False),
    Column("label", Ascii, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    PrimaryKeyConstraint("key_id", "kind", "label", name="key_labels_pk"),
    ForeignKeyConstraint(["key_id"], ["keys.id"], name="key_labels_key", ondelete="CASCADE"),
    Index("key_labels_by_label", "workspace_id", "kind", "label", "key_id"),
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("key_id", Ascii, nullable=False),
    Column("prefix", Ascii, nullable=False),
    Column("hash", Ascii, nullable=False),
    Column("master_id", Ascii, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("retires_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    PrimaryKeyConstraint("id", name="secrets_pk"),
    UniqueConstraint("prefix", name="secrets_prefix"),
    ForeignKeyConstraint(["key_id"], ["keys.id"], name="secrets_key", ondelete="CASCADE"),
    Index("secrets_by_key", "key_id"),
    Index(
        "secrets_by_age",
        "created_at_ms",
        "id",
        sqlite_where=text("retires_at_ms IS NULL"),
        postgresql_where=text("retires_at_ms IS NULL"),
    ),
    Index("secrets_by_master", "master_id"),
)


def _of_events_with(column: str, name: str) -> Index:
    """Index those alone that say it: many do not."""
    given = text(f"{column} <> ''")
    ordered = ("workspace_id", column, "occurred_at_ms", "id")
    return Index(name, *ordered, sqlite_where=given, postgresql_where=given)


# No foreign key: what happened in a workspace outlives it.
events = Table(
    "events",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("action", Ascii, nullable=False),
    Column("target", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("actor_type", Ascii, nullable=False),
    Column("actor_id", Ascii, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("occurred_at_ms", BigInteger, nullable=False),
    Column("touches", Text, nullable=False),
    Column("record", Text, nullable=False),
    Column("private", Text, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("seq", BigInteger),
    Column("leaf_index", BigInteger),
    PrimaryKeyConstraint("id", name="events_pk"),
    UniqueConstraint("workspace_id", "leaf_index", name="events_leaf"),
    Index(
        "events_by_seq",
        "seq",
        unique=True,
        sqlite_where=text("seq IS NOT NULL"),
        postgresql_where=text("seq IS NOT NULL"),
    ),
    Index(
        "events_unplaced",
        "occurred_at_ms",
        "id",
        sqlite_where=text("seq IS NULL"),
        postgresql_where=text("seq IS NULL"),
    ),
    Index(
        "events_unheard",
        "occurred_at_ms",
        "id",
        sqlite_where=text("seq IS NULL AND touches <> '[]'"),
        postgresql_where=text("seq IS NULL AND touches <> '[]'"),
    ),
    Index("events_by_time", "workspace_id", "occurred_at_ms", "id"),
    Index("events_by_target", "workspace_id", "target", "occurred_at_ms", "id"),
    Index("events_by_actor", "workspace_id", "actor_id", "occurred_at_ms", "id"),
    Index("events_by_action", "workspace_id", "action", "occurred_at_ms", "id"),
    _of_events_with("owner_id", "events_by_owner"),
    _of_events_with("request_id", "events_by_request"),
)

# Only the sequencer writes here, so a mutation never waits for it. ``frontier`` is the compact range of the workspace's
# RFC 6962 tree: one hash of 32 bytes for each bit of ``size`` that is set, the largest subtree first.
log_heads = Table(
    "log_heads",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    PrimaryKeyConstraint("workspace_id", name="log_heads_pk"),
)

# Where logs were cut: events below ``size`` are gone, or about to be; those below ``swept_to`` are, and their hashes
# stand in ``cut_leaves``, at most a thousand of 32 bytes in a row.
log_cuts = Table(
    "log_cuts",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("swept_to", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("cut_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("workspace_id", name="log_cuts_pk"),
)
cut_leaves = Table(
    "cut_leaves",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    PrimaryKeyConstraint("workspace_id", "first_index", name="cut_leaves_pk"),
)

# ``previous_size`` makes them a chain: of two that extend the same one, only the first can be stored. -1 is before all.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("previous_size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("workspace_id", "size", name="checkpoints_pk"),
    UniqueConstraint("workspace_id", "previous_size", name="checkpoints_chain"),
)

# The one key that signs checkpoints, encrypted under the master ``master_id``.
audit_keys = Table(
    "audit_keys",
    metadata,
    Column("name", Ascii, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("master_id", Ascii, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", name="audit_keys_pk"),
)

# Of a quota one row for each period, of credits one for ever. ``amount`` is what was taken of a quota, or a balance.
allowances = Table(
    "allowances",
    metadata,
    Column("counter", Ascii, nullable=False),
    Column("begins_at_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("workspace_id", Ascii, nullable=False),
    Column("environment", Ascii, nullable=False),
    Column("owner_id", Ascii, nullable=False),
    Column("name", Ascii, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("resets", BigInteger, nullable=False),
    Column("told", Integer, nullable=False),
    Column("refilled_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("counter", "begins_at_ms", name="allowances_pk"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="allowances_workspace", ondelete="CASCADE"),
    Index("allowances_by_workspace", "workspace_id"),
    Index("allowances_by_end", "ends_at_ms"),
)

replies = Table(
    "replies",
    metadata,
    Column("workspace_id", Ascii, nullable=False),
    Column("credential_id", Ascii, nullable=False),
    Column("method", Ascii, nullable=False),
    Column("key_hmac", LargeBinary, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("sealed", LargeBinary),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("workspace_id", "credential_id", "method", "key_hmac", name="replies_pk"),
    ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="replies_workspace", ondelete="CASCADE"),
    Index("replies_by_age", "created_at_ms"),
    Index(
        "replies_with_secret",
        "created_at_ms",
        sqlite_where=text("sealed IS NOT NULL"),
        postgresql_where=text("sealed IS NOT NULL"),
    ),
)

master_keys = Table(
    "master_keys",
    metadata,
    Column("id", Ascii, nullable=False),
    Column("check_value", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("id", name="master_keys_pk"),
)
