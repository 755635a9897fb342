"""The indexes by which the log is read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them; each is in the order of time behind one thing that may be asked for."""
    for name, column in (("events_by_actor", "actor_id"), ("events_by_action", "action")):
        op.create_index(name, "events", ["workspace_id", column, "occurred_at_ms", "id"])
    for name, column in (("events_by_owner", "owner_id"), ("events_by_request", "request_id")):
        given = sa.text(f"{column} <> ''")
        ordered = ["workspace_id", column, "occurred_at_ms", "id"]
        op.create_index(name, "events", ordered, sqlite_where=given, postgresql_where=given)
