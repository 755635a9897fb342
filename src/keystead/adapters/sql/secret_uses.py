"""What was done with each secret of one key in a day, in SQL.

Calls are summed from the sums by the minute, which also say when a secret was last used. From the end of that minute
backwards a bounded number of the key's raw calls is looked at for addresses, so a key that is called a million times an
hour costs no more than that, and a secret that is hardly used any more is found among the others all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.usage_queries import Question
from keystead.usage.model import INTERVAL_MS, Dimension, Interval, SecretUse, UsageFilter

ADDRESSES_MAX = 20
LOOKED_AT_MAX = 10_000
# A key has at most 25 secrets, and a day 1,440 minutes; what is under way makes one more.
_POINTS_MAX = 25 * 1_441
_MINUTE_MS = INTERVAL_MS[Interval.MINUTE]
_CALLS = usage_schema.calls


@dataclass(slots=True)
class _Use:
    calls: int = 0
    last_minute_ms: int = 0


def day_of(key_id: str, since_ms: int) -> UsageFilter:
    """Return the day from ``since_ms`` on, in whole minutes that begin no later."""
    begin_ms = since_ms - since_ms % _MINUTE_MS
    return UsageFilter(begin_ms, begin_ms + INTERVAL_MS[Interval.DAY] + _MINUTE_MS, key_id=key_id)


class SecretQuestion(Question):
    """What is asked of the secrets of one key (``wanted.key_id``), in a day."""

    def by_minute(self) -> Select[Any]:
        """Ask for minute, secret and sums, in the order of time."""
        return self.series(Interval.MINUTE, by=Dimension.SECRET, limit=_POINTS_MAX)

    def addresses(self, secret_id: str, *, before_ms: int) -> Select[Any]:
        """Ask for the most frequent addresses of a secret among the key's latest calls before a moment."""
        calls = self._inside(select(_CALLS.c.secret_id, _CALLS.c.client_ip), _CALLS)
        calls = calls.where(_CALLS.c.at_ms >= self.wanted.from_ms, _CALLS.c.at_ms < before_ms)
        calls = calls.order_by(_CALLS.c.at_ms.desc(), _CALLS.c.verification_id.desc())
        latest = calls.limit(LOOKED_AT_MAX).subquery().c
        known = select(latest.client_ip).where(latest.secret_id == secret_id, latest.client_ip != "")
        ranked = known.group_by(latest.client_ip).order_by(func.count().desc(), latest.client_ip)
        return ranked.limit(ADDRESSES_MAX)


async def secret_uses(session: Session, question: SecretQuestion) -> list[SecretUse]:
    """Answer from one moment of the database, by secret."""
    uses: dict[str, _Use] = {}
    points: Sequence[Any] = await session.read(question.by_minute())
    for row in points:
        use = uses.setdefault(row[1], _Use())
        use.calls += int(row[2])
        use.last_minute_ms = row[0]
    found = []
    for secret_id, use in sorted(uses.items()):
        rows = await session.read(question.addresses(secret_id, before_ms=use.last_minute_ms + _MINUTE_MS))
        found.append(SecretUse(secret_id, use.calls, tuple(row[0] for row in rows)))
    return found
