"""The first schema: tenants, keys and their secrets, replies, the event log, master keys.

Written out by hand rather than taken from ``schema.py``, because that file goes on and this one stays as it is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ASCII = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table."""
    make_tenants()
    make_keys()
    make_secrets_and_labels()
    make_log()
    make_replies_and_masters()


def ascii_text(*names: str) -> list[sa.Column[Any]]:
    """Make columns of text that is compared byte by byte."""
    return [sa.Column(name, ASCII, nullable=False) for name in names]


def text(*names: str) -> list[sa.Column[Any]]:
    """Make columns of text for people."""
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def numbers(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Make columns of 64-bit numbers: milliseconds and positions."""
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def octets(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Make columns of bytes."""
    return [sa.Column(name, sa.LargeBinary(), nullable=nullable) for name in names]


def version() -> sa.Column[Any]:
    """Make the column that counts the changes of a row."""
    return sa.Column("version", sa.Integer(), nullable=False)


def in_workspace(name: str) -> sa.ForeignKeyConstraint:
    """Tie rows to their workspace, with which they go."""
    return sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=name, ondelete="CASCADE")


def of_key(name: str) -> sa.ForeignKeyConstraint:
    """Tie rows to their key, with which they go."""
    return sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=name, ondelete="CASCADE")


def make_tenants() -> None:
    """Make workspaces and owners."""
    op.create_table(
        "workspaces",
        *ascii_text("id", "brand"),
        *text("name"),
        *numbers("created_at_ms", "updated_at_ms"),
        version(),
        sa.PrimaryKeyConstraint("id", name="workspaces_pk"),
        sa.UniqueConstraint("brand", name="workspaces_brand"),
    )
    op.create_table(
        "owners",
        *ascii_text("workspace_id", "owner_id"),
        *text("name", "metadata"),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        *text("search"),
        *numbers("created_at_ms", "updated_at_ms"),
        version(),
        sa.PrimaryKeyConstraint("workspace_id", "owner_id", name="owners_pk"),
        in_workspace("owners_workspace"),
    )
    op.create_index("owners_by_creation", "owners", ["workspace_id", "created_at_ms", "owner_id"])


def make_keys() -> None:
    """Make keys, with an index for every filter of their list."""
    op.create_table(
        "keys",
        *ascii_text("id", "workspace_id", "environment", "kind", "owner_id"),
        *text("name", "description"),
        *ascii_text("state"),
        *text("state_reason", "scopes", "metadata", "tags", "allowed_ips", "search"),
        *numbers("created_at_ms"),
        *ascii_text("created_by"),
        *numbers("updated_at_ms"),
        *numbers("expires_at_ms", "revoked_at_ms", "last_used_at_ms", nullable=True),
        version(),
        sa.PrimaryKeyConstraint("id", name="keys_pk"),
        in_workspace("keys_workspace"),
    )
    op.create_index("keys_by_workspace", "keys", ["workspace_id", "id"])
    for name, column in (("environment", "environment"), ("owner", "owner_id"), ("state", "state"), ("kind", "kind")):
        op.create_index(f"keys_by_{name}", "keys", ["workspace_id", column, "id"])
    op.create_index("keys_by_expiry", "keys", ["workspace_id", "expires_at_ms"])
    op.create_index("keys_by_last_use", "keys", ["workspace_id", "last_used_at_ms"])


def make_secrets_and_labels() -> None:
    """Make what belongs to a key."""
    op.create_table(
        "secrets",
        *ascii_text("id", "key_id", "prefix", "hash", "master_id"),
        *numbers("created_at_ms"),
        *numbers("retires_at_ms", "last_used_at_ms", nullable=True),
        sa.PrimaryKeyConstraint("id", name="secrets_pk"),
        sa.UniqueConstraint("prefix", name="secrets_prefix"),
        of_key("secrets_key"),
    )
    op.create_index("secrets_by_key", "secrets", ["key_id"])
    op.create_index("secrets_by_master", "secrets", ["master_id"])
    op.create_table(
        "key_labels",
        *ascii_text("key_id", "kind", "label", "workspace_id"),
        sa.PrimaryKeyConstraint("key_id", "kind", "label", name="key_labels_pk"),
        of_key("key_labels_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("key_labels_by_label", "key_labels", ["workspace_id", "kind", "label", "key_id"])


def make_log() -> None:
    """Make the events and what the sequencer knows of them."""
    op.create_table(
        "events",
        *ascii_text("id", "workspace_id", "environment", "action", "target", "owner_id", "actor_type", "actor_id"),
        *text("request_id"),
        *numbers("occurred_at_ms"),
        *text("touches", "record", "private"),
        *octets("leaf_hash"),
        *numbers("seq", "leaf_index", nullable=True),
        sa.PrimaryKeyConstraint("id", name="events_pk"),
        sa.UniqueConstraint("workspace_id", "leaf_index", name="events_leaf"),
    )
    placed, unplaced = sa.text("seq IS NOT NULL"), sa.text("seq IS NULL")
    op.create_index("events_by_seq", "events", ["seq"], unique=True, sqlite_where=placed, postgresql_where=placed)
    op.create_index(
        "events_unplaced", "events", ["occurred_at_ms", "id"], sqlite_where=unplaced, postgresql_where=unplaced
    )
    op.create_index("events_by_time", "events", ["workspace_id", "occurred_at_ms", "id"])
    op.create_index("events_by_target", "events", ["workspace_id", "target", "occurred_at_ms", "id"])
    op.create_table(
        "log_heads",
        *ascii_text("workspace_id"),
        *numbers("size"),
        *octets("frontier"),
        sa.PrimaryKeyConstraint("workspace_id", name="log_heads_pk"),
    )


def make_replies_and_masters() -> None:
    """Make what idempotency and the keyring remember."""
    op.create_table(
        "replies",
        *ascii_text("workspace_id", "credential_id", "method"),
        *octets("key_hmac", "request_hash", "public"),
        *octets("sealed", nullable=True),
        *numbers("created_at_ms"),
        sa.PrimaryKeyConstraint("workspace_id", "credential_id", "method", "key_hmac", name="replies_pk"),
        in_workspace("replies_workspace"),
    )
    op.create_index("replies_by_age", "replies", ["created_at_ms"])
    sealed = sa.text("sealed IS NOT NULL")
    op.create_index("replies_with_secret", "replies", ["created_at_ms"], sqlite_where=sealed, postgresql_where=sealed)
    op.create_table(
        "master_keys",
        *ascii_text("id"),
        *octets("check_value"),
        *numbers("created_at_ms"),
        sa.PrimaryKeyConstraint("id", name="master_keys_pk"),
    )
