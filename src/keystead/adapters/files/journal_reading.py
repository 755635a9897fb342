"""What was written down and not counted yet: of this process, and of those before it in the same directory.

A stretch is fixed before it is first handed out: its two places are written beside the segments, so after a kill at any
instant the next process hands out the very same one, and a store that has counted it knows it again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.journal import MappedJournal
from keystead.adapters.files.journal_directory import (
    JournalDirectory,
    Places,
    read_file,
    segment_file,
    segment_numbers,
)
from keystead.kernel.clock import Clock
from keystead.usage.model import Call, Stretch
from keystead.usage.records import Reading, decode_header, salt_of

STEPS_PER_CALL = 4
STEPS_MIN = 1_024
_PLACE_MASK = 0xFFFF_FFFF
_NO_BOUND = 2**31


class Segments(Protocol):
    """The segments of one journal, and whether they still grow."""

    @property
    def growing(self) -> int:
        """The number of the segment that may get more verdicts; 0 when none does."""
        ...

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there, in order."""
        ...

    def view(self, number: int) -> memoryview | None:
        """Return the bytes of a segment; None when they cannot be read."""
        ...

    def end(self, number: int, view: memoryview) -> int:
        """Return up to where the segment may hold records now."""
        ...

    def discard(self, number: int) -> None:
        """Delete a segment that is counted."""
        ...


class OwnSegments:
    """The segments of this process, read where they are written."""

    def __init__(self, journal: MappedJournal) -> None:
        """Read ``journal``."""
        self._journal = journal

    @property
    def growing(self) -> int:
        """The number of the segment that may get more verdicts; 0 when none does."""
        return 0 if self._journal.closed else self._journal.number

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there, in order."""
        return list(self._journal.segments)

    def view(self, number: int) -> memoryview | None:
        """Return the bytes of a segment."""
        return self._journal.segments[number].view

    def end(self, number: int, _view: memoryview) -> int:
        """Return up to where the segment holds records now."""
        return self._journal.end_of(number)

    def discard(self, number: int) -> None:
        """Delete a segment that is counted."""
        self._journal.discard(number)


class LeftSegments:
    """The segments that a process left behind, copied as they are read."""

    growing = 0

    def __init__(self, folder: Path) -> None:
        """Read ``folder``."""
        self._folder = folder
        self._numbers = segment_numbers(folder)

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there, in order."""
        return list(self._numbers)

    def view(self, number: int) -> memoryview | None:
        """Return the bytes of a segment; None when they cannot be read."""
        held = read_file(segment_file(self._folder, number))
        return None if held is None else memoryview(held)

    def end(self, _number: int, view: memoryview) -> int:
        """Return up to where the segment may hold records: to its end."""
        return len(view)

    def discard(self, number: int) -> None:
        """Delete a segment that is counted."""
        self._numbers.remove(number)
        with suppress(OSError):  # what stays behind is deleted with the directory
            segment_file(self._folder, number).unlink()


@dataclass(slots=True)
class _Open:
    """The segment that is being read."""

    number: int
    view: memoryview
    reading: Reading


