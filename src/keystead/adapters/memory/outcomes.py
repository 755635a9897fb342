"""Outcomes in memory: what waits in the order in which it came, joined to the calls of usage in memory."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.walls import reporting_environments
from keystead.tenants.model import TenantScope
from keystead.usage.model import OUTCOME_WAITS_MAX_MS, Joined, Outcome


class MemoryOutcomes:
    """The ``OutcomeStore`` of one process."""

    def __init__(self, usage: MemoryUsage) -> None:
        """Join to the calls of ``usage``."""
        self._usage = usage
        self._waiting: dict[tuple[str, str, str], tuple[int, Outcome]] = {}

    async def keep(self, scope: TenantScope, outcomes: Sequence[Outcome], *, at_ms: int) -> None:
        """Keep what was reported until it is joined; of several reports about one call the first counts."""
        for environment in reporting_environments(scope):
            for outcome in outcomes:
                name = (scope.workspace_id, outcome.verification_id, environment)
                self._waiting.setdefault(name, (at_ms, outcome))

    async def join(self, *, at_most: int, now_ms: int) -> Joined:
        """Join so many waiting outcomes to their calls, the longest waiting first; drop what waited for an hour."""
        joined = repeated = dropped = 0
        for name, (kept_at_ms, outcome) in sorted(self._waiting.items(), key=lambda entry: (entry[1][0], entry[0])):
            if joined + repeated + dropped >= at_most:
                break
            was_news = self._usage.end(name[0], name[2], outcome)
            if was_news is None and kept_at_ms >= now_ms - OUTCOME_WAITS_MAX_MS:
                continue
            joined += was_news is True
            repeated += was_news is False
            dropped += was_news is None
            del self._waiting[name]
        return Joined(joined, repeated, dropped)
