"""The mapped counters of refusals on real files: exact, bounded, and the same after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from keystead.adapters.files.attempts import MappedAttempts
from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.counters import GROUPS_PER_MINUTE_MAX, SLOTS_PER_PAGE
from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.adapters.files.refusals import REFUSALS, MappedRefusals
from keystead.events.refusals import OTHER, RefusalPage, Refused, Refusing
from keystead.kernel.change import Action
from keystead.kernel.ids import new_id
from keystead.keys.errors import RefusedFor
from keystead.transport.contract import service_methods
from keystead.usage.errors import JournalFullError
from keystead.verification.model import Code
from tests.attempts import JOURNAL_ID, T0
from tests.fakes import ManualClock
from tests.journals import JournalWorld, drained

FAILED = Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "REVOKED", "192.0.2.1", "", "key_1", "", "acme_live")
CALLED = Refusing("wsp_2", "", Action.CALL_REFUSED, "unknown", "::1", actor_id="key_2", method="CreateKey")


class World:
    """Counters in a directory, with their clock."""

    def __init__(self, path: Path, *, slots_per_page: int = SLOTS_PER_PAGE, when_full: WhenFull = "refuse") -> None:
        """Begin counters in ``path``."""
        self.clock = ManualClock(T0)
        self.counters = MappedRefusals(path, journal_id=JOURNAL_ID, slots_per_page=slots_per_page, when_full=when_full)
        self.pages = MappedPages(self.counters, self.clock)

    def count(self, refusing: Refusing = FAILED) -> None:
        """Count one."""
        at_ms = self.clock.now_ms()
        self.counters.add(self.counters.room_for(refusing, at_ms), at_ms)

    def drained(self) -> list[Refused]:
        """Take every page."""
        found: list[Refused] = []
        while (page := self.pages.next(JOURNAL_ID)) is not None:
            found += page.groups
            self.pages.release(page)
        return found


def total(groups: Iterable[Refused]) -> int:
    """Add up counts."""
    return sum(it.count for it in groups)


def test_what_was_counted_is_told_exactly(tmp_path: Path) -> None:
    """A group keeps everything that tells it apart, its number, and its first and last moment."""
    world = World(tmp_path)
    for refusing in (FAILED, CALLED, FAILED, FAILED._replace(target="key_3")):
        world.count(refusing)
        world.clock.advance(10)
    assert world.drained() == [
        Refused(FAILED, T0, 2, T0, T0 + 20),
        Refused(CALLED, T0, 1, T0 + 10, T0 + 10),
        Refused(FAILED._replace(target="key_3"), T0, 1, T0 + 30, T0 + 30),
    ]


def test_room_is_not_counted_before_it_is_used(tmp_path: Path) -> None:
    """A refusal for which only a place was found is none; one that is counted later begins when it is counted."""
    world = World(tmp_path)
    place = world.counters.room_for(FAILED, T0)
    world.clock.advance(50)
    world.counters.add(place, world.clock.now_ms())
    world.counters.room_for(CALLED, world.clock.now_ms())
    assert world.drained() == [Refused(FAILED, T0, 1, T0 + 50, T0 + 50)]


def test_a_flood_has_so_many_groups_a_minute(tmp_path: Path) -> None:
    """100,000 addresses in a minute stay within 4,096 groups and two sums, and add up exactly; failures leave room
    for the groups of refused calls, and calls for those of failures.
    """
    world = World(tmp_path)
    groups: list[Refused] = []
    for number in range(100_000):
        reason = ("NOT_FOUND", "MALFORMED")[number % 2]
        world.count(FAILED._replace(client_ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", reason=reason))
        if number % 20_000 == 0:
            groups += world.drained()
    for number in range(2_000):
        world.count(CALLED._replace(client_ip=f"2001:db8::{number:x}"))
    groups += world.drained()
    assert total(groups) == 102_000
    named = {it.refusing for it in groups if it.refusing.client_ip != OTHER}
    by_action = Counter(it.action for it in named)
    assert by_action == {
        Action.AUTHENTICATION_FAILED: GROUPS_PER_MINUTE_MAX * 3 // 4,
        Action.CALL_REFUSED: GROUPS_PER_MINUTE_MAX // 4,
    }
    assert {it.refusing for it in groups} - named == {
        Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "NOT_FOUND", OTHER),
        Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "MALFORMED", OTHER),
        Refusing("wsp_2", "", Action.CALL_REFUSED, "unknown", OTHER),
    }


def test_a_full_page_refuses_or_drops(tmp_path: Path) -> None:
    """What cannot be counted is not answered, or it is known how many were not: as ``journal_when_full`` says."""
    for when_full in ("refuse", "drop_and_count"):
        folder = tmp_path / when_full
        folder.mkdir()
        world = World(folder, slots_per_page=2, when_full=when_full)
        for reason in ("a", "b"):
            world.count(FAILED._replace(reason=reason))
        if when_full == "refuse":
            with pytest.raises(JournalFullError):
                world.count(FAILED._replace(reason="c"))
        else:
            world.count(FAILED._replace(reason="c"))
        assert world.counters.dropped == (when_full == "drop_and_count")
        assert total(world.drained()) == 2


def test_hostile_texts_fit(tmp_path: Path) -> None:
    """Whatever an address is said to be, its slot holds what a store takes, and no more than its room."""
    world = World(tmp_path)
    for text in ("x" * 100, "\0", "é" * 40, "::ffff:192.0.2.1", OTHER):
        world.count(FAILED._replace(client_ip=text, method="m" * 90))
    told = [it.refusing.client_ip for it in world.drained()]
    assert told == ["x" * 40, "\N{REPLACEMENT CHARACTER}", "é" * 20, "192.0.2.1", OTHER]


def test_every_method_has_room() -> None:
    """No method's name is cut, nor any id, reason or beginning of a text."""
    room = dict(zip(("workspace_id", "environment", "actor_id", "target", "method"), REFUSALS.text_bytes, strict=False))
    assert max(len(method.name) for method in service_methods()) <= room["method"]
    assert max(len(reason) for reason in [*RefusedFor, *Code]) <= REFUSALS.text_bytes[6]
    assert len(new_id("key", now_ms=T0)) <= min(room["workspace_id"], room["actor_id"], room["target"])


