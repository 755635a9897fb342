"""What Alembic runs for every command: our own connection, already inside the migration's one transaction."""

from __future__ import annotations

from alembic import context

from keystead.adapters.sql.ledger_schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
