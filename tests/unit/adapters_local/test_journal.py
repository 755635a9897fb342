"""The mapped journal on real files: P5 on one machine, short of power cuts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystead.adapters.files.journal import TEXTS_MAX, MappedJournal
from keystead.adapters.files.journal_directory import Places, segment_file
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.usage.errors import JournalFullError
from keystead.usage.model import Call, Stretch
from keystead.usage.records import CALL_BYTES, HEADER_BYTES
from tests.journals import SEGMENT_BYTES, CountedKey, JournalWorld, drained

PER_SEGMENT = (SEGMENT_BYTES - HEADER_BYTES) // CALL_BYTES


def left_behind(path: Path, count: int, *, seed: int = 0) -> JournalWorld:
    """Leave a journal as a killed process does: its lock is gone, nothing else changed."""
    world = JournalWorld(path, seed=seed)
    world.verdicts(count)
    world.journal.let_go()
    return world


def must(stretch: Stretch | None) -> Stretch:
    """Return a stretch that must be there."""
    assert stretch is not None
    return stretch


def folder_of(world: JournalWorld) -> Path:
    """Return where a world's journal lies."""
    return world.path / "journal" / world.journal_id


def test_verdicts_come_back_as_they_were_given(tmp_path: Path) -> None:
    """Every verdict is read exactly once, in order, with the very id its answer carried, over many segments."""
    world = JournalWorld(tmp_path)
    keys = [CountedKey(key_id=f"key_{number}", owner_id="") for number in range(7)]
    for number in range(3 * PER_SEGMENT):
        world.verdict(keys[number % 7], code=number % 13, cost=number, operation=f"op {number % 3}", client_ip="::1")
        world.clock.advance(number % 2)
    assert drained(world.stretches, world.journal_id) == world.calls
    assert world.stretches.damaged == 0
    world.verdicts(5)
    assert drained(world.stretches, world.journal_id) == world.calls[-5:]


def test_files_are_for_their_owner(tmp_path: Path) -> None:
    """Who calls when is nobody else's: directories are 0700 and files 0600, and room is reserved, not promised."""
    world = JournalWorld(tmp_path)
    folder = folder_of(world)
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    held = segment_file(folder, 1).stat()
    assert held.st_size == SEGMENT_BYTES <= held.st_blocks * 512


def test_a_stretch_stays_the_same_until_it_is_released(tmp_path: Path) -> None:
    """A retry sends what was sent before, whatever came in since."""
    world = JournalWorld(tmp_path)
    world.verdicts(5)
    stretch = must(world.stretches.next(world.journal_id, at_most=3))
    assert stretch.calls == tuple(world.calls[:3])
    assert stretch.seen_at_ms is None
    assert world.stretches.idle(world.journal_id) is None
    world.verdicts(5)
    assert world.stretches.next(world.journal_id, at_most=9) is stretch
    world.stretches.release(stretch)
    world.stretches.release(stretch)
    rest = must(world.stretches.next(world.journal_id, at_most=9))
    assert (rest.begin, rest.calls) == (stretch.end, tuple(world.calls[3:]))
    assert rest.seen_at_ms == world.clock.now_ms()


def test_an_idle_journal_says_so(tmp_path: Path) -> None:
    """Usage is complete up to now also when nobody calls."""
    world = JournalWorld(tmp_path)
    empty = must(world.stretches.idle(world.journal_id))
    assert (empty.begin, empty.end, empty.calls) == (0, 0, ())
    world.verdicts(2)
    assert world.stretches.idle(world.journal_id) is None
    stretch = must(world.stretches.next(world.journal_id, at_most=9))
    world.stretches.release(stretch)
    world.clock.advance(500)
    later = must(world.stretches.idle(world.journal_id))
    assert (later.begin, later.seen_at_ms) == (stretch.end, world.clock.now_ms())
    assert world.stretches.next(world.journal_id, at_most=9) is None


def test_counted_segments_are_deleted(tmp_path: Path) -> None:
    """A journal takes no more room than what is not counted, and a closed one that is counted goes as a whole."""
    world = JournalWorld(tmp_path)
    world.verdicts(3 * PER_SEGMENT)
    assert len(list(folder_of(world).glob("*.segment"))) >= 3
    drained(world.stretches, world.journal_id)
    assert len(list(folder_of(world).glob("*.segment"))) <= 2
    assert not world.stretches.finished(world.journal_id)
    world.verdicts(1)
    world.journal.close()
    with pytest.raises(JournalFullError):
        world.verdicts(1)
    assert not world.stretches.finished(world.journal_id)
    assert drained(world.stretches, world.journal_id) == world.calls[-1:]
    assert world.stretches.finished(world.journal_id)
    world.stretches.remove(world.journal_id)
    assert not folder_of(world).exists()


