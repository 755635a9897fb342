"""Verdicts about no key, counted by the minute in a file of their own (P5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keystead.adapters.files.counters import SLOTS_PER_PAGE, MappedCounters
from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.slots import Group, Layout
from keystead.usage.model import OTHER_ADDRESS, Attempt, AttemptPage


def _summed(group: Group) -> Group:
    """Keep apart who asked, for which environment, and what was answered."""
    return group[0], group[1], "", "", group[4], OTHER_ADDRESS


def _item(group: Group, minute_ms: int, count: int, first_at_ms: int, last_at_ms: int) -> Attempt:
    workspace_id, environment, brand, secret_environment, code, client_ip = group
    return Attempt(
        workspace_id,
        environment,
        minute_ms,
        brand,
        secret_environment,
        code,
        client_ip,
        count,
        first_at_ms,
        last_at_ms,
    )


def _page(journal_id: str, number: int, attempts: Sequence[Attempt]) -> AttemptPage:
    return AttemptPage(journal_id, number, tuple(attempts))


# A group: workspace, environment asked for, brand, environment in the text, code, client address.
ATTEMPTS = Layout("attempts", text_bytes=(40, 8, 16, 8, 40), summed=_summed, item=_item, page=_page)


class MappedAttempts(MappedCounters[Attempt, AttemptPage]):
    """The ``AttemptCounters`` of this process. ``dropped`` counts the verdicts that were given and not counted."""

    def __init__(
        self,
        folder: Path,
        *,
        journal_id: str,
        slots_per_page: int = SLOTS_PER_PAGE,
        when_full: WhenFull = "refuse",
    ) -> None:
        """Begin the counters of a new journal in its ``folder``; raise ``OSError`` when there is no room for them."""
        super().__init__(folder, ATTEMPTS, journal_id=journal_id, slots_per_page=slots_per_page, when_full=when_full)

    def count(
        self,
        *,
        workspace_id: str,
        environment: str,
        brand: str,
        secret_environment: str,
        code: int,
        client_ip: str,
        at_ms: int,
    ) -> None:
        """Count one before its answer leaves; raise ``JournalFullError`` when it cannot be and must be."""
        group = (workspace_id, environment, brand, secret_environment, code, client_ip)
        self.add(self.place_of(group, at_ms), at_ms)
