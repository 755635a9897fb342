"""Counters by group and minute in a mapped file beside the journal: a killed server loses none of what they say.

A flood costs as much room as one slot of each group: what comes again only makes a number in the mapping greater, one
machine word, whole at any instant. There are two pages. One counts; when it is sealed it is fixed for ever, is sent,
and is emptied after it was counted, while the other one goes on under the next number. What is sent is therefore the
same each time, by this process or by the next, and a store that knows the number counts it once.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Generic

from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.journal_directory import mapped_file
from keystead.adapters.files.slots import MINUTE_MS, WORD_BYTES, Group, ItemT, Layout, PageT, SlotReading
from keystead.usage.errors import JournalFullError
from keystead.usage.model import OTHER_ADDRESS

GROUPS_PER_MINUTE_MAX = 4_096
SLOTS_PER_PAGE = 8_192
# Of a page's slots, so many in a hundred may name addresses: sums without them have room for hours of an outage.
_NAMED_PERCENT = 75
_PAGES = 2
_EVERYTHING_ELSE = -1
_COUNT, _FIRST_AT, _LAST_AT = range(3)


class MappedCounters(Generic[ItemT, PageT]):
    """The counters of one kind in this process. ``dropped`` tells of those that should have been counted and were not.

    One thread counts and takes pages.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout[ItemT, PageT],
        *,
        journal_id: str,
        slots_per_page: int,
        when_full: WhenFull,
    ) -> None:
        """Begin the counters of a new journal in its ``folder``; raise ``OSError`` when there is no room for them."""
        self.journal_id = journal_id
        self.layout = layout
        self.dropped = 0
        self.closed = False
        self._memory: mmap.mmap = mapped_file(folder / layout.name, _PAGES * slots_per_page * layout.slot_bytes)
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._slots = slots_per_page
        self._slot_words = layout.slot_bytes // WORD_BYTES
        self._named_slots = slots_per_page * _NAMED_PERCENT // 100
        self._when_full: WhenFull = when_full
        self._salt = layout.salt_of(journal_id)
        self._minute_ms = -1
        self._known: dict[int, set[Group]] = {}
        self._places: dict[Group, int] = {}
        self._number = 1
        self._used = 0
        self._since_ms: int | None = None
        self._sealed: PageT | None = None
        self._sealed_since_ms: int | None = None
        self._sealed_used = 0

    def place_of(self, group: Group, at_ms: int) -> int:
        """Return where to ``add`` one of ``group`` before anything is awaited; -1 when it is dropped.

        Nothing is counted yet. Raises ``JournalFullError`` when it cannot be and must be.
        """
        minute_ms = at_ms - at_ms % MINUTE_MS
        if minute_ms != self._minute_ms:
            self._minute_ms = minute_ms
            self._known.clear()
            self._places.clear()
        place = self._places.get(group, -1)
        return place if place >= 0 else self._new_place(group, at_ms)

    def add(self, place: int, at_ms: int) -> None:
        """Count one at a place; -1 is none."""
        if place >= 0:
            words = self._words
            if not words[place]:
                words[place + _FIRST_AT] = at_ms
            words[place + _LAST_AT] = at_ms
            words[place] += 1

    def _new_place(self, group: Group, at_ms: int) -> int:
        """Return where to count a group that has no place in this page and minute yet; -1 when it is dropped."""
        layout = self.layout
        known = self._known.get(group[-2])
        if known is None:
            share = group[-2] if group[-2] in layout.allowances else _EVERYTHING_ELSE
            known = self._known.setdefault(share, set())
            self._known[group[-2]] = known
        named = group
        if group not in known:
            if len(known) >= layout.allowances.get(group[-2], GROUPS_PER_MINUTE_MAX):
                # The way of most of a flood: at once when the sum without addresses has a place.
                place = self._places.get(layout.summed(group), -1)
                if place >= 0:
                    return place
                named = layout.other(group)
            else:
                named = layout.normalised(group)
        if named[-1] != OTHER_ADDRESS and self._used >= self._named_slots and named not in self._places:
            named = layout.other(group)
        place = self._places.get(named, -1)
        if place < 0:
            if self.closed or self._used >= self._slots:
                return self._refuse()
            place = self._define(named, at_ms)
        if named[-1] != OTHER_ADDRESS:
            known.add(named)
            if len(self._places) < _PAGES * self._slots:  # another spelling of it finds its place at once from now on
                self._places[group] = place
        return place

    def _refuse(self) -> int:
        if self._when_full == "refuse":
            raise JournalFullError
        self.dropped += 1
        return -1

    def _define(self, group: Group, at_ms: int) -> int:
        """Begin a slot; its count is still 0, so it is nothing yet."""
        slot = self._first_slot + self._used
        self.layout.write(self._bytes, self._salt, slot, page=self._number, minute_ms=self._minute_ms, group=group)
        if not self._used:
            self._since_ms = at_ms
        self._used += 1
        place = slot * self._slot_words
        self._places[group] = place
        return place

    @property
    def _first_slot(self) -> int:
        """Where the page begins that counts; odd and even pages take turns."""
        return (self._number - 1) % _PAGES * self._slots

    @property
    def since_ms(self) -> int | None:
        """When the first one was counted that is not in the store yet; None when all are."""
        return self._since_ms if self._sealed_since_ms is None else self._sealed_since_ms

    def next(self) -> PageT | None:
        """Return the sealed page, the same until it is released; seal one when something was counted."""
        if self._sealed is None and self._used:
            self._seal()
        return self._sealed

    def _seal(self) -> None:
        first, length = self._first_slot, self.layout.slot_bytes
        reading = SlotReading(self.layout, self.journal_id)
        with self._bytes[first * length : (first + self._used) * length] as held:
            reading.read(held, first_slot=first)
        self._sealed = reading.page(self._number)
        self._sealed_since_ms, self._since_ms = self._since_ms, None
        self._sealed_used, self._used = self._used, 0
        self._number += 1
        self._places.clear()

    def release(self, page: PageT) -> None:
        """Empty a page that was counted; a page that is not the sealed one changes nothing."""
        if page is not self._sealed:
            return
        slot_bytes = self.layout.slot_bytes
        first, length = self._number % _PAGES * self._slots * slot_bytes, self._sealed_used * slot_bytes
        self._bytes[first : first + length] = bytes(length)
        self._sealed = self._sealed_since_ms = None

    def close(self) -> None:
        """Count no more; what is not in the store yet can still be taken."""
        self.closed = True
        self._places.clear()
        self._known.clear()

    def let_go(self) -> None:
        """Close and unmap: from now on the counters are those of a dead process."""
        self.close()
        self._words.release()
        self._bytes.release()
        self._memory.close()
