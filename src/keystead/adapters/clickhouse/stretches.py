"""A stretch of a journal as a parcel: its calls as columns, with the marks that name its journal and its place."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.adapters.clickhouse.parcels import Columns, Parcel, Route, day_of
from keystead.adapters.clickhouse.schema import ARRIVAL_TYPES, CALLS_TARGET, SUM_TARGETS
from keystead.adapters.texts import COUNTED_TEXT_CHARACTERS_MAX, SCOPES_CHARACTERS_MAX, countable
from keystead.usage.model import Stretch

_ROUTE = Route("arrivals", ARRIVAL_TYPES, SUM_TARGETS, singles="calls")


def parcel_of(stretch: Stretch) -> Parcel:
    """Make the parcel of a stretch with calls."""
    return Parcel(
        _ROUTE,
        sender=stretch.journal_id,
        place=str(stretch.begin),
        token=f"{stretch.journal_id}:{stretch.begin}:{stretch.end}",
        days=frozenset(day_of(it.at_ms) for it in stretch.calls),
        columns=lambda days, sums: _columns(stretch, days, sums),
    )


def _columns(stretch: Stretch, days: frozenset[int], sums: int) -> Columns:
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
            *[sums + CALLS_TARGET * (day_of(it) in days) for it in moments],
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
