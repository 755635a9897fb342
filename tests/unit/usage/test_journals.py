"""Which journals may be given up, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action, Change
from keystead.usage.errors import JournalAliveError, JournalClosedError
from keystead.usage.journals import (
    ALIVE_MS,
    JournalState,
    JournalSummary,
    KnownJournal,
    demand_dead,
    journal_lost,
    summary_of,
)

NOW = 1_700_006_400_000
DEAD = KnownJournal("jrn_1", "node-3", NOW - 9_000_000, NOW - ALIVE_MS, NOW - 5_000_000, 4_096, JournalState.OPEN, NOW)


def test_a_journal_is_dead_when_nobody_reports_it_for_the_whole_bound() -> None:
    """A journal that somebody may still count is never given up, to the millisecond."""
    demand_dead(DEAD)
    with pytest.raises(JournalAliveError) as refused:
        demand_dead(replace(DEAD, seen_at_ms=NOW - ALIVE_MS + 1))
    assert "299 s ago" in refused.value.public


def test_what_is_counted_is_a_sign_of_life() -> None:
    """A node of an earlier version reports nothing but what it counts; it is alive all the same."""
    counting = replace(DEAD, seen_at_ms=0, complete_until_ms=NOW - 1_000)
    assert counting.silent_ms == 1_000
    with pytest.raises(JournalAliveError):
        demand_dead(counting)


def test_a_closed_journal_holds_nothing_that_could_be_lost() -> None:
    """Whoever names a closed journal is told that nothing waits for it."""
    with pytest.raises(JournalClosedError):
        demand_dead(replace(DEAD, state=JournalState.CLOSED))


def test_only_an_open_journal_is_behind() -> None:
    """What nobody waits for is not late; a clock that is ahead makes no negative times."""
    assert DEAD.behind_ms == 5_000_000
    assert replace(DEAD, state=JournalState.LOST).behind_ms == 0
    ahead = replace(DEAD, seen_at_ms=NOW + 5, complete_until_ms=NOW + 9)
    assert (ahead.silent_ms, ahead.behind_ms) == (0, 0)


def test_the_quietest_open_journal_is_what_is_watched() -> None:
    """Lost and closed journals are silent for ever, and alarm nobody."""
    lively = replace(DEAD, seen_at_ms=NOW - 1_000)
    given_up = replace(DEAD, seen_at_ms=0, complete_until_ms=0, state=JournalState.LOST)
    closed = replace(given_up, state=JournalState.CLOSED)
    assert summary_of([lively, DEAD, given_up, closed]) == JournalSummary(open=2, lost=1, silent_ms=ALIVE_MS)
    assert summary_of([given_up]) == JournalSummary(open=0, lost=1, silent_ms=0)


def test_a_workspace_is_told_from_when_its_numbers_may_be_short() -> None:
    """The record names the journal, how far it was counted, and why it was given up; no cached key is touched."""
    assert journal_lost(DEAD, "wsp_1", reason="the disk is gone") == Change(
        "wsp_1",
        Action.JOURNAL_DECLARED_LOST,
        "jrn_1",
        touches=(),
        changes={
            "state": ("OPEN", "LOST"),
            "counted_to": (None, 4_096),
            "short_from_ms": (None, NOW - 5_000_000),
        },
        reason="the disk is gone",
    )
