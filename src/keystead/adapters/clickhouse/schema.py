"""The tables in ClickHouse, and what fills them.

A stretch arrives as one block in a table that keeps nothing; views hand its rows on to the raw calls and to the sums,
so nothing is sent twice. Each stretch brings a mark, a row which belongs to no workspace: it reaches every table of
sums in the very part that holds the stretch's sums, so a table has both or neither, and can be asked which. For that
the sums are not partitioned: a block is one part.

``targets`` of a row says which tables it is for, one bit each, so a stretch that reached only some of them before a
process died can be sent to the others alone.

How calls ended, and attempts, come in the same way through tables of their own and leave their marks as well.
"""

from __future__ import annotations

from keystead.adapters.clickhouse.connection import Lane, Target, UsageStoreError
from keystead.usage.model import ERROR_STATUS, INTERVAL_MS, VALID_NUMBER, Interval
from keystead.usage.retention import Retention

VERSION = 2

CALLS_TARGET = 1
SUM_TARGETS = {"usage_minutes": 2, "usage_hours": 4, "usage_days": 8, "usage_tags": 16}
"""The bits of ``targets``."""

CALL_TYPES = {
    "workspace_id": "LowCardinality(String)",
    "environment": "LowCardinality(String)",
    "at_ms": "Int64",
    "verification_id": "String",
    "key_id": "String",
    "secret_id": "String",
    "owner_id": "String",
    "operation": "LowCardinality(String)",
    "code": "UInt8",
    "cost": "UInt32",
    "client_ip": "String",
    "scope_expression": "LowCardinality(String)",
    "tags": "Array(String)",
}
ARRIVAL_TYPES = {**CALL_TYPES, "targets": "UInt8"}

ENDINGS_TARGET = 1
ENDING_SUM_TARGETS = {**SUM_TARGETS, "latencies": 32}
ATTEMPT_SUM_TARGETS = {"usage_minutes": 2, "usage_hours": 4, "usage_days": 8, "attempts": 16}
"""As ``SUM_TARGETS``, of ``ending_arrivals`` and of ``attempt_arrivals``."""

CALL_ENDING_TYPES = {
    "workspace_id": "LowCardinality(String)",
    "at_ms": "Int64",
    "verification_id": "String",
    "http_status": "UInt16",
    "latency_us": "Nullable(Int64)",
}
_CALLED = ("environment", "key_id", "secret_id", "owner_id", "operation", "code", "tags")
ENDED_CALL_TYPES = {name: CALL_TYPES[name] for name in ("workspace_id", "at_ms", "verification_id", *_CALLED)}
# A bucket of -1 is no latency.
ENDING_ARRIVAL_TYPES = {**CALL_ENDING_TYPES, **ENDED_CALL_TYPES, "bucket": "Int16", "targets": "UInt8"}

ATTEMPT_TYPES = {
    "workspace_id": "LowCardinality(String)",
    "minute_ms": "Int64",
    "environment": "LowCardinality(String)",
    "brand": "LowCardinality(String)",
    "secret_environment": "LowCardinality(String)",
    "code": "UInt8",
    "client_ip": "String",
    "count": "UInt64",
    "first_at_ms": "Int64",
    "last_at_ms": "Int64",
}
ATTEMPT_ARRIVAL_TYPES = {**ATTEMPT_TYPES, "targets": "UInt8"}

_CELL = ("workspace_id", "key_id", "begins_at_ms", "environment", "secret_id", "owner_id", "operation", "code")
_SUMS = ("calls", "cost", "outcomes", "errors")
_SUM_TYPES = {name: CALL_TYPES[name] for name in _CELL if name != "begins_at_ms"} | {
    "begins_at_ms": "Int64 CODEC(DoubleDelta, ZSTD(1))",
    "tag": "LowCardinality(String)",
    **dict.fromkeys(_SUMS, "UInt64"),
}

# So many inserts back a stretch that comes again is known again without looking; and what is stored is on the disk.
_KEPT = "non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1"

# An outcome names its call by workspace, time and id, and not by the key that comes first in the table.
_BY_TIME = (
    "ALTER TABLE @calls ADD PROJECTION IF NOT EXISTS by_time"
    " (SELECT _part_offset ORDER BY workspace_id, at_ms, verification_id)"
)