class JournalReader:
    """Reads one journal from the place up to which it is counted. ``unreadable`` are its segments that are none."""

    def __init__(self, journal_id: str, segments: Segments, places: Places, now_ms: Callable[[], int]) -> None:
        """Go on where ``places`` say; ``now_ms`` is up to when everything is seen that is not in a segment."""
        self.journal_id = journal_id
        self.unreadable: set[int] = set()
        self._segments = segments
        self._places = places
        self._now_ms = now_ms
        self._place = places.begin
        self._fixed_end = places.end
        self._pending: Stretch | None = None
        self._open: _Open | None = None
        self._next_number = self._place >> 32
        self._damaged = 0

    @property
    def damaged(self) -> int:
        """How many gaps, verdicts without a subject and unreadable segments were met so far."""
        return self._damaged + (self._open.reading.damaged if self._open is not None else 0)

    @property
    def finished(self) -> bool:
        """Whether everything is counted and nothing more comes."""
        return self._pending is None and not self._segments.growing and self._current() is None

    def next(self, at_most: int) -> Stretch | None:
        """Return the next stretch, the same until it is released; None when there is nothing.

        It looks at a bounded number of bytes, so None may also mean that they were all damaged: ``finished`` knows.
        """
        if self._pending is None:
            self._pending = self._again() if self._fixed_end > self._place else self._made(at_most)
        return self._pending

    def idle(self) -> Stretch | None:
        """Return an empty stretch that says up to when the journal held nothing more; None when it holds something."""
        seen_at_ms = self._now_ms()
        if self._pending is not None or self._fixed_end > self._place or self._current() is not None:
            return None
        return Stretch(self.journal_id, self._place, self._place, (), seen_at_ms)

    def release(self, stretch: Stretch) -> None:
        """Note that ``stretch`` is counted; another one than was handed out last changes nothing."""
        if self._pending is not None and stretch.end == self._pending.end:
            self._go_to(stretch.end)

    def resume(self, place: int) -> None:
        """Go on at ``place``, up to which the store has counted: it knows better, also what copies did.

        A stretch that begins there stays as it was fixed: an earlier process's commit of it may still be under way.
        """
        if place == self._place:
            return
        self._open = None  # what was read past the place is read once more
        self._next_number = place >> 32
        self._go_to(place)

    def _go_to(self, place: int) -> None:
        self._pending = None
        self._place = self._fixed_end = place
        self._places.write(place, place)
        self._current()  # closes the segment when it is read to its end
        for number in self._segments.numbers():
            if number <= place >> 32 and number < self._next_number and number not in self.unreadable:
                self._segments.discard(number)

    def _again(self) -> Stretch:
        """Make the stretch once more that was fixed by an earlier process."""
        calls: list[Call] = []
        last, end = self._fixed_end >> 32, self._fixed_end & _PLACE_MASK
        while (it := self._current()) is not None and it.number <= last:
            until = self._segments.end(it.number, it.view)
            if it.number == last:
                until = min(end, until)
            if it.reading.ended(until):
                break
            calls += self._take(it, until, at_most=_NO_BOUND, steps_max=_NO_BOUND)
        return Stretch(self.journal_id, self._place, self._fixed_end, tuple(calls), None)

    def _made(self, at_most: int) -> Stretch | None:
        """Make a new stretch, of one segment, and fix it."""
        seen_at_ms = self._now_ms()
        it = self._current()
        if it is None:
            return None
        until = self._segments.end(it.number, it.view)
        calls = self._take(it, until, at_most=at_most, steps_max=max(STEPS_MIN, STEPS_PER_CALL * at_most))
        if not calls:
            return None
        self._fixed_end = it.number << 32 | it.reading.whole_until
        self._places.write(self._place, self._fixed_end)
        at_end = self._current() is None
        return Stretch(self.journal_id, self._place, self._fixed_end, tuple(calls), seen_at_ms if at_end else None)

    def _take(self, it: _Open, until: int, *, at_most: int, steps_max: int) -> list[Call]:
        since = self._place & _PLACE_MASK if it.number == self._place >> 32 else 0
        return it.reading.take(it.view, until, at_most=at_most, steps_max=steps_max, since=since)

    def _current(self) -> _Open | None:
        """Return the segment in which something is left to read; None when everything was read."""
        while True:
            it = self._open
            if it is not None:
                if not it.reading.ended(self._segments.end(it.number, it.view)):
                    return it
                if it.number == self._segments.growing:
                    return None
                self._damaged += it.reading.damaged
                self._next_number = it.number + 1
                self._open = None
            number = next((it for it in self._segments.numbers() if it >= self._next_number), 0)
            if not number:
                return None
            self._open = self._opened(number)
            self._next_number = number
            if self._open is None:
                self._next_number = number + 1

    def _opened(self, number: int) -> _Open | None:
        """Open a segment that says of itself that it is this one; None when it is not."""
        view = self._segments.view(number)
        header = decode_header(view) if view is not None else None
        if view is None or header is None or (header.journal_id, header.number) != (self.journal_id, number):
            self._damaged += 1
            self.unreadable.add(number)
            return None
        return _Open(number, view, Reading(salt_of(self.journal_id, number), header.process))