def test_dead_processes_are_counted_by_the_next(tmp_path: Path) -> None:
    """What a killed process wrote down is read by whoever starts in its place; a living one's journal is its own."""
    dead = left_behind(tmp_path, 2 * PER_SEGMENT, seed=1)
    alive, world = JournalWorld(tmp_path, seed=2), JournalWorld(tmp_path, seed=3)
    alive.verdicts(1)
    assert world.stretches.journals() == [world.journal_id, dead.journal_id]
    assert world.stretches.journals() == [world.journal_id, dead.journal_id]
    assert alive.stretches.journals() == [alive.journal_id]
    assert drained(world.stretches, dead.journal_id) == dead.calls
    assert world.stretches.finished(dead.journal_id)
    assert folder_of(dead).exists()
    world.stretches.remove(dead.journal_id)
    assert not folder_of(dead).exists()
    assert world.stretches.damaged == 0
    alive.journal.let_go()
    assert world.stretches.journals() == [world.journal_id, alive.journal_id]


@pytest.mark.parametrize("released", (False, True))
def test_a_stretch_is_the_same_after_a_kill(tmp_path: Path, *, released: bool) -> None:
    """A process killed between sending and releasing leaves the places of what it sent; the next sends just that."""
    world = JournalWorld(tmp_path, seed=1)
    world.verdicts(10)
    first = must(world.stretches.next(world.journal_id, at_most=4))
    world.stretches.release(first)
    world.verdicts(PER_SEGMENT)
    second = must(world.stretches.next(world.journal_id, at_most=20))
    if released:
        world.stretches.release(second)
    world.verdicts(3)
    world.journal.let_go()
    after = JournalWorld(tmp_path, seed=2)
    after.stretches.journals()
    after.stretches.resume(world.journal_id, place=second.end if released else second.begin)
    again = must(after.stretches.next(world.journal_id, at_most=2))
    if released:
        assert (again.begin, again.calls) == (second.end, tuple(world.calls[24:26]))
    else:
        assert (again.begin, again.end, again.calls) == (second.begin, second.end, second.calls)
        assert after.stretches.idle(world.journal_id) is None
        after.stretches.release(again)
        assert drained(after.stretches, world.journal_id) == world.calls[24:]


def test_a_copy_and_its_original_count_each_call_once(tmp_path: Path) -> None:
    """A copied directory that another server counts makes nothing look counted: places are those of whole records, so
    the original goes on exactly where the copy's calls end.
    """
    world = JournalWorld(tmp_path / "original", seed=1)
    world.verdicts(10)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    elsewhere = JournalWorld(tmp_path / "copy", seed=2)
    elsewhere.stretches.journals()
    theirs = must(elsewhere.stretches.next(world.journal_id, at_most=100))
    assert theirs.calls == tuple(world.calls)
    world.verdicts(5)
    ours = must(world.stretches.next(world.journal_id, at_most=12))
    assert theirs.begin == ours.begin
    assert theirs.end != ours.end
    world.stretches.resume(world.journal_id, place=theirs.end)
    assert drained(world.stretches, world.journal_id) == world.calls[10:]


def test_the_store_says_where_to_go_on(tmp_path: Path) -> None:
    """Also further back, as far as the segments are still there, and further on than one segment."""
    world = JournalWorld(tmp_path)
    world.verdicts(2 * PER_SEGMENT)
    stretch = must(world.stretches.next(world.journal_id, at_most=5))
    world.stretches.release(stretch)
    world.stretches.resume(world.journal_id, place=stretch.end)
    world.stretches.resume(world.journal_id, place=0)
    assert must(world.stretches.next(world.journal_id, at_most=5)) == stretch
    world.stretches.resume(world.journal_id, place=2 << 32 | HEADER_BYTES)
    calls = drained(world.stretches, world.journal_id)
    assert calls == world.calls[-len(calls) :]
    assert PER_SEGMENT - 10 < len(calls) < len(world.calls)


def refused(world: JournalWorld, count: int) -> int:
    """Give ``count`` verdicts, and say how many were refused."""
    refusals = 0
    for _ in range(count):
        try:
            world.verdicts(1)
        except JournalFullError:
            refusals += 1
    return refusals


def test_a_full_journal_refuses(tmp_path: Path) -> None:
    """With ``refuse`` nothing is answered that is not counted, and counting makes room again."""
    world = JournalWorld(tmp_path, segments_max=2)
    key = CountedKey()
    with pytest.raises(JournalFullError):
        world.verdicts(3 * PER_SEGMENT, key)
    assert len(world.calls) > PER_SEGMENT
    assert world.journal.dropped == 0
    assert drained(world.stretches, world.journal_id) == world.calls
    world.verdicts(10, key)
    assert drained(world.stretches, world.journal_id) == world.calls[-10:]