# Who opened a journal, when it was reported last by ClickHouse's clock, and whether it was given up.
_LOST_JOURNALS = (
    "ALTER TABLE @journals ADD COLUMN IF NOT EXISTS node String, ADD COLUMN IF NOT EXISTS seen_at_ms Int64,"
    " ADD COLUMN IF NOT EXISTS lost UInt8"
)


def statements() -> list[str]:
    """Return what makes everything that is not there yet, in order."""
    return [
        "CREATE TABLE IF NOT EXISTS @schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version",
        _journals(),
        _LOST_JOURNALS,
        f"CREATE TABLE IF NOT EXISTS @arrivals ({_columns(ARRIVAL_TYPES)}) ENGINE = Null",
        _calls(),
        _view("calls", _raw()),
        *[it for interval in Interval for it in _sums_by(interval)],
        _sums_table("usage_tags", ("workspace_id", "tag", *_CELL[1:])),
        _view("usage_tags", _summed("usage_tags", Interval.HOUR, tag=True)),
        *_used_expressions(),
        _latencies(),
        _BY_TIME,
        *_endings(),
        *_attempts(),
    ]


def make(lane: Lane, target: Target, retention: Retention | None) -> None:
    """Bring the schema to this version; does nothing when it is there. Only inside ``run``.

    What is older than ``retention`` is deleted some time after; without it nothing is.
    """
    lane.command(f"CREATE DATABASE IF NOT EXISTS {target.database}")
    for statement in statements():
        lane.command(statement)
    if retention is not None:
        for statement in expiries(retention):
            lane.command(statement)
    if _version(lane) < VERSION:
        lane.insert("schema_versions", {"version": [VERSION]}, {"version": "UInt32"})


def check(lane: Lane, target: Target) -> None:
    """Raise ``UsageStoreError`` unless the schema is this version's. Only inside ``run``."""
    found = _version(lane) if _exists(lane, target) else 0
    if found < VERSION:
        raise UsageStoreError("its schema is not this version's; run `keystead migrate`")
    if found > VERSION:
        raise UsageStoreError("a newer version ran `keystead migrate`; use that version")


def expiries(retention: Retention) -> list[str]:
    """Return what makes each table forget whole days of UTC; sums by the day are kept for ever."""
    hours_days = max(retention.hours_days, retention.minutes_days)
    return [
        _expiry("calls", "at_ms", retention.calls_days),
        # A day longer than its call, so that a call which can still be ended is known to have ended.
        _expiry("call_endings", "at_ms", retention.calls_days + 1),
        _expiry("usage_minutes", "begins_at_ms", retention.minutes_days),
        _expiry("attempts", "minute_ms", retention.minutes_days),
        *[_expiry(table, "begins_at_ms", hours_days) for table in ("usage_hours", "usage_tags", "latencies")],
    ]


def _version(lane: Lane) -> int:
    return int(lane.rows("SELECT max(version) FROM @schema_versions")[0][0])


def _exists(lane: Lane, target: Target) -> bool:
    asked = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_versions'"
    return bool(lane.rows(asked, {"database": target.database})[0][0])


def _journals() -> str:
    """A journal is one row that is replaced by its next version."""
    return (
        "CREATE TABLE IF NOT EXISTS @journals (id String, version UInt64, registered_at_ms Int64, counted_to UInt64,"
        " complete_until_ms Int64, attempts_counted_to UInt64, closed UInt8)"
        " ENGINE = ReplacingMergeTree(version) ORDER BY id SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )


def _calls() -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS @calls ({_columns(CALL_TYPES)})"
        " ENGINE = MergeTree PARTITION BY toYYYYMMDD(fromUnixTimestamp64Milli(at_ms, 'UTC'))"
        " ORDER BY (workspace_id, key_id, at_ms, verification_id)"
        f" SETTINGS {_KEPT}, ttl_only_drop_parts = 1"
    )


def _raw() -> str:
    return (
        f"SELECT {', '.join(CALL_TYPES)} FROM @arrivals"  # noqa: S608 -- names from above
        f" WHERE bitAnd(targets, {CALLS_TARGET}) != 0"
    )


def _sums_by(interval: Interval) -> tuple[str, str]:
    table = f"usage_{interval}s"
    return _sums_table(table, _CELL), _view(table, _summed(table, interval))


