"""A stretch of a journal on its way into the tables, each of which gets it once.

The marks are what makes that certain. The sums have one, the raw calls one for each day, since days are parts of their
own; so whatever was stored of a stretch can be told from what was not, however long ago a process died over it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from keystead.adapters.clickhouse.connection import Lane
from keystead.adapters.clickhouse.schema import ARRIVAL_TYPES, CALLS_TARGET, SUM_TARGETS
from keystead.adapters.texts import COUNTED_TEXT_CHARACTERS_MAX, SCOPES_CHARACTERS_MAX, countable
from keystead.kernel.errors import UnavailableError
from keystead.usage.model import INTERVAL_MS, Interval, Stretch

_DAY_MS = INTERVAL_MS[Interval.DAY]
_TRIES_MAX = 3
_ALL_SUMS = sum(SUM_TARGETS.values())

_MARK = "workspace_id = '' AND key_id = {journal:String} AND operation = {place:String}"
_MARKS_OF_SUMS = " UNION ALL ".join(
    f"SELECT {target} FROM @{table} WHERE {_MARK}{' AND tag = {tag:String}' * (table == 'usage_tags')} LIMIT 1"  # noqa: S608 -- constants
    for table, target in SUM_TARGETS.items()
)
_MARKS_OF_DAYS = f"SELECT at_ms FROM @calls WHERE {_MARK} AND has({{days:Array(Int64)}}, at_ms)"  # noqa: S608 -- constants


def insert_whole(lane: Lane, stretch: Stretch) -> None:
    """Insert a stretch that was never tried before. Only inside ``run``."""
    lane.insert("arrivals", _columns(stretch, _days(stretch), _ALL_SUMS), ARRIVAL_TYPES, token=_name(stretch))


def insert_lacking(lane: Lane, stretch: Stretch) -> None:
    """Send a stretch to the tables that lack it, until none does. Only inside ``run``.

    The first time under its own token, so that nothing is stored twice when the try before is still under way. Should
    ClickHouse have noted the token and lost the rows, the next time brings them under another.
    """
    token = _name(stretch)
    for _ in range(_TRIES_MAX):
        days, sums = _lacking(lane, stretch)
        if not days and not sums:
            return
        if days != _days(stretch) or sums != _ALL_SUMS:
            token = f"{_name(stretch)}:{secrets.token_hex(8)}"
        lane.insert("arrivals", _columns(stretch, days, sums), ARRIVAL_TYPES, token=token)
        token = f"{_name(stretch)}:{secrets.token_hex(8)}"
    if any(_lacking(lane, stretch)):
        raise UnavailableError("The usage store does not keep what it is given; try again.")


def _lacking(lane: Lane, stretch: Stretch) -> tuple[set[int], int]:
    """Return the days whose raw calls are not there, and the bits of the tables of sums that lack the stretch."""
    days = _days(stretch)
    mark = {"journal": stretch.journal_id, "place": str(stretch.begin), "tag": ""}
    there = {row[0] for row in lane.rows(_MARKS_OF_DAYS, {**mark, "days": sorted(days)})}
    sums = sum(row[0] for row in lane.rows(_MARKS_OF_SUMS, mark))
    return days - there, _ALL_SUMS - sums


def _days(stretch: Stretch) -> set[int]:
    return {it.at_ms - it.at_ms % _DAY_MS for it in stretch.calls}


def _columns(stretch: Stretch, days: set[int], sums: int) -> dict[str, Sequence[Any]]:
    """Return a stretch as columns, for the raw calls of ``days`` and the tables of ``sums``, with its marks."""
    calls = stretch.calls
    subjects = [it.subject for it in calls]
    moments = [it.at_ms for it in calls]
    marked = [*sorted(days), max(moments)]
    none = [""] * len(marked)
    return {
        "workspace_id": [*[it.workspace_id for it in subjects], *none],
        "environment": [*[it.environment for it in subjects], *none],
        "at_ms": [*moments, *marked],
        "verification_id": [*[it.verification_id for it in calls], *none],
        "key_id": [*[it.key_id for it in subjects], *[stretch.journal_id] * len(marked)],
        "secret_id": [*[it.secret_id for it in subjects], *none],
        "owner_id": [*[it.owner_id for it in subjects], *none],
        "operation": [*_countable([it.operation for it in calls]), *[str(stretch.begin)] * len(marked)],
        "code": [*[it.code for it in calls], *[0] * len(marked)],
        "cost": [*[it.cost for it in calls], *[0] * len(marked)],
        "client_ip": [*_countable([it.client_ip for it in calls]), *none],
        "scope_expression": [*_countable([it.scope_expression for it in calls], SCOPES_CHARACTERS_MAX), *none],
        "tags": [*_labels([it.tags for it in calls]), *[[""]] * len(marked)],
        "targets": [
            *[sums + CALLS_TARGET * (it - it % _DAY_MS in days) for it in moments],
            *[CALLS_TARGET] * len(days),
            sums,
        ],
    }


def _countable(texts: Sequence[str], at_most: int = COUNTED_TEXT_CHARACTERS_MAX) -> list[str]:
    """Shorten texts, looking at each that comes again and again once."""
    short = {it: countable(it, at_most) for it in set(texts)}
    return [short[it] for it in texts]


def _labels(tags: Sequence[tuple[str, ...]]) -> list[list[str]]:
    short = {it: [countable(tag) for tag in it] for it in set(tags)}
    return [short[it] for it in tags]


def _name(stretch: Stretch) -> str:
    return f"{stretch.journal_id}:{stretch.begin}:{stretch.end}"
