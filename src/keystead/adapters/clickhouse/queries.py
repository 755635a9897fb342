"""The questions about usage as ClickHouse's SQL: which table answers, and what is bound.

Only names out of the tables below are written into a statement; everything that comes from outside is a parameter. Rows
of sums that were not merged yet are summed by the question, so it is exact at any moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from keystead.adapters.clickhouse.connection import Row
from keystead.adapters.clickhouse.schema import CALL_TYPES
from keystead.adapters.spans import Part, ceiling, parts
from keystead.adapters.texts import countable
from keystead.adapters.walls import Walls
from keystead.kernel.paging import PageRequest
from keystead.usage.model import (
    INTERVAL_MS,
    RANKED_BY_NAME,
    VALID_NUMBER,
    Call,
    Dimension,
    Interval,
    LatencyPoint,
    Point,
    Subject,
    UsageFilter,
)

ADDRESSES_MAX = 20

_COLUMN_OF = {
    Dimension.KEY: "key_id",
    Dimension.SECRET: "secret_id",
    Dimension.OWNER: "owner_id",
    Dimension.OPERATION: "operation",
    Dimension.CODE: "code",
    Dimension.ENVIRONMENT: "environment",
    Dimension.TAG: "tag",
}
_TAGS = "usage_tags"
_DAY = "intDiv(begins_at_ms, 86400000) * 86400000"
_DAYS = "arrayLast(day -> day <= begins_at_ms, {days:Array(Int64)})"
_SUMS = "sum(calls), sum(cost), sum(outcomes), sum(errors)"
_CALL_COLUMNS = ", ".join(CALL_TYPES)

Statement = tuple[str, dict[str, Any]]


class Question:
    """What is asked of one workspace's usage inside ``walls``; every method returns a statement and its values."""

    def __init__(self, walls: Walls, wanted: UsageFilter) -> None:
        """Everything in ``wanted`` must hold."""
        self._walls = walls
        self.wanted = wanted

    def series(self, interval: Interval, *, by: Dimension | None, limit: int, days: Sequence[int]) -> Statement:
        """Ask for begin, group and sums, in order."""
        table = self._table(interval, by)
        begins = "begins_at_ms"
        if days:
            begins = _DAYS
        elif table == _TAGS and interval is Interval.DAY:
            begins = _DAY
        group = _COLUMN_OF[by] if by else "''"
        where, values = self._inside(table)
        values |= self._span(limit, days)
        statement = (
            f"SELECT {begins} AS begins, {group} AS grouped, {_SUMS} FROM @{table}"  # noqa: S608 -- names from above
            f" WHERE {where} AND begins_at_ms >= {{from:Int64}} AND begins_at_ms < {{to:Int64}}"
            " GROUP BY begins, grouped ORDER BY begins, grouped LIMIT {limit:UInt64}"
        )
        return statement, values

    def sketches(self, interval: Interval, *, by: Dimension | None, limit: int, days: Sequence[int]) -> Statement:
        """Ask for begin, group, bucket and count, in order; labels are none of the sketches' dimensions."""
        begins = "begins_at_ms"
        if interval is Interval.DAY:
            begins = _DAYS if days else _DAY
        group = _COLUMN_OF[by] if by else "''"
        where, values = self._inside("latencies")
        values |= self._span(limit, days)
        statement = (
            f"SELECT {begins} AS begins, {group} AS grouped, bucket, sum(calls) FROM @latencies"  # noqa: S608 -- names from above
            f" WHERE {where} AND begins_at_ms >= {{from:Int64}} AND begins_at_ms < {{to:Int64}}"
            " GROUP BY begins, grouped, bucket ORDER BY begins, grouped, bucket LIMIT {limit:UInt64}"
        )
        return statement, values

    def sums(self, by: Dimension, *, limit: int) -> Statement | None:
        """Ask for group and sums of the span, the most calls first; None when no interval begins in it."""
        pieces, values = [], {"limit": limit}
        named = f" AND {_COLUMN_OF[by]} != ''" if by in RANKED_BY_NAME else ""
        for number, part in enumerate(self._parts(by)):
            table = self._table(part.interval, by)
            where, bound = self._inside(table)
            values |= bound | {f"from{number}": part.begin_ms, f"to{number}": part.end_ms}
            pieces.append(
                f"SELECT {_COLUMN_OF[by]} AS grouped, calls, cost, outcomes, errors FROM @{table}"  # noqa: S608 -- names from above
                f" WHERE {where} AND begins_at_ms >= {{from{number}:Int64}} AND begins_at_ms < {{to{number}:Int64}}"
                f"{named}"
            )
        if not pieces:
            return None
        statement = (
            f"SELECT grouped, {_SUMS} FROM ({' UNION ALL '.join(pieces)})"  # noqa: S608 -- names from above
            " GROUP BY grouped ORDER BY sum(calls) DESC, grouped LIMIT {limit:UInt64}"
        )
        return statement, values

    def last_valid(self) -> Statement | None:
        """Ask for moment, address and operation of the last valid call of the span; None when there can be none."""
        if self.wanted.code not in {None, VALID_NUMBER}:
            return None
        minute_ms = INTERVAL_MS[Interval.MINUTE]
        where, values = self._inside("calls")
        values |= {
            "from": ceiling(self.wanted.from_ms, minute_ms),
            "to": ceiling(self.wanted.to_ms, minute_ms),
            "valid": VALID_NUMBER,
        }
        statement = (
            f"SELECT at_ms, client_ip, operation FROM @calls WHERE {where} AND code = {{valid:UInt8}}"  # noqa: S608 -- names from above
            " AND at_ms >= {from:Int64} AND at_ms < {to:Int64} ORDER BY at_ms DESC, verification_id DESC LIMIT 1"
        )
        return statement, values

    def calls(self, request: PageRequest) -> Statement:
        """Ask for one page of raw calls, and one more."""
        where, values = self._inside("calls")
        values |= self._span(request.size + 1, ())
        way, beyond = ("ASC", ">") if request.ascending else ("DESC", "<")
        after = ""
        if request.position:
            values |= {"after_ms": int(request.position[0]), "after_id": request.position[1]}
            after = f" AND (at_ms, verification_id) {beyond} ({{after_ms:Int64}}, {{after_id:String}})"
        statement = (
            f"SELECT {_CALL_COLUMNS} FROM @calls WHERE {where}"  # noqa: S608 -- names from above
            f" AND at_ms >= {{from:Int64}} AND at_ms < {{to:Int64}}{after}"
            f" ORDER BY at_ms {way}, verification_id {way} LIMIT {{limit:UInt64}}"
        )
        return statement, values

    def secret_uses(self) -> Statement:
        """Ask for secret, all its calls, and its most frequent addresses, by secret."""
        where, values = self._inside("calls")
        values |= self._span(ADDRESSES_MAX, ())
        statement = (
            "SELECT secret_id, sum(times), arraySlice(arrayMap(it -> it.2,"  # noqa: S608 -- names from above
            " arraySort(groupArrayIf((-toInt64(times), client_ip), client_ip != ''))), 1, {limit:UInt64})"
            f" FROM (SELECT secret_id, client_ip, count() AS times FROM @calls WHERE {where}"
            " AND at_ms >= {from:Int64} AND at_ms < {to:Int64} GROUP BY secret_id, client_ip)"
            " GROUP BY secret_id ORDER BY secret_id"
        )
        return statement, values

    def _span(self, limit: int, days: Sequence[int]) -> dict[str, Any]:
        """Return the values of a statement that names a span; what is before the first day is in none of them."""
        from_ms = max(self.wanted.from_ms, *days[:1], 0)
        return {"from": from_ms, "to": self.wanted.to_ms, "limit": limit, "days": list(days)}

    def _parts(self, by: Dimension) -> Sequence[Part]:
        if self._table(Interval.HOUR, by) != _TAGS:
            return [*parts(self.wanted.from_ms, self.wanted.to_ms)]
        hour_ms = INTERVAL_MS[Interval.HOUR]
        whole = Part(Interval.HOUR, self.wanted.from_ms // hour_ms * hour_ms, self.wanted.to_ms)
        return [whole] if whole.begin_ms < whole.end_ms else []

    def _table(self, interval: Interval, by: Dimension | None) -> str:
        """Return the table whose sums answer; labels are summed by hours alone."""
        return _TAGS if self.wanted.tag or by is Dimension.TAG else f"usage_{interval}s"

    def _inside(self, table: str) -> Statement:
        """Say what is inside the walls and what the filter asks for, times aside."""
        wanted = self.wanted
        terms = ["workspace_id = {workspace:String}"]
        values: dict[str, Any] = {"workspace": self._walls.demand_workspace()}
        if self._walls.environments is not None:
            terms.append("has({environments:Array(String)}, environment)")
            values["environments"] = sorted(self._walls.environments)
        for name in ("key_id", "secret_id", "owner_id"):
            if getattr(wanted, name):
                terms.append(f"{name} = {{{name}:String}}")
                values[name] = getattr(wanted, name)
        if wanted.operation is not None:
            terms.append("operation = {operation:String}")
            values["operation"] = countable(wanted.operation)
        if wanted.code is not None:
            terms.append("code = {code:UInt8}")
            values["code"] = wanted.code
        if wanted.tag:
            terms.append("has(tags, {tag:String})" if table == "calls" else "tag = {tag:String}")
            values["tag"] = wanted.tag
        return " AND ".join(terms), values


def points_of(rows: Sequence[Row]) -> list[Point]:
    """Make points of rows that say begin, group and sums; a code is its number, as text."""
    return [Point(int(row[0]), str(row[1]), *map(int, row[2:])) for row in rows]


def latency_points_of(rows: Sequence[Row]) -> list[LatencyPoint]:
    """Make points of rows that say begin, group, bucket and count, in order."""
    return [
        LatencyPoint(begins_at_ms, str(group), {int(row[2]): int(row[3]) for row in buckets})
        for (begins_at_ms, group), buckets in groupby(rows, key=lambda row: (int(row[0]), row[1]))
    ]


def call_of(row: Row) -> Call:
    """Make a call of a row in the order of ``CALL_TYPES``."""
    workspace_id, environment, at_ms, verification_id, key_id, secret_id, owner_id, *said, tags = row
    operation, code, cost, client_ip, scope_expression = said
    subject = Subject(workspace_id, environment, key_id, secret_id, owner_id)
    return Call(verification_id, at_ms, subject, code, cost, operation, client_ip, scope_expression, tuple(tags))