def _sums_table(table: str, key: tuple[str, ...]) -> str:
    types = {name: _SUM_TYPES[name] for name in (*key, *_SUMS)}
    return (
        f"CREATE TABLE IF NOT EXISTS @{table} ({_columns(types)}, INDEX by_time begins_at_ms TYPE minmax)"
        f" ENGINE = SummingMergeTree(({', '.join(_SUMS)})) ORDER BY ({', '.join(key)}) SETTINGS {_KEPT}"
    )


def _summed(table: str, interval: Interval, *, tag: bool = False) -> str:
    """Sum the arrivals, with their marks; the names of columns of arrivals and of sums are the same where they can."""
    step_ms = INTERVAL_MS[interval]
    labels = ", arrayJoin(tags) AS tag" if tag else ""
    others = ", ".join(name for name in _CELL if name != "begins_at_ms")
    keys = f"begins_at_ms, {others}{', tag' if tag else ''}"
    return (
        f"SELECT {keys}, count() AS calls, sum(spent) AS cost, 0 AS outcomes, 0 AS errors FROM"  # noqa: S608 -- names from above
        f" (SELECT intDiv(at_ms, {step_ms}) * {step_ms} AS begins_at_ms, {others}, cost AS spent{labels}"
        f" FROM @arrivals WHERE bitAnd(targets, {SUM_TARGETS[table]}) != 0) GROUP BY {keys}"
    )


def _used_expressions() -> tuple[str, str]:
    """The greatest hour stays, however often it comes, so this table needs no mark."""
    hour_ms = INTERVAL_MS[Interval.HOUR]
    table = (
        "CREATE TABLE IF NOT EXISTS @used_expressions (workspace_id LowCardinality(String), key_id String,"
        " scope_expression String, last_used_at_ms SimpleAggregateFunction(max, Int64)) ENGINE = AggregatingMergeTree"
        f" ORDER BY (workspace_id, key_id, scope_expression) SETTINGS {_KEPT}"
    )
    uses = (
        f"SELECT workspace_id, key_id, scope_expression, max(intDiv(at_ms, {hour_ms}) * {hour_ms}) AS last_used_at_ms"  # noqa: S608 -- numbers from above
        f" FROM @arrivals WHERE code = {VALID_NUMBER} AND workspace_id != ''"
        " GROUP BY workspace_id, key_id, scope_expression"
    )
    return table, _view("used_expressions", uses)


def _latencies() -> str:
    """Sketches of how long answers took, by hour: how many fell into a bucket."""
    types = {name: _SUM_TYPES[name] for name in _CELL} | {"bucket": "Int16", "calls": "UInt64"}
    return (
        f"CREATE TABLE IF NOT EXISTS @latencies ({_columns(types)}) ENGINE = SummingMergeTree((calls))"
        f" ORDER BY ({', '.join(_CELL)}, bucket) SETTINGS {_KEPT}"
    )


def _endings() -> list[str]:
    """How single calls ended, by day like the calls, and what that adds to the sums of the calls."""
    cell = ", ".join(name for name in _CELL if name != "begins_at_ms")
    ended = (
        f"CREATE TABLE IF NOT EXISTS @call_endings ({_columns(CALL_ENDING_TYPES)})"
        " ENGINE = MergeTree PARTITION BY toYYYYMMDD(fromUnixTimestamp64Milli(at_ms, 'UTC'))"
        f" ORDER BY (workspace_id, at_ms, verification_id) SETTINGS {_KEPT}, ttl_only_drop_parts = 1"
    )
    raw = (
        f"SELECT {', '.join(CALL_ENDING_TYPES)} FROM @ending_arrivals"  # noqa: S608 -- names from above
        f" WHERE bitAnd(targets, {ENDINGS_TARGET}) != 0"
    )
    hour_ms = INTERVAL_MS[Interval.HOUR]
    sketched = (
        f"SELECT intDiv(at_ms, {hour_ms}) * {hour_ms} AS begins_at_ms, {cell}, bucket, count() AS calls"  # noqa: S608 -- names from above
        f" FROM @ending_arrivals WHERE bitAnd(targets, {ENDING_SUM_TARGETS['latencies']}) != 0 AND bucket >= 0"
        f" GROUP BY begins_at_ms, {cell}, bucket"
    )
    return [
        f"CREATE TABLE IF NOT EXISTS @ending_arrivals ({_columns(ENDING_ARRIVAL_TYPES)}) ENGINE = Null",
        ended,
        _view("call_endings", raw),
        *[_view(f"usage_{it}s", _ended(f"usage_{it}s", it), by="endings") for it in Interval],
        _view("usage_tags", _ended("usage_tags", Interval.HOUR, tag=True), by="endings"),
        _view("latencies", sketched),
    ]


