"""The mapped counters of verdicts about no key on real files: exact, bounded, and the same after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystead.adapters.files.attempts import ATTEMPTS, MappedAttempts
from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.counters import GROUPS_PER_MINUTE_MAX
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.adapters.files.slots import MINUTE_MS, SlotReading
from keystead.usage.errors import JournalFullError
from keystead.usage.model import OTHER_ADDRESS, Attempt, AttemptPage
from tests.attempts import JOURNAL_ID, T0, AttemptWorld, NoCounters, attempts_of, by_address
from tests.journals import JournalWorld, drained


def test_what_was_counted_is_told_exactly(tmp_path: Path) -> None:
    """A group keeps its number, its first and its last moment; everything that tells groups apart does."""
    world = AttemptWorld(tmp_path)
    for _ in range(3):
        world.count()
        world.clock.advance(7)
    world.count("::1", code=2, brand="", secret_environment="")
    world.count(workspace_id="wsp_2", environment="test")
    assert attempts_of([world.next()]) == [
        Attempt("wsp_1", "live", T0, "acme", "live", 3, "192.0.2.1", 3, T0, T0 + 14),
        Attempt("wsp_1", "live", T0, "", "", 2, "::1", 1, T0 + 21, T0 + 21),
        Attempt("wsp_2", "test", T0, "acme", "live", 3, "192.0.2.1", 1, T0 + 21, T0 + 21),
    ]


def test_minutes_are_kept_apart(tmp_path: Path) -> None:
    """A group begins anew with every minute, also when the clock was set back."""
    world = AttemptWorld(tmp_path)
    for step_ms in (0, MINUTE_MS, -MINUTE_MS):
        world.clock.advance(step_ms)
        world.count()
    assert [(it.minute_ms, it.count) for it in attempts_of([world.next()])] == [
        (T0, 1),
        (T0 + MINUTE_MS, 1),
        (T0, 1),
    ]


def test_a_page_stays_the_same_until_it_is_released(tmp_path: Path) -> None:
    """A retry sends what was sent before, whatever came in since; that is in the next page, under the next number."""
    world = AttemptWorld(tmp_path)
    world.count()
    page = world.next()
    assert page.number == 1
    world.count()
    world.count("192.0.2.2")
    assert world.next() is page
    assert by_address([page]) == {"192.0.2.1": 1}
    world.pages.release(page)
    later = world.next()
    world.pages.release(page)
    assert world.next() is later
    assert (later.number, by_address([later])) == (2, {"192.0.2.1": 1, "192.0.2.2": 1})
    world.pages.release(later)
    assert world.pages.next(JOURNAL_ID) is None


def test_pages_take_turns_for_ever(tmp_path: Path) -> None:
    """A page that was counted is empty when its turn comes again."""
    world = AttemptWorld(tmp_path, slots_per_page=8)
    for number in range(1, 21):
        for _ in range(number):
            world.count(f"192.0.2.{number}")
        (page,) = world.drained()
        assert (page.number, by_address([page])) == (number, {f"192.0.2.{number}": number})


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    """The next process finds the sealed page as it was sent, and the one that counted under the next number."""
    (tmp_path / "old").mkdir()
    world = AttemptWorld(tmp_path / "old", slots_per_page=8)
    world.count()
    world.count("::1")
    sealed = world.next()
    world.count()
    world.count()
    world.counters.let_go()
    first, second = NoCounters(tmp_path / "new", tmp_path / "old").found()
    assert first == sealed
    assert (second.number, by_address([second])) == (2, {"192.0.2.1": 2})


def test_a_flood_has_so_many_groups_a_minute(tmp_path: Path) -> None:
    """Beyond 4,096 groups a minute sums go on without addresses, exact by workspace, environment and code; the next
    minute begins anew, and a page that was sent in between makes no room.
    """
    world = AttemptWorld(tmp_path)
    pages: list[AttemptPage] = []
    for number in range(3 * GROUPS_PER_MINUTE_MAX):
        world.count(f"10.0.{number >> 8}.{number & 255}", code=2 + number % 2, brand=f"b{number}")
        if number % 1_000 == 0:
            pages += world.drained()
    world.count("10.0.0.1", code=3, brand="b1")  # one of the first, which has a place in this page as well
    pages += world.drained()
    named = {(it.brand, it.client_ip) for it in attempts_of(pages) if it.client_ip != OTHER_ADDRESS}
    assert len(named) == GROUPS_PER_MINUTE_MAX
    others = [it for it in attempts_of(pages) if it.client_ip == OTHER_ADDRESS]
    assert {(it.workspace_id, it.environment, it.brand, it.secret_environment) for it in others} == {
        ("wsp_1", "live", "", "")
    }
    assert sum(it.count for it in others) == 2 * GROUPS_PER_MINUTE_MAX
    for code, more in ((2, 0), (3, 1)):
        assert sum(it.count for it in attempts_of(pages) if it.code == code) == 3 * GROUPS_PER_MINUTE_MAX // 2 + more
    world.clock.advance(MINUTE_MS)
    world.count("172.16.0.1")
    assert by_address(world.drained()) == {"172.16.0.1": 1}


def test_a_long_outage_keeps_sums(tmp_path: Path) -> None:
    """When a page has little room left, what comes new is summed without its address; nothing is refused yet."""
    world = AttemptWorld(tmp_path, slots_per_page=8)
    for number in range(20):
        world.count(f"192.0.2.{number}")
    assert by_address([world.next()]) == {f"192.0.2.{number}": 1 for number in range(6)} | {OTHER_ADDRESS: 14}


def test_a_full_page_refuses(tmp_path: Path) -> None:
    """What cannot be counted is not answered; what has its place still is, and a counted page makes room."""
    world = AttemptWorld(tmp_path, slots_per_page=4)
    for code in range(1, 5):
        world.count(code=code)
    with pytest.raises(JournalFullError):
        world.count(code=5)
    world.count(code=1)
    assert [(it.code, it.count) for it in attempts_of([world.next()])] == [(1, 2), (2, 1), (3, 1), (4, 1)]
    world.count(code=5)
    assert [it.code for it in attempts_of(world.drained())] == [1, 2, 3, 4, 5]
    assert world.counters.dropped == 0


def test_a_full_page_drops_and_counts(tmp_path: Path) -> None:
    """With ``drop_and_count`` answers go on, and it is known how many were not counted."""
    world = AttemptWorld(tmp_path, slots_per_page=4, when_full="drop_and_count")
    for code in range(1, 8):
        world.count(code=code)
    assert world.counters.dropped == 3
    assert sum(by_address(world.drained()).values()) == 4


def test_closed_counters_count_no_more(tmp_path: Path) -> None:
    """After the end no answer goes uncounted; what was counted can still be taken."""
    world = AttemptWorld(tmp_path)
    world.count()
    world.counters.close()
    with pytest.raises(JournalFullError):
        world.count()
    assert not world.pages.finished(JOURNAL_ID)
    assert by_address(world.drained()) == {"192.0.2.1": 1}
    assert world.pages.finished(JOURNAL_ID)


@pytest.mark.parametrize("text", ("::ffff:192.0.2.1", "192.0.2.1", "::FFFF:c000:201"))
def test_an_address_has_one_spelling(tmp_path: Path, text: str) -> None:
    """However an address is written, it is one group."""
    world = AttemptWorld(tmp_path)
    for _ in range(2):
        world.count(text)
    world.count("192.0.2.1")
    assert by_address([world.next()]) == {"192.0.2.1": 3}


def test_nobody_is_called_other(tmp_path: Path) -> None:
    """An address that is the word for many is counted among them."""
    world = AttemptWorld(tmp_path)
    world.count(OTHER_ADDRESS, brand="x" * 10)
    (attempt,) = attempts_of([world.next()])
    assert (attempt.brand, attempt.client_ip) == ("", OTHER_ADDRESS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60)), max_size=20))
def test_odd_texts_break_nothing(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str, str]]) -> None:
    """Whatever a text is, it is counted, cut to its room, and read back as something that a store takes."""
    world = AttemptWorld(tmp_path_factory.mktemp("odd"), slots_per_page=64)
    for brand, secret_environment, client_ip in texts:
        world.count(client_ip, brand=brand, secret_environment=secret_environment)
    found = attempts_of(world.drained())
    world.counters.let_go()
    assert sum(it.count for it in found) == len(texts)
    for it in found:
        for text, bytes_max in ((it.brand, 16), (it.secret_environment, 8), (it.client_ip, 40)):
            assert len(text.encode()) <= bytes_max
            assert "\0" not in text


def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """Who tries what is nobody else's, and room is reserved, not promised."""
    AttemptWorld(tmp_path)
    held = (tmp_path / ATTEMPTS.name).stat()
    assert held.st_mode & 0o777 == 0o600
    assert held.st_size <= held.st_blocks * 512


