"""Attempts in memory: the groups themselves, and calls of no key beside those that ``MemoryUsage`` sums up."""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.memory.usage import MemoryUsage
from keystead.usage.model import Attempt, AttemptPage, Call, Subject

Group = tuple[str, int, str, str, str, int, str]


class MemoryAttempts:
    """The ``AttemptStore`` of one process. ``groups`` is what is counted."""

    def __init__(self, usage: MemoryUsage) -> None:
        """Add to what ``usage`` counts."""
        self.groups: dict[Group, Attempt] = {}
        self._usage = usage
        self._counted_to: dict[str, int] = {}

    async def count_attempts(self, page: AttemptPage) -> bool:
        """Count a page exactly once; return whether it was counted by this call."""
        if self._counted_to.get(page.journal_id, 0) >= page.number:
            return False
        self._counted_to[page.journal_id] = page.number
        for it in page.attempts:
            group = _group_of(it)
            known = self.groups.get(group, replace(it, count=0))
            self.groups[group] = replace(
                known,
                count=known.count + it.count,
                first_at_ms=min(known.first_at_ms, it.first_at_ms),
                last_at_ms=max(known.last_at_ms, it.last_at_ms),
            )
            nobody = Subject(it.workspace_id, it.environment, "", "", "")
            self._usage.add_attempts(Call("", it.minute_ms, nobody, it.code, 0, "", ""), it.count)
        return True

    async def attempts_counted_to(self, journal_id: str) -> int:
        """Return the number of the last page of a journal that is counted; 0 for one of which none is."""
        return self._counted_to.get(journal_id, 0)


def _group_of(it: Attempt) -> Group:
    return (it.workspace_id, it.minute_ms, it.environment, it.brand, it.secret_environment, it.code, it.client_ip)
