"""Counters of verdicts about no key, in a mapped file beside the journal: a killed server loses none (P5).

A flood costs as much room as one attempt of each group: what comes again only makes a number in the mapping greater,
one machine word, whole at any instant. There are two pages. One counts; when it is sealed it is fixed for ever, is
sent, and is emptied after it was counted, while the other one goes on under the next number. What is sent is therefore
the same each time, by this process or by the next, and a store that knows the number counts it once.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Self

from keystead.adapters.files.attempt_slots import (
    MINUTE_MS,
    SLOT_BYTES,
    WORD_BYTES,
    Group,
    SlotReading,
    normalised,
    other,
    salt_of,
    write_definition,
)
from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.journal_directory import attempts_file, mapped_file
from keystead.usage.errors import JournalFullError
from keystead.usage.model import OTHER_ADDRESS, AttemptPage

GROUPS_PER_MINUTE_MAX = 4_096
SLOTS_PER_PAGE = 8_192
# Of a page's slots, so many in a hundred may name addresses: sums without them have room for hours of an outage.
_NAMED_PERCENT = 75
_PAGES = 2
_SLOT_WORDS = SLOT_BYTES // WORD_BYTES
_COUNT, _FIRST_AT, _LAST_AT = range(3)


class MappedAttempts:
    """The ``AttemptCounters`` of this process. ``dropped`` counts the verdicts that were given and not counted.

    Made by ``open``. One thread counts and takes pages.
    """

    def __init__(self, memory: mmap.mmap, *, journal_id: str, slots_per_page: int, when_full: WhenFull) -> None:
        """Count in ``memory``, which is all zero."""
        self.journal_id = journal_id
        self.dropped = 0
        self.closed = False
        self._memory = memory
        self._bytes = memoryview(memory)
        self._words = self._bytes.cast("Q")
        self._slots = slots_per_page
        self._named_slots = slots_per_page * _NAMED_PERCENT // 100
        self._when_full: WhenFull = when_full
        self._salt = salt_of(journal_id)
        self._minute_ms = -1
        self._known: set[Group] = set()
        self._places: dict[Group, int] = {}
        self._number = 1
        self._used = 0
        self._since_ms: int | None = None
        self._sealed: AttemptPage | None = None
        self._sealed_since_ms: int | None = None
        self._sealed_used = 0

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        journal_id: str,
        slots_per_page: int = SLOTS_PER_PAGE,
        when_full: WhenFull = "refuse",
    ) -> Self:
        """Begin the counters of a new journal in its ``folder``; raise ``OSError`` when there is no room for them."""
        memory = mapped_file(attempts_file(folder), _PAGES * slots_per_page * SLOT_BYTES)
        return cls(memory, journal_id=journal_id, slots_per_page=slots_per_page, when_full=when_full)

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
        minute_ms = at_ms - at_ms % MINUTE_MS
        if minute_ms != self._minute_ms:
            self._minute_ms = minute_ms
            self._known.clear()
            self._places.clear()
        group = (workspace_id, environment, brand, secret_environment, code, client_ip)
        place = self._places.get(group, -1)
        if place < 0:
            place = self._place_of(group, at_ms)
            if place < 0:
                return
        words = self._words
        words[place + _LAST_AT] = at_ms
        words[place] += 1

    def _place_of(self, group: Group, at_ms: int) -> int:
        """Return where to count a group that has no place in this page and minute yet; -1 when it is dropped."""
        named = group
        if group not in self._known:
            if len(self._known) >= GROUPS_PER_MINUTE_MAX:
                # The way of most attempts of a flood: at once when the sum without addresses has a place.
                place = self._places.get((group[0], group[1], "", "", group[4], OTHER_ADDRESS), -1)
                if place >= 0:
                    return place
                named = other(group)
            else:
                named = normalised(group)
        if named[-1] != OTHER_ADDRESS and self._used >= self._named_slots and named not in self._places:
            named = other(group)
        place = self._places.get(named, -1)
        if place < 0:
            if self.closed or self._used >= self._slots:
                return self._refuse()
            place = self._define(named, at_ms)
        if named[-1] != OTHER_ADDRESS:
            self._known.add(named)
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
        write_definition(self._bytes, self._salt, slot, page=self._number, minute_ms=self._minute_ms, group=group)
        place = slot * _SLOT_WORDS
        self._words[place + _FIRST_AT] = at_ms
        if not self._used:
            self._since_ms = at_ms
        self._used += 1
        self._places[group] = place
        return place

    @property
    def _first_slot(self) -> int:
        """Where the page begins that counts; odd and even pages take turns."""
        return (self._number - 1) % _PAGES * self._slots

    @property
    def since_ms(self) -> int | None:
        """When the first attempt was made that was not counted in the store yet; None when all were."""
        return self._since_ms if self._sealed_since_ms is None else self._sealed_since_ms

    def next(self) -> AttemptPage | None:
        """Return the sealed page, the same until it is released; seal one when something was counted."""
        if self._sealed is None and self._used:
            self._seal()
        return self._sealed

    def _seal(self) -> None:
        first, end = self._first_slot, self._first_slot + self._used
        reading = SlotReading(self.journal_id)
        with self._bytes[first * SLOT_BYTES : end * SLOT_BYTES] as held:
            reading.read(held, first_slot=first)
        self._sealed = AttemptPage(self.journal_id, self._number, tuple(reading.pages.get(self._number, ())))
        self._sealed_since_ms, self._since_ms = self._since_ms, None
        self._sealed_used, self._used = self._used, 0
        self._number += 1
        self._places.clear()

    def release(self, page: AttemptPage) -> None:
        """Empty a page that was counted; a page that is not the sealed one changes nothing."""
        if page is not self._sealed:
            return
        first, length = self._number % _PAGES * self._slots * SLOT_BYTES, self._sealed_used * SLOT_BYTES
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