def test_a_full_journal_drops_and_counts(tmp_path: Path) -> None:
    """With ``drop_and_count`` every answer leaves, and how many were not written down is known exactly."""
    world = JournalWorld(tmp_path, segments_max=2, when_full="drop_and_count")
    world.verdicts(3 * PER_SEGMENT)
    kept = drained(world.stretches, world.journal_id)
    assert kept == world.calls[: len(kept)]
    assert world.journal.dropped == len(world.calls) - len(kept) > 0


def full_after(monkeypatch: pytest.MonkeyPatch, segments: int) -> Callable[[], None]:
    """Let the disk have room for so many more segments; return what makes room again."""
    real, left = os.posix_fallocate, [segments]

    def fallocate(descriptor: int, offset: int, length: int) -> None:
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        real(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return lambda: left.__setitem__(0, 1_000)


def test_a_full_disk_is_the_same_as_a_full_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room on the disk refuses, leaves no half-made file, and is over at most 100 ms after there is room again."""
    make_room = full_after(monkeypatch, 1)
    world = JournalWorld(tmp_path)
    with pytest.raises(JournalFullError):
        world.verdicts(2 * PER_SEGMENT)
    assert len(list(folder_of(world).glob("*.segment"))) == 1
    make_room()
    assert refused(world, 1) == 1
    world.clock.advance(100)
    assert refused(world, 1) == 0
    assert drained(world.stretches, world.journal_id) == world.calls


def test_a_start_without_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot count does not start, and what it began is gone."""
    full_after(monkeypatch, 0)
    with pytest.raises(OSError, match="No space"):
        JournalWorld(tmp_path)
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["lock"]


@pytest.mark.parametrize(("segment_bytes", "segments_max"), ((4_096, 4), (1 << 30, 4), (SEGMENT_BYTES, 0)))
def test_bounds_of_a_journal(tmp_path: Path, segment_bytes: int, segments_max: int) -> None:
    """Sizes in which the largest verdict has no room, or that no reader takes, are refused at once."""
    with pytest.raises(ValueError, match="segments"):
        JournalWorld(tmp_path, segment_bytes=segment_bytes, segments_max=segments_max)


def test_many_addresses_begin_a_new_segment(tmp_path: Path) -> None:
    """A flood from random addresses takes bounded memory: the dictionary begins anew with the segment."""
    world = JournalWorld(tmp_path, segment_bytes=SEGMENT_BYTES * 128)
    key = CountedKey()
    for number in range(TEXTS_MAX):
        world.verdict(key, operation="op", client_ip=f"10.0.{number}")
    assert world.journal.number == 2
    assert drained(world.stretches, world.journal_id, at_most=10_000) == world.calls


def test_the_next_segment_is_reserved_ahead(tmp_path: Path) -> None:
    """The flusher's rhythm, not a verdict, pays for a new file once the current one is half full."""
    world = JournalWorld(tmp_path)
    world.stretches.next(world.journal_id, at_most=1)
    assert not segment_file(folder_of(world), 2).exists()
    world.verdicts(PER_SEGMENT // 2 + 10)
    world.stretches.next(world.journal_id, at_most=1)
    assert segment_file(folder_of(world), 2).exists()
    world.verdicts(PER_SEGMENT)
    assert drained(world.stretches, world.journal_id) == world.calls


def read_dead(tmp_path: Path, dead: JournalWorld) -> tuple[list[Call], MappedStretches]:
    """Read a dead journal to its end and delete it."""
    world = JournalWorld(tmp_path, seed=99)
    assert dead.journal_id in world.stretches.journals()
    calls = drained(world.stretches, dead.journal_id)
    assert world.stretches.finished(dead.journal_id)
    world.stretches.remove(dead.journal_id)
    assert not folder_of(dead).exists()
    world.journal.let_go()
    return calls, world.stretches


def spoil(file: Path, how: str) -> None:
    """Make a segment's file into something else."""
    held = file.read_bytes()
    file.unlink()
    if how == "empty":
        file.touch()
    elif how == "garbage":
        file.write_bytes(os.urandom(SEGMENT_BYTES))
    elif how == "pipe":
        os.mkfifo(file)
    elif how == "directory":
        file.mkdir()
    elif how == "link":
        file.symlink_to("/dev/zero")
    elif how == "renamed":
        file.write_bytes(held[:HEADER_BYTES])
        file.rename(file.with_name("00000009.segment"))


@pytest.mark.parametrize("how", ("empty", "garbage", "pipe", "directory", "link", "renamed", "gone"))
def test_a_segment_that_is_none(tmp_path: Path, how: str) -> None:
    """It is told and kept for people to look at; the other segments are counted, and nothing waits or crashes."""
    dead = left_behind(tmp_path, 3 * PER_SEGMENT)
    spoil(segment_file(folder_of(dead), 2), how)
    calls, stretches = read_dead(tmp_path, dead)
    found = {call.verification_id for call in calls}
    assert calls == [call for call in dead.calls if call.verification_id in found]
    assert PER_SEGMENT < len(calls) < len(dead.calls)
    assert (stretches.damaged, len(list((tmp_path / "journal").glob("damaged/*")))) == (
        (0, 0) if how == "gone" else (1, 1)
    )


def test_segments_of_others_are_not_counted(tmp_path: Path) -> None:
    """A file that was moved from another journal, or renamed within its own, is not counted under the wrong name."""
    one, other = left_behind(tmp_path, PER_SEGMENT - 20, seed=1), left_behind(tmp_path, 10, seed=2)
    segment_file(folder_of(other), 1).rename(segment_file(folder_of(one), 2))
    shutil.copy(segment_file(folder_of(one), 1), segment_file(folder_of(one), 3))
    calls, stretches = read_dead(tmp_path, one)
    assert calls == one.calls
    assert stretches.damaged == 2


def test_a_larger_file_is_read_as_far_as_it_makes_sense(tmp_path: Path) -> None:
    """What somebody appended to a segment changes nothing of what is in it."""
    dead = left_behind(tmp_path, 10)
    with segment_file(folder_of(dead), 1).open("ab") as file:
        file.write(os.urandom(40_003))
    calls, stretches = read_dead(tmp_path, dead)
    assert calls == dead.calls
    assert stretches.damaged == 1


@given(st.integers(0, SEGMENT_BYTES - 1), st.binary(min_size=1, max_size=200), st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_anywhere(tmp_path: Path, place: int, noise: bytes, cut: bool) -> None:  # noqa: FBT001 -- drawn
    """Bytes overwritten or cut off anywhere: reading ends, and invents nothing."""
    dead = left_behind(tmp_path, 100)
    file = segment_file(folder_of(dead), 1)
    held = file.read_bytes()
    file.write_bytes(held[:place] if cut else held[:place] + noise + held[place + len(noise) :])
    calls, _ = read_dead(tmp_path, dead)
    assert {call.verification_id for call in calls} <= {call.verification_id for call in dead.calls}
    if place > HEADER_BYTES + 101 * CALL_BYTES + 600:
        assert calls == dead.calls
    shutil.rmtree(tmp_path / "journal")


@given(st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_places_count_as_none(tmp_path: Path, noise: bytes) -> None:
    """Whatever the file of places holds, one whole slot is believed and two damaged ones mean the beginning."""
    (tmp_path / "places").unlink(missing_ok=True)
    places = Places(tmp_path)
    places.write(10, 20)
    places.write(20, 30)
    places.close()
    places.close()
    file = tmp_path / "places"
    held = file.read_bytes()
    assert len(held) == 64
    file.write_bytes(noise[:32].ljust(32, b"\1") + held[32:])
    read = Places(tmp_path)
    assert (read.begin, read.end) == (10, 20)
    read.close()
    file.write_bytes(noise)
    read = Places(tmp_path)
    assert (read.begin, read.end) == (0, 0)
    read.close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """Other files and directories beside the journals are not touched, nor is a journal that cannot be locked."""
    dead = left_behind(tmp_path, 5)
    (tmp_path / "journal" / "notes").mkdir()
    (folder_of(dead) / "lock").unlink()
    (folder_of(dead) / "lock").mkdir()
    world = JournalWorld(tmp_path, seed=2)
    assert world.stretches.journals() == [world.journal_id]
    (folder_of(dead) / "lock").rmdir()
    (folder_of(dead) / "places").unlink()
    (folder_of(dead) / "places").mkdir()
    assert world.stretches.journals() == [world.journal_id]
    (folder_of(dead) / "places").rmdir()
    assert world.stretches.journals() == [world.journal_id, dead.journal_id]
    world.stretches.let_go()
    other = JournalWorld(tmp_path, seed=3)
    assert dead.journal_id in other.stretches.journals()
    assert drained(other.stretches, dead.journal_id) == dead.calls


def test_a_half_made_journal_is_cleared_away(tmp_path: Path) -> None:
    """A process killed while it began leaves a directory with nothing in it; it holds nothing and goes."""
    world = JournalWorld(tmp_path)
    name = MappedJournal.open(tmp_path / "x", process="01234567", clock=world.clock).journal_id
    (tmp_path / "journal" / name).mkdir()
    assert world.stretches.journals() == [world.journal_id, name]
    assert world.stretches.next(name, at_most=5) is None
    assert world.stretches.finished(name)
    world.stretches.remove(name)
    assert not (tmp_path / "journal" / name).exists()