def test_no_room_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """Counters for which there is no room are not begun, and no file stays behind."""
    with pytest.raises(OSError, match=r"."):
        MappedAttempts(tmp_path, journal_id=JOURNAL_ID, slots_per_page=1 << 50)
    assert not (tmp_path / ATTEMPTS.name).exists()


def test_usage_is_complete_up_to_the_first_attempt_that_waits(tmp_path: Path) -> None:
    """What is not counted yet holds back up to when everything is."""
    world = AttemptWorld(tmp_path)
    world.clock.advance(5)
    assert world.pages.seen_until_ms() == T0 + 5
    world.count()
    world.clock.advance(5)
    page = world.next()
    world.count()
    world.clock.advance(5)
    assert world.pages.seen_until_ms() == T0 + 5
    world.pages.release(page)
    assert world.pages.seen_until_ms() == T0 + 10
    world.drained()
    assert world.pages.seen_until_ms() == T0 + 15


def test_a_journal_stays_until_its_attempts_are_counted(tmp_path: Path) -> None:
    """A dead process's directory is not finished before its journal and its attempts are; until then, usage is not
    complete either.
    """
    dead = JournalWorld(tmp_path)
    counters = MappedAttempts(dead.journal.directory.path, journal_id=dead.journal_id)
    group = {"environment": "live", "brand": "", "secret_environment": "", "client_ip": ""}
    counters.count(workspace_id="wsp_1", code=2, at_ms=dead.clock.now_ms(), **group)
    counters.let_go()
    dead.journal.let_go()
    world = JournalWorld(tmp_path, seed=1)
    own = MappedAttempts(world.journal.directory.path, journal_id=world.journal_id)
    pages = MappedPages(own, world.clock)
    stretches = MappedStretches(world.journal, world.clock, pages)
    began_at_ms = world.clock.now_ms()
    world.clock.advance(MINUTE_MS)
    assert stretches.journals() == pages.journals() == [world.journal_id, dead.journal_id]
    idle = stretches.idle(world.journal_id)
    assert idle is not None
    assert idle.seen_at_ms == began_at_ms
    assert drained(stretches, dead.journal_id) == []
    assert not stretches.finished(dead.journal_id)
    page = pages.next(dead.journal_id)
    assert page is not None
    pages.release(page)
    assert stretches.finished(dead.journal_id)
    stretches.remove(dead.journal_id)
    assert pages.journals() == [world.journal_id]
    assert not dead.journal.directory.path.exists()