class MappedStretches:
    """The stretches of this process's journal, and of all that dead processes left in the same directory."""

    def __init__(
        self,
        own: MappedJournal,
        clock: Clock,
        attempts: MappedPages[Any, Any] | None = None,
        refusals: MappedPages[Any, Any] | None = None,
    ) -> None:
        """Read ``own`` and what lies beside it; no journal goes before its ``attempts`` and ``refusals`` are stored.

        Usage is complete up to where attempts are counted as well; refusals are none of it.
        """
        self._own = own
        self._beside = [pages for pages in (attempts, refusals) if pages is not None]
        self._now_ms = clock.now_ms if attempts is None else attempts.seen_until_ms
        self._root = own.directory.path.parent
        self._directories: dict[str, JournalDirectory] = {own.journal_id: own.directory}
        self._places: dict[str, Places] = {own.journal_id: own.places}
        self._readers = {own.journal_id: JournalReader(own.journal_id, OwnSegments(own), own.places, self._now_ms)}
        self._damaged = 0

    @property
    def damaged(self) -> int:
        """How much could not be read since the start: gaps, verdicts without a subject, segments that are none."""
        return self._damaged + sum(reader.damaged for reader in self._readers.values())

    def journals(self) -> list[str]:
        """Return the ids of all journals here, this process's own first, then those whose processes are gone."""
        for directory in JournalDirectory.taken_over(self._root, set(self._readers)):
            try:
                places = Places(directory.path)
                segments = LeftSegments(directory.path)
            except OSError:
                directory.let_go()  # not for ever, perhaps
                continue
            journal_id = directory.journal_id
            self._directories[journal_id] = directory
            self._places[journal_id] = places
            self._readers[journal_id] = JournalReader(journal_id, segments, places, self._now_ms)
            for pages in self._beside:
                pages.take_over(journal_id, directory.path)
        return list(self._readers)

    def next(self, journal_id: str, *, at_most: int) -> Stretch | None:
        """Return the next stretch of a journal, the same until it is released; None when there is nothing."""
        if journal_id == self._own.journal_id:
            self._own.reserve_ahead()
        return self._readers[journal_id].next(at_most)

    def idle(self, journal_id: str) -> Stretch | None:
        """Return an empty stretch that says up to when a journal held nothing more; None when it holds something."""
        return self._readers[journal_id].idle()

    def release(self, stretch: Stretch) -> None:
        """Note that a stretch is counted for good; its room may be used again."""
        self._readers[stretch.journal_id].release(stretch)

    def resume(self, journal_id: str, *, place: int) -> None:
        """Go on at the place up to which the store has counted; a stretch that begins elsewhere is forgotten."""
        self._readers[journal_id].resume(place)

    def finished(self, journal_id: str) -> bool:
        """Say whether a journal is counted to its end and gets no more verdicts; then close it in the store."""
        return all(it.finished(journal_id) for it in self._beside) and self._readers[journal_id].finished

    def remove(self, journal_id: str) -> None:
        """Delete a finished journal, after the store has closed it."""
        reader = self._readers.pop(journal_id)
        self._damaged += reader.damaged
        self._forget_beside(journal_id)
        if journal_id == self._own.journal_id:
            self._own.let_go()
        self._places.pop(journal_id).close()
        self._directories.pop(journal_id).remove(keep=reader.unreadable)

    def let_go(self) -> None:
        """Leave the journals of dead processes to others; the own one lets go of itself."""
        for journal_id in [it for it in self._readers if it != self._own.journal_id]:
            del self._readers[journal_id]
            self._forget_beside(journal_id)
            self._places.pop(journal_id).close()
            self._directories.pop(journal_id).let_go()

    def _forget_beside(self, journal_id: str) -> None:
        for pages in self._beside:
            pages.forget(journal_id)
