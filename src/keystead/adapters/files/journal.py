"""Verdicts written down in memory that outlives the process: a mapped file, so a killed server loses none (P5).

Room is reserved before it is needed (a full disk is an answer, never a signal), and what is written is in the kernel's
hands when ``append`` returns. What repeats is written once per segment and kept as a number on the entry it belongs to.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from keystead.adapters.files.journal_directory import (
    FILE_BYTES_MAX,
    JournalDirectory,
    Places,
    mapped_file,
    segment_file,
)
from keystead.kernel.clock import Clock
from keystead.kernel.ids import new_id
from keystead.usage.errors import JournalFullError
from keystead.usage.model import Subject
from keystead.usage.ports import Counted
from keystead.usage.records import (
    CALL_BYTES,
    DEFINITION_PAYLOAD_MAX_BYTES,
    HEADER_BYTES,
    JOURNAL_PREFIX,
    SUBJECT,
    TEXT,
    SegmentHeader,
    definition_bytes,
    encode_definition,
    encode_subject,
    encode_text,
    salt_of,
    write_call,
)

SEGMENT_BYTES = 8 * 1024 * 1024
SEGMENT_BYTES_MIN = HEADER_BYTES + 5 * definition_bytes(bytes(DEFINITION_PAYLOAD_MAX_BYTES)) + CALL_BYTES
SEGMENTS_MAX = 64
TEXTS_MAX = 65_536
RETRY_AFTER_MS = 100

WhenFull = Literal["refuse", "drop_and_count"]


@dataclass(slots=True)
class OwnSegment:
    """A segment of this process, mapped. ``end`` is where its records end, once nothing more is written to it."""

    number: int
    file: Path
    memory: mmap.mmap
    view: memoryview
    end: int = -1

    @classmethod
    def made(cls, folder: Path, header: SegmentHeader, length: int) -> Self:
        """Make the file with its room reserved and its header written; raise ``OSError`` when there is no room."""
        file = segment_file(folder, header.number)
        memory = mapped_file(file, length)
        memory[:HEADER_BYTES] = header.encode()
        return cls(header.number, file, memory, memoryview(memory))

    def unmap(self) -> None:
        """Give the memory back."""
        self.view.release()
        self.memory.close()


class MappedJournal:
    """The journal of this process. ``dropped`` counts the verdicts that were given and not written down.

    Made by ``open``. One thread appends.
    """

    def __init__(
        self,
        directory: JournalDirectory,
        *,
        process: str,
        clock: Clock,
        segment_bytes: int,
        segments_max: int,
        when_full: WhenFull,
    ) -> None:
        """Begin the first segment in ``directory``; raise ``OSError`` when there is no room for it."""
        self.directory = directory
        self.journal_id = directory.journal_id
        self.dropped = 0
        self.closed = False
        self.segments: dict[int, OwnSegment] = {}
        self._process = process
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._segments_max = segments_max
        self._when_full: WhenFull = when_full
        self._retry_at_ms = 0
        self._spare: OwnSegment | None = None
        self._number = self._place = self._last_place = self._salt = self._subjects = 0
        self._texts: dict[str, int] = {}
        self._begin(self._reserved(1))
        self.places = Places(directory.path)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        process: str,
        clock: Clock,
        segment_bytes: int = SEGMENT_BYTES,
        segments_max: int = SEGMENTS_MAX,
        when_full: WhenFull = "refuse",
    ) -> Self:
        """Begin a new journal in ``directory``/journal.

        ``process`` is the constant part of this process's verification ids; at most ``segments_max`` files of
        ``segment_bytes`` (48 KiB to 256 MiB) are kept. Raise ``OSError`` when there is no room for the first of them.
        """
        if not SEGMENT_BYTES_MIN <= segment_bytes <= FILE_BYTES_MAX or segments_max < 1:
            raise ValueError(f"segments have {SEGMENT_BYTES_MIN} to {FILE_BYTES_MAX} bytes, and there is at least one")
        folder = JournalDirectory.made(directory / "journal", new_id(JOURNAL_PREFIX, now_ms=clock.now_ms()))
        try:
            return cls(
                folder,
                process=process,
                clock=clock,
                segment_bytes=segment_bytes,
                segments_max=segments_max,
                when_full=when_full,
            )
        except OSError:
            folder.remove()
            raise

    @property
    def number(self) -> int:
        """The segment that is written to."""
        return self._number

    @property
    def place(self) -> int:
        """Where the next record will stand in it."""
        return self._place

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of records wait to be counted."""
        segment, begin = self.places.begin >> 32, self.places.begin & 0xFFFF_FFFF
        numbers = [number for number in self.segments if number >= segment]
        return sum(
            self.end_of(number) - (max(begin, HEADER_BYTES) if number == segment else HEADER_BYTES)
            for number in numbers
        )

    @property
    def reserved_bytes(self) -> int:
        """How much room on the disk the segments take."""
        return (len(self.segments) + (self._spare is not None)) * self._segment_bytes

    @property
    def reserved_bytes_max(self) -> int:
        """How much room they may take."""
        return self._segments_max * self._segment_bytes

    def append(
        self,
        counted: Counted,
        *,
        code: int,
        at_ms: int,
        ordinal: int,
        cost: int,
        operation: str,
        client_ip: str,
        scope_expression: str,
        tags: str,
    ) -> None:
        """Write one verdict down before its answer leaves; raise ``JournalFullError`` when it cannot be and must be."""
        texts = self._texts
        known = operation in texts and client_ip in texts and scope_expression in texts and tags in texts
        if not known or counted.journal_mark >> 32 != self._number or self._place > self._last_place:
            # As rare as a new key, a new name or a new segment.
            if not self._make_ready(counted, (operation, client_ip, scope_expression, tags)):
                return
            texts = self._texts
        place = self._place
        write_call(
            self._view,
            self._salt,
            place,
            code,
            counted.journal_mark & 0xFFFF_FFFF,
            texts[operation],
            texts[client_ip],
            texts[scope_expression],
            texts[tags],
            cost,
            at_ms,
            ordinal,
        )
        self._place = place + CALL_BYTES

    def _make_ready(self, counted: Counted, referred: tuple[str, ...]) -> bool:
        """See to it that everything the verdict refers to is defined and that it has room; say whether it has."""
        subject = encode_subject(
            Subject(counted.workspace_id, counted.environment, counted.key_id, counted.secret_id, counted.owner_id)
        )
        texts = {text: encode_text(text) for text in referred}
        needed = definition_bytes(subject) + sum(map(definition_bytes, texts.values())) + CALL_BYTES
        tight = self._place + needed > self._segment_bytes or len(self._texts) + len(texts) > TEXTS_MAX
        if (self.closed or tight) and not self._roll():
            if self._when_full == "refuse":
                raise JournalFullError
            self.dropped += 1
            return False
        if counted.journal_mark >> 32 != self._number:
            self._subjects += 1
            self._define(SUBJECT, self._subjects, subject)
            counted.journal_mark = self._number << 32 | self._subjects
        for text, payload in texts.items():
            if text not in self._texts:
                number = len(self._texts)
                self._define(TEXT, number, payload)
                self._texts[text] = number
        return True

    def _define(self, kind: int, number: int, payload: bytes) -> None:
        place = self._place
        record = encode_definition(self._salt, place, kind, number, payload)
        self._view[place : place + len(record)] = record
        self._place = place + len(record)

    def _roll(self) -> bool:
        """Go on in a new segment; False when there is no room for one."""
        if self.closed or not self.reserve_ahead(at_once=True) or self._spare is None:
            return False
        self.segments[self._number].end = self._place
        spare, self._spare = self._spare, None
        self._begin(spare)
        return True

    def reserve_ahead(self, *, at_once: bool = False) -> bool:
        """Reserve the next segment when this one is half full, or ``at_once``; say whether there was room.

        After a failure the next try is 100 ms later: a full disk must not make every verdict slow as well.
        """
        if self._spare is not None or (not at_once and self._place < self._segment_bytes // 2):
            return True
        now_ms = self._clock.monotonic_ms()
        if self.closed or len(self.segments) >= self._segments_max or now_ms < self._retry_at_ms:
            return False
        try:
            self._spare = self._reserved(self._number + 1)
        except OSError:
            self._retry_at_ms = now_ms + RETRY_AFTER_MS
            return False
        return True

    def _reserved(self, number: int) -> OwnSegment:
        header = SegmentHeader(self.journal_id, number, self._process, self._clock.now_ms())
        return OwnSegment.made(self.directory.path, header, self._segment_bytes)

    def _begin(self, segment: OwnSegment) -> None:
        self.segments[segment.number] = segment
        self._number = segment.number
        self._view = segment.view
        self._salt = salt_of(self.journal_id, segment.number)
        self._place = HEADER_BYTES
        self._last_place = self._segment_bytes - CALL_BYTES
        self._subjects = 0
        self._texts = {"": 0}

    def end_of(self, number: int) -> int:
        """Return up to where a segment holds records now."""
        return self._place if number == self._number else self.segments[number].end

    def discard(self, number: int) -> None:
        """Unmap and delete a segment that is counted and gets no more verdicts."""
        segment = self.segments.pop(number)
        segment.unmap()
        with suppress(OSError):  # what stays behind is deleted with the directory
            segment.file.unlink()

    def close(self) -> None:
        """Take no more verdicts; what is not counted yet can still be read."""
        self.closed = True
        self._last_place = -1

    def let_go(self) -> None:
        """Close, unmap everything and unlock the directory: from now on the journal is one of a dead process."""
        self.close()
        for segment in (*self.segments.values(), *filter(None, (self._spare,))):
            segment.unmap()
        self.segments.clear()
        self._spare = None
        self.places.close()
        self.directory.let_go()