def _ended(table: str, interval: Interval, *, tag: bool = False) -> str:
    step_ms = INTERVAL_MS[interval]
    labels = ", arrayJoin(tags) AS tag" if tag else ""
    others = ", ".join(name for name in _CELL if name != "begins_at_ms")
    keys = f"begins_at_ms, {others}{', tag' if tag else ''}"
    return (
        f"SELECT {keys}, 0 AS calls, 0 AS cost, count() AS outcomes, countIf(http_status >= {ERROR_STATUS}) AS errors"  # noqa: S608 -- names from above
        f" FROM (SELECT intDiv(at_ms, {step_ms}) * {step_ms} AS begins_at_ms, {others}, http_status{labels}"
        f" FROM @ending_arrivals WHERE bitAnd(targets, {SUM_TARGETS[table]}) != 0) GROUP BY {keys}"
    )


def _attempts() -> list[str]:
    """Verdicts about no key by group and minute, and as calls of no key in the sums; their marks name a page there."""
    group = ", ".join(name for name in ATTEMPT_TYPES if name not in {"count", "first_at_ms", "last_at_ms"})
    table = (
        f"CREATE TABLE IF NOT EXISTS @attempts ({_columns({it: ATTEMPT_TYPES[it] for it in group.split(', ')})},"
        " count SimpleAggregateFunction(sum, UInt64), first_at_ms SimpleAggregateFunction(min, Int64),"
        " last_at_ms SimpleAggregateFunction(max, Int64))"
        f" ENGINE = AggregatingMergeTree ORDER BY ({group}) SETTINGS {_KEPT}"
    )
    grouped = (
        f"SELECT {group}, sum(counted) AS count, min(first_ms) AS first_at_ms, max(last_ms) AS last_at_ms FROM"  # noqa: S608 -- names from above
        f" (SELECT {group}, count AS counted, first_at_ms AS first_ms, last_at_ms AS last_ms FROM @attempt_arrivals"
        f" WHERE bitAnd(targets, {ATTEMPT_SUM_TARGETS['attempts']}) != 0) GROUP BY {group}"
    )
    return [
        f"CREATE TABLE IF NOT EXISTS @attempt_arrivals ({_columns(ATTEMPT_ARRIVAL_TYPES)}) ENGINE = Null",
        table,
        _view("attempts", grouped),
        *[_view(f"usage_{it}s", _attempted(f"usage_{it}s", it), by="attempts") for it in Interval],
    ]


def _attempted(table: str, interval: Interval) -> str:
    step_ms = INTERVAL_MS[interval]
    return (
        "SELECT workspace_id, key_id, begins_at_ms, environment, '' AS secret_id, '' AS owner_id, operation, code,"  # noqa: S608 -- names from above
        " sum(counted) AS calls, 0 AS cost, 0 AS outcomes, 0 AS errors FROM"
        f" (SELECT workspace_id, if(workspace_id = '', toString(brand), '') AS key_id,"
        f" intDiv(minute_ms, {step_ms}) * {step_ms} AS begins_at_ms, environment,"
        " if(workspace_id = '', client_ip, '') AS operation, code, count AS counted FROM @attempt_arrivals"
        f" WHERE bitAnd(targets, {ATTEMPT_SUM_TARGETS[table]}) != 0)"
        " GROUP BY workspace_id, key_id, begins_at_ms, environment, operation, code"
    )


def _view(table: str, select: str, *, by: str = "") -> str:
    """Fill ``table`` by a view, of which it may have several."""
    name = f"{table}_filled{f'_by_{by}' if by else ''}"
    return f"CREATE MATERIALIZED VIEW IF NOT EXISTS @{name} TO @{table} AS {select}"


def _expiry(table: str, column: str, days: int) -> str:
    """Keep the day under way and ``days`` before it."""
    day = f"toStartOfDay(fromUnixTimestamp64Milli({column}, 'UTC'))"
    return f"ALTER TABLE @{table} MODIFY TTL toDateTime({day}) + INTERVAL {days + 1} DAY"


def _columns(types: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in types.items())
