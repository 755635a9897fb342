"""When keys and secrets were last used, in bounded batches; no version changes by it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table, bindparam, or_, update
from sqlalchemy.sql.dml import Update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import transaction

SAVED_AT_ONCE = 1_000


class SqlLastUse:
    """The ``LastUseStore`` of one database."""

    def __init__(self, database: Database) -> None:
        """Write to ``database``."""
        self._database = database

    async def save(self, used_at_ms: Mapping[str, tuple[str, int]]) -> None:
        """Store the last use by secret id, ``{secret_id: (key_id, used_at_ms)}``, a thousand secrets to a transaction.

        Rows are taken in the order in which units of work lock them, keys before secrets and the newest first.
        """
        uses = sorted(used_at_ms.items(), key=lambda use: (use[1][0], use[0]), reverse=True)
        for start in range(0, len(uses), SAVED_AT_ONCE):
            batch = uses[start : start + SAVED_AT_ONCE]
            latest: dict[str, int] = {}
            for _, (key_id, at_ms) in batch:
                latest[key_id] = max(at_ms, latest.get(key_id, 0))
            async with transaction(self._database) as session:
                await session.write(
                    _later(schema.keys), [{"row_id": key, "at_ms": at_ms} for key, at_ms in latest.items()]
                )
                await session.write(
                    _later(schema.secrets), [{"row_id": secret, "at_ms": at_ms} for secret, (_, at_ms) in batch]
                )


def _later(table: Table) -> Update:
    at_ms = bindparam("at_ms", type_=table.c.last_used_at_ms.type)
    earlier = or_(table.c.last_used_at_ms.is_(None), table.c.last_used_at_ms < at_ms)
    return update(table).where(table.c.id == bindparam("row_id"), earlier).values(last_used_at_ms=at_ms)
