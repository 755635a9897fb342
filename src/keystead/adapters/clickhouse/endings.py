"""How calls ended, in ClickHouse: a batch of outcomes as a parcel, and what is asked of single calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keystead.adapters.clickhouse.connection import Lane, Row
from keystead.adapters.clickhouse.parcels import Columns, Parcel, Route, day_of
from keystead.adapters.clickhouse.schema import (
    ENDED_CALL_TYPES,
    ENDING_ARRIVAL_TYPES,
    ENDING_SUM_TARGETS,
    ENDINGS_TARGET,
)
from keystead.adapters.endings import Batch
from keystead.usage.latency import bucket_of

# So many calls are looked for in one question, which must fit into an address.
_LOOKED_FOR_AT_ONCE = 500
_NAMED = "(workspace_id, at_ms, verification_id) IN {calls:Array(Tuple(String, Int64, String))}"
_CALLS = f"SELECT {', '.join(ENDED_CALL_TYPES)} FROM @calls WHERE {_NAMED}"  # noqa: S608 -- constants
_ENDINGS = f"SELECT workspace_id, at_ms, verification_id, http_status, latency_us FROM @call_endings WHERE {_NAMED}"  # noqa: S608 -- constants
_NO_LATENCY = -1

_ROUTE = Route("ending_arrivals", ENDING_ARRIVAL_TYPES, ENDING_SUM_TARGETS, singles="call_endings")

CallName = tuple[str, int, str]
"""Which call: its workspace, its time in milliseconds, and its verification id."""


def called(lane: Lane, names: Sequence[CallName]) -> dict[CallName, Row]:
    """Return those of ``names`` that are counted, as rows in the order of ``ENDED_CALL_TYPES``. Only inside ``run``."""
    return {(row[0], row[1], row[2]): row for row in _asked(lane, _CALLS, names)}


def ended(lane: Lane, names: Sequence[CallName]) -> dict[CallName, tuple[int, int | None]]:
    """Return how those of ``names`` ended of which that is known: status and latency in µs. Only inside ``run``."""
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in _asked(lane, _ENDINGS, names)}


def parcel_of(batch: Batch) -> Parcel:
    """Make the parcel of a batch with endings."""
    return Parcel(
        _ROUTE,
        sender=batch.id,
        place="",
        token=batch.id,
        days=frozenset(day_of(it.at_ms) for it in batch.endings),
        columns=lambda days, sums: _columns(batch, days, sums),
    )


def _asked(lane: Lane, statement: str, names: Sequence[CallName]) -> Iterator[Row]:
    for start in range(0, len(names), _LOOKED_FOR_AT_ONCE):
        yield from lane.rows(statement, {"calls": list(names[start : start + _LOOKED_FOR_AT_ONCE])})


def _columns(batch: Batch, days: frozenset[int], sums: int) -> Columns:
    """Return a batch as columns, for the single rows of ``days`` and the tables of ``sums``, with its marks."""
    rows = batch.endings
    marked = [*sorted(days), max(it.at_ms for it in rows)]
    none = [""] * len(marked)
    zeros = [0] * len(marked)
    # A mark's latency is in the first bucket, for it must reach the sketches too.
    buckets = [_NO_LATENCY if it.latency_us is None else bucket_of(it.latency_us) for it in rows]
    return {
        "workspace_id": [*[it.workspace_id for it in rows], *none],
        "at_ms": [*[it.at_ms for it in rows], *marked],
        "verification_id": [*[it.verification_id for it in rows], *[batch.id] * len(marked)],
        "http_status": [*[it.http_status for it in rows], *zeros],
        "latency_us": [*[it.latency_us for it in rows], *[None] * len(marked)],
        "environment": [*[it.environment for it in rows], *none],
        "key_id": [*[it.key_id for it in rows], *[batch.id] * len(marked)],
        "secret_id": [*[it.secret_id for it in rows], *none],
        "owner_id": [*[it.owner_id for it in rows], *none],
        "operation": [*[it.operation for it in rows], *none],
        "code": [*[it.code for it in rows], *zeros],
        "tags": [*[list(it.tags) for it in rows], *[[""]] * len(marked)],
        "bucket": [*buckets, *zeros],
        "targets": [
            *[sums + ENDINGS_TARGET * (day_of(it.at_ms) in days) for it in rows],
            *[ENDINGS_TARGET] * len(days),
            sums,
        ],
    }
