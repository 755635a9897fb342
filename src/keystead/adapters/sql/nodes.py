"""The processes that serve, in SQL: one row each, which only its process writes.

On PostgreSQL a heartbeat travels in the lane of verification and the log, so that no flood of management calls makes a
process look as if it were gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import text

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.session import transaction
from keystead.events.nodes import LogEnd, Node, NodeIdentity

UNPLACED_MAX = 10_000
"""So many events without a place are looked at; there are more only while nobody places any."""
FORGOTTEN_AFTER_MS = 3_600_000
FORGOTTEN_STALE_AFTER_MS = 24 * FORGOTTEN_AFTER_MS
"""One that serves stale answers may go on for as long as it is cut off: its operator gets a day to see to it."""

_NAME = re.compile(r":(\w+)")
# The moment of the statement and not of a transaction's beginning. SQLite's own clock is its machine's.
_NOW_MS = {
    SQLITE: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
}
_BEAT = """
INSERT INTO nodes (id, host, version, started_at_ms, seen_at_ms, applied_seq, staleness_bound_ms, serves_stale)
VALUES (:id, :host, :version, {now}, {now}, :applied_seq, :staleness_bound_ms, :serves_stale)
    ON CONFLICT (id) DO UPDATE SET seen_at_ms = {now}, applied_seq = excluded.applied_seq
"""
_LEAVE = "DELETE FROM nodes WHERE id = :id"
_SWEEP = f"""
DELETE FROM nodes
 WHERE seen_at_ms < {{now}} - CASE WHEN serves_stale THEN {FORGOTTEN_STALE_AFTER_MS} ELSE {FORGOTTEN_AFTER_MS} END
RETURNING id
"""  # noqa: S608 -- two constant numbers
_ALL = """
SELECT id, host, version, staleness_bound_ms, serves_stale, started_at_ms, seen_at_ms, {now} - seen_at_ms, applied_seq
  FROM nodes ORDER BY started_at_ms, id
"""
# One statement sees one moment: what is being placed meanwhile is in the number or in the list.
_LOG_END = """
SELECT size, NULL FROM log_heads WHERE workspace_id = ?
UNION ALL
SELECT * FROM (SELECT 0, id FROM events WHERE seq IS NULL LIMIT ?) AS unplaced
"""


class SqlNodes:
    """The ``Nodes`` of one database."""

    def __init__(self, database: Database, *, unplaced_max: int = UNPLACED_MAX) -> None:
        """Keep them in ``database``; name at most ``unplaced_max`` events that have no place."""
        self._database = database
        self._unplaced_max = unplaced_max
        self._now_ms = _NOW_MS[database.kind]

    async def beat(self, identity: NodeIdentity, applied_seq: int) -> None:
        """Note that a process lives, and how far it has come."""
        said = {
            "id": identity.id,
            "host": identity.host,
            "version": identity.version,
            "applied_seq": applied_seq,
            "staleness_bound_ms": identity.staleness_bound_ms,
            "serves_stale": identity.serves_stale,
        }
        await self._write(_BEAT, said)

    async def leave(self, node_id: str) -> None:
        """Forget a process."""
        await self._write(_LEAVE, {"id": node_id})

    async def sweep(self) -> int:
        """Forget those that nobody has heard of for long."""
        return await self._write(_SWEEP, {})

    async def all(self) -> Sequence[Node]:
        """Return them."""
        rows = await self._database.fetch(_ALL.format(now=self._now_ms))
        return [Node(NodeIdentity(row[0], row[1], row[2], row[3], bool(row[4])), *row[5:]) for row in rows]

    async def log_end(self) -> LogEnd:
        """Return what the log holds."""
        rows = await self._database.fetch(_LOG_END, schema.GLOBAL_HEAD, self._unplaced_max + 1)
        unplaced = frozenset(str(event_id) for _, event_id in rows if event_id is not None)
        sizes = [int(size) for size, event_id in rows if event_id is None]
        return LogEnd(max(sizes, default=0), unplaced, whole=len(unplaced) <= self._unplaced_max)

    async def _write(self, statement: str, values: dict[str, object]) -> int:
        """Run one changing statement in a transaction of its own; return how many rows it told of."""
        statement = statement.format(now=self._now_ms)
        if self._database.kind == SQLITE:
            async with transaction(self._database) as session:
                return await session.write(text(statement), values)
        # Outside any transaction: it lasts once it is answered, and does no harm when it is sent twice.
        positional = _NAME.sub("?", statement)
        return len(await self._database.fetch(positional, *[values[name] for name in _NAME.findall(statement)]))