def left(tmp_path: Path) -> tuple[Path, bytes, list[Attempt]]:
    """Leave two pages as a killed process does; return where, and what is in the file and in its slots, in order."""
    folder = tmp_path / "old"
    folder.mkdir()
    world = AttemptWorld(folder, slots_per_page=4)
    for number in range(3):
        for _ in range(number + 1):
            world.count(f"192.0.2.{number}")
    attempts = attempts_of([world.next()])
    world.count("2001:db8::1")
    attempts += [Attempt("wsp_1", "live", T0, "acme", "live", 3, "2001:db8::1", 1, T0, T0)]
    world.counters.let_go()
    return folder, (folder / ATTEMPTS.name).read_bytes(), attempts


SLOT_OF = (0, 1, 2, 4)


def damaged(held: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the file with every bit flipped, and zeroed and cut at every byte, and which bytes are not as they were."""
    for place in range(len(held)):
        for bit in range(8):
            yield place, place + 1, held[:place] + bytes([held[place] ^ 1 << bit]) + held[place + 1 :]
        yield place, len(held), held[:place]
        yield place, place + 1, held[:place] + b"\0" + held[place + 1 :]
        yield place, len(held), held[:place] + bytes(len(held) - place)


def test_damage_harms_only_what_it_touches(tmp_path: Path) -> None:
    """Truncated, bit-flipped and zeroed at every byte: every whole group survives, nothing is made up, nothing crashes,
    and what is read can be stored.
    """
    folder, held, attempts = left(tmp_path)
    heir = NoCounters(tmp_path / "new", folder)
    assert attempts_of(heir.found()) == attempts
    for begin, end, bytes_now in damaged(held):
        reading = SlotReading(ATTEMPTS, JOURNAL_ID)
        reading.read(memoryview(bytes_now))
        assert reading.items.keys() <= {1, 2}
        found = [attempt for page in reading.items.values() for attempt in page]
        for slot, attempt in zip(SLOT_OF, attempts, strict=True):
            if end <= slot * ATTEMPTS.slot_bytes or begin >= (slot + 1) * ATTEMPTS.slot_bytes:
                assert attempt in found
        known = {(it.client_ip, it.code, it.minute_ms) for it in attempts}
        assert {(it.client_ip, it.code, it.minute_ms) for it in found} <= known
        assert all(it.minute_ms <= it.first_at_ms < it.minute_ms + MINUTE_MS for it in found)
        assert all(0 < it.count < 1 << 41 for it in found)
    (folder / ATTEMPTS.name).write_bytes(held[: 2 * ATTEMPTS.slot_bytes + 7])
    assert attempts_of(heir.found()) == attempts[:2]


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    """A journal of before there were attempts, or whose file is no file, is taken over as well."""
    (tmp_path / "old").mkdir()
    assert NoCounters(tmp_path / "new", tmp_path / "old").found() == []
    (tmp_path / "old" / ATTEMPTS.name).mkdir()
    assert NoCounters(tmp_path / "newer", tmp_path / "old").found() == []
