"""The questions of the ledger as SQL: sums of usage beside sums of what was told, in one statement, as of one moment.

Sums by hour answer them, those of labels for a meter of one. The workspaces are found by hopping from one to the next,
so a span of hours is read workspace by workspace and nothing else is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Text, TextClause, bindparam, text

from keystead.usage.meters import KnownMeter
from keystead.usage.model import VALID_NUMBER

_GAPS = """
WITH RECURSIVE places(id) AS (
  SELECT min(workspace_id) FROM {table}
  UNION ALL
  SELECT (SELECT min(hop.workspace_id) FROM {table} AS hop WHERE hop.workspace_id > places.id)
    FROM places WHERE places.id IS NOT NULL
), sums AS (
  SELECT used.workspace_id, used.environment, used.owner_id, used.begins_at_ms,
         sum(used.{counted}) AS used, 0 AS told, 0 AS revisions
    FROM places CROSS JOIN {table} AS used
   WHERE used.workspace_id = places.id AND used.begins_at_ms >= :from_ms AND used.begins_at_ms < :to_ms{narrowed}
     AND +used.begins_at_ms >= (SELECT since_ms FROM entitlement_meters WHERE name = :meter)
   GROUP BY used.workspace_id, used.environment, used.owner_id, used.begins_at_ms
  UNION ALL
  SELECT told.workspace_id, told.environment, told.owner_id, told.begins_at_ms, 0, sum(told.value), count(*)
    FROM places CROSS JOIN entitlement_events AS told
   WHERE told.workspace_id = places.id AND told.meter = :meter
     AND told.begins_at_ms >= :from_ms AND told.begins_at_ms < :to_ms
   GROUP BY told.workspace_id, told.environment, told.owner_id, told.begins_at_ms
)
SELECT workspace_id, environment, owner_id, begins_at_ms, sum(used), sum(told), sum(revisions)
  FROM sums
 GROUP BY workspace_id, environment, owner_id, begins_at_ms
HAVING sum(used) > sum(told)
 ORDER BY begins_at_ms, workspace_id, environment, owner_id
 LIMIT :at_most
"""

_COMPARISON = """
SELECT owner_id, environment, sum(used), sum(acknowledged), sum(pending) FROM (
  SELECT used.owner_id, used.environment, sum(used.{counted}) AS used, 0 AS acknowledged, 0 AS pending
    FROM {table} AS used
   WHERE used.workspace_id = :workspace_id AND used.environment IN :environments
     AND used.begins_at_ms >= :from_ms AND used.begins_at_ms < :to_ms{narrowed}{owned}
   GROUP BY used.owner_id, used.environment
  UNION ALL
  SELECT used.owner_id, used.environment, 0,
         sum(CASE WHEN used.acknowledged_at_ms IS NULL THEN 0 ELSE used.value END),
         sum(CASE WHEN used.acknowledged_at_ms IS NULL THEN used.value ELSE 0 END)
    FROM entitlement_events AS used
   WHERE used.workspace_id = :workspace_id AND used.environment IN :environments AND used.meter = :meter
     AND used.begins_at_ms >= :from_ms AND used.begins_at_ms < :to_ms{owned}
   GROUP BY used.owner_id, used.environment
) AS sums
 GROUP BY owner_id, environment
{having}
 ORDER BY owner_id, environment
 LIMIT :at_most
"""


def gaps(meter: KnownMeter, *, from_ms: int, to_ms: int, limit: int) -> TextClause:
    """Write the question for windows of which more was used than told.

    Asked in the same statement since when it is known what was told: what was forgotten is no gap, whoever forgets now.
    The plus keeps that from being what the index is searched by.
    """
    form, given = _form(meter)
    return _bound(text(_GAPS.format(**form)), given, from_ms=from_ms, to_ms=to_ms, at_most=limit)


def comparison(
    meter: KnownMeter,
    *,
    workspace_id: str,
    environments: Collection[str],
    from_ms: int,
    to_ms: int,
    owner_id: str,
    equal: bool,
    limit: int,
) -> TextClause:
    """Write the question for sums by owner and environment."""
    form, given = _form(meter)
    form["owned"] = " AND used.owner_id = :owner_id" if owner_id else ""
    form["having"] = "" if equal else "HAVING sum(used) <> sum(acknowledged)"
    given |= {"workspace_id": workspace_id} | ({"owner_id": owner_id} if owner_id else {})
    asked = text(_COMPARISON.format(**form)).bindparams(
        bindparam("environments", sorted(environments), Text, expanding=True)
    )
    return _bound(asked, given, from_ms=from_ms, to_ms=to_ms, at_most=limit)


def _form(known: KnownMeter) -> tuple[dict[str, str], dict[str, str]]:
    """Return the words of a meter's statement, all our own, and its texts."""
    meter = known.meter
    narrowed = f" AND used.code = {VALID_NUMBER} AND used.owner_id <> ''"
    given = {"meter": known.name}
    if meter.operation:
        narrowed += " AND used.operation = :operation"
        given["operation"] = meter.operation
    if meter.tag:
        narrowed += " AND used.tag = :tag"
        given["tag"] = meter.tag
    table = "usage_tags" if meter.tag else "usage_hours"
    return {"table": table, "counted": meter.counting.value, "narrowed": narrowed}, given


def _bound(asked: TextClause, texts: dict[str, str], **numbers: int) -> TextClause:
    values: list[Any] = [bindparam(name, value, Text) for name, value in texts.items()]
    values += [bindparam(name, value, BigInteger) for name, value in numbers.items()]
    return asked.bindparams(*values)