def test_a_journal_stays_until_its_refusals_are_staged(tmp_path: Path) -> None:
    """A dead process's directory goes when its refusals are in the store as well; they hold no usage back."""
    dead = JournalWorld(tmp_path)
    counters = MappedRefusals(dead.journal.directory.path, journal_id=dead.journal_id)
    at_ms = dead.clock.now_ms()
    counters.add(counters.room_for(FAILED, at_ms), at_ms)
    counters.let_go()
    dead.journal.let_go()
    world = JournalWorld(tmp_path, seed=1)
    folder = world.journal.directory.path
    attempts = MappedPages(MappedAttempts(folder, journal_id=world.journal_id), world.clock)
    refusals = MappedPages(MappedRefusals(folder, journal_id=world.journal_id), world.clock)
    stretches = MappedStretches(world.journal, world.clock, attempts, refusals)
    world.clock.advance(5)
    assert stretches.journals() == [world.journal_id, dead.journal_id]
    idle = stretches.idle(world.journal_id)
    assert idle is not None
    assert idle.seen_at_ms == world.clock.now_ms()
    assert drained(stretches, dead.journal_id) == []
    assert not stretches.finished(dead.journal_id)
    page = refusals.next(dead.journal_id)
    assert isinstance(page, RefusalPage)
    assert [(it.refusing, it.count) for it in page.groups] == [(FAILED, 1)]
    refusals.release(page)
    assert stretches.finished(dead.journal_id)
    stretches.remove(dead.journal_id)
    assert not dead.journal.directory.path.exists()


def test_the_file_is_a_slot_for_each_group(tmp_path: Path) -> None:
    """Room is reserved for two pages of whole slots, each at a place where a word can be changed at once."""
    World(tmp_path, slots_per_page=16)
    assert REFUSALS.slot_bytes % 8 == 0
    assert (tmp_path / REFUSALS.name).stat().st_size == 2 * 16 * REFUSALS.slot_bytes
