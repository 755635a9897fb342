"""What is left of quotas and credits, in memory."""

from __future__ import annotations

from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.adapters.walls import Walls
from keystead.limits.model import AllowanceRow
from keystead.tenants.errors import NotFoundError

FORGOTTEN_AT_ONCE = 1_000


class MemoryAllowances:
    """The ``AllowanceRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def get(self, counter: str, begins_at_ms: int, *, lock: bool = False) -> AllowanceRow | None:
        """Return the row of one period, or None."""
        if lock:
            await self._staging.begin()
        row = self._staging.state.allowances.get((counter, begins_at_ms))
        return row if row is not None and self._walls.admit_in(row.workspace_id, row.environment) else None

    async def add(self, row: AllowanceRow) -> AllowanceRow:
        """Store a new row and return it, or else the one that is there."""
        self._walls.demand_in(row.workspace_id, row.environment)
        state = await self._staging.begin()
        if row.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", row.workspace_id)
        return state.allowances.setdefault((row.counter, row.begins_at_ms), row)

    async def save(self, row: AllowanceRow) -> None:
        """Store the new state."""
        self._walls.demand_in(row.workspace_id, row.environment)
        (await self._staging.begin()).allowances[row.counter, row.begins_at_ms] = row


class MemoryAllowanceShelf:
    """Housekeeping, in bounded batches."""

    def __init__(self, store: MemoryStore) -> None:
        """Work on ``store``."""
        self._store = store

    async def forget(self, *, before_ms: int) -> int:
        """Delete at most 1,000 rows of periods that ended before ``before_ms``; return how many."""
        staging = Staging(self._store, read_only=False)
        rows = (await staging.begin()).allowances
        over = [name for name, row in rows.items() if row.ends_at_ms < before_ms][:FORGOTTEN_AT_ONCE]
        for name in over:
            del rows[name]
        staging.commit()
        return len(over)
