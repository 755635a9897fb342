"""The sums that are billed, out of ClickHouse: those by hour answer, those of labels for a meter of one.

A stretch reaches such a table in one part, so a sum has it whole or not at all, and no sum ever becomes less.
ClickHouse deletes what is too old some time after it is, and what was told of it may be gone before; so whoever asks is
answered as if it were deleted on time, or it would be billed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keystead.adapters.clickhouse.connection import ClickHouse
from keystead.adapters.walls import Walls
from keystead.kernel.walls import TenantScope
from keystead.usage.meters import KnownMeter, UsedByOwner, UsedWindow
from keystead.usage.model import VALID_NUMBER

_SPAN = "begins_at_ms >= {from:Int64} AND begins_at_ms < {to:Int64}"
_PLACE = "(begins_at_ms, workspace_id, environment, owner_id)"


class ClickHouseMetering:
    """The ``MeteredUsage`` of one ClickHouse."""

    def __init__(self, clickhouse: ClickHouse, kept_since_ms: Callable[[], int]) -> None:
        """Sum up what is counted in ``clickhouse``, of hours since ``kept_since_ms``, which moves with time."""
        self._reader = clickhouse.reader
        self._kept_since_ms = kept_since_ms

    async def windows(
        self, meter: KnownMeter, *, from_ms: int, to_ms: int, after: UsedWindow | None, limit: int
    ) -> list[UsedWindow]:
        """Return at most ``limit`` windows that were used, by time, workspace, environment and owner."""
        table, counted, where, values = _form(meter)
        values |= {"from": max(from_ms, self._kept_since_ms()), "to": to_ms, "limit": limit}
        if after is not None:
            where += f" AND {_PLACE} > ({{at:Int64}}, {{workspace:String}}, {{environment:String}}, {{owner:String}})"
            values |= {"at": after.begins_at_ms, "workspace": after.workspace_id}
            values |= {"environment": after.environment, "owner": after.owner_id}
        statement = (
            f"SELECT workspace_id, environment, owner_id, begins_at_ms, sum({counted}) AS used FROM @{table}"  # noqa: S608 -- names from above
            f" WHERE {_SPAN} AND {where} GROUP BY workspace_id, environment, owner_id, begins_at_ms HAVING used > 0"
            " ORDER BY begins_at_ms, workspace_id, environment, owner_id LIMIT {limit:UInt64}"
        )
        rows = await self._reader.run(lambda lane: lane.rows(statement, values))
        return [UsedWindow(row[0], row[1], row[2], int(row[3]), int(row[4])) for row in rows]

    async def owners(
        self,
        scope: TenantScope,
        meter: KnownMeter,
        *,
        from_ms: int,
        to_ms: int,
        owner_id: str,
        after: UsedByOwner | None,
        limit: int,
    ) -> list[UsedByOwner]:
        """Return at most ``limit`` sums by owner and environment inside the walls, in that order."""
        walls = Walls.around(scope)
        table, counted, where, values = _form(meter)
        where += " AND workspace_id = {workspace:String}"
        values |= {"from": max(from_ms, self._kept_since_ms()), "to": to_ms, "limit": limit}
        values |= {"workspace": walls.demand_workspace()}
        if walls.environments is not None:
            where += " AND has({environments:Array(String)}, environment)"
            values["environments"] = sorted(walls.environments)
        if owner_id:
            where += " AND owner_id = {owner:String}"
            values["owner"] = owner_id
        if after is not None:
            where += " AND (owner_id, environment) > ({after:String}, {after_environment:String})"
            values |= {"after": after.owner_id, "after_environment": after.environment}
        statement = (
            f"SELECT owner_id, environment, sum({counted}) FROM @{table} WHERE {_SPAN} AND {where}"  # noqa: S608 -- names from above
            " GROUP BY owner_id, environment ORDER BY owner_id, environment LIMIT {limit:UInt64}"
        )
        rows = await self._reader.run(lambda lane: lane.rows(statement, values))
        return [UsedByOwner(row[0], row[1], int(row[2])) for row in rows]


def _form(known: KnownMeter) -> tuple[str, str, str, dict[str, Any]]:
    """Return a meter's table, its column, what narrows it, and the values of that."""
    meter = known.meter
    where, values = "code = {valid:UInt8} AND owner_id != ''", {"valid": VALID_NUMBER}
    narrowing: dict[str, Any] = {}
    if meter.operation:
        where += " AND operation = {operation:String}"
        narrowing["operation"] = meter.operation
    if meter.tag:
        where += " AND tag = {tag:String}"
        narrowing["tag"] = meter.tag
    return "usage_tags" if meter.tag else "usage_hours", meter.counting.value, where, values | narrowing
