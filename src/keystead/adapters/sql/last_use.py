"""When keys and secrets were last used, a thousand at a time, one statement for each table; no version changes.

The uses travel as one JSON text, so the database does the work and the process hardly any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import TextClause, text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.session import transaction

SAVED_AT_ONCE = 1_000

_SQLITE = """
UPDATE {table} SET last_used_at_ms = used.value FROM json_each(:uses) AS used
 WHERE {table}.id = used.key AND ({table}.last_used_at_ms IS NULL OR {table}.last_used_at_ms < used.value)
"""
# Rows are locked in the order in which units of work lock them, so the two never wait for each other in a circle.
_POSTGRESQL = """
WITH used AS (SELECT key, CAST(value AS bigint) AS value FROM json_each_text(CAST(:uses AS json))),
     held AS (
       SELECT {table}.id FROM {table} JOIN used ON used.key = {table}.id ORDER BY {table}.id DESC FOR UPDATE OF {table})
UPDATE {table} SET last_used_at_ms = used.value FROM used JOIN held ON held.id = used.key
 WHERE {table}.id = used.key AND ({table}.last_used_at_ms IS NULL OR {table}.last_used_at_ms < used.value)
"""


class SqlLastUse:
    """The ``LastUseStore`` of one database."""

    def __init__(self, database: Database) -> None:
        """Write to ``database``."""
        self._database = database
        form = _SQLITE if database.kind == SQLITE else _POSTGRESQL
        self._keys = _statement(form, "keys")
        self._secrets = _statement(form, "secrets")

    async def save(self, used_at_ms: Mapping[str, tuple[str, int]]) -> None:
        """Store last uses, ``{secret_id: (key_id, used_at_ms)}``, a thousand secrets to a transaction."""
        uses = sorted(used_at_ms.items(), key=lambda use: (use[1][0], use[0]), reverse=True)
        for start in range(0, len(uses), SAVED_AT_ONCE):
            batch = uses[start : start + SAVED_AT_ONCE]
            latest: dict[str, int] = {}
            for _, (key_id, at_ms) in batch:
                latest[key_id] = max(at_ms, latest.get(key_id, 0))
            secrets = {secret_id: at_ms for secret_id, (_, at_ms) in batch}
            async with transaction(self._database) as session:
                await session.write(self._keys, {"uses": json.dumps(latest)})
                await session.write(self._secrets, {"uses": json.dumps(secrets)})


def _statement(form: str, table: str) -> TextClause:
    return text(form.format(table=table))
