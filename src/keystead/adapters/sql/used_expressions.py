"""What keys asked for, in SQL: read by key from the table that the counting of usage keeps up to date.

Uses are noted by the hour in which they were, so the question is asked by the hour too: what was used in the hour of
``since_ms`` counts as used since then, and nothing is ever called unused that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select

from keystead.adapters.sql import usage_schema
from keystead.adapters.walls import Walls
from keystead.usage.model import INTERVAL_MS, Interval

_USED = usage_schema.used_expressions


def question(walls: Walls, key_ids: Sequence[str], *, since_ms: int) -> Select[Any]:
    """Ask for key and expression, each pair once."""
    hour_ms = since_ms - since_ms % INTERVAL_MS[Interval.HOUR]
    return select(_USED.c.key_id, _USED.c.scope_expression).where(
        _USED.c.workspace_id == walls.demand_workspace(),
        _USED.c.key_id.in_(key_ids),
        _USED.c.last_used_at_ms >= hour_ms,
    )


def by_key(rows: Sequence[Sequence[Any]]) -> Mapping[str, frozenset[str]]:
    """Gather the expressions of each key."""
    found: dict[str, set[str]] = {}
    for key_id, expression in rows:
        found.setdefault(key_id, set()).add(expression)
    return {key_id: frozenset(expressions) for key_id, expressions in found.items()}
