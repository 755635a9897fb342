"""What is wrong with an export, as values: which record, on which line, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FINDINGS_MAX = 100


class Fault(StrEnum):
    """What was done to an export."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    MOVED = "moved"
    CUT = "cut"
    HEAD = "head"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    ``index`` is the record it concerns, ``last_index`` the last of them where several in a row are missing; an inserted
    line that is no record of the log has the index of the record before which it stands. ``line`` counts from 1.
    """

    fault: Fault
    detail: str
    index: int | None = None
    last_index: int | None = None
    line: int | None = None


class Findings:
    """Gathers what is found: the first hundred as they are, and how many there were."""

    def __init__(self) -> None:
        """Begin with none."""
        self.kept: list[Finding] = []
        self.count = 0

    def add(self, found: Finding) -> None:
        """Take one more."""
        self.count += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(found)

    def changed(self, index: int, line: int, why: str) -> None:
        """Tell of a record whose line is not what was written."""
        self.add(Finding(Fault.CHANGED, f"record {index} was changed: {why}", index, line=line))

    def moved(self, index: int, line: int, *, beside: int) -> None:
        """Tell of a record that stands elsewhere than its index says."""
        where = f"before record {beside}" if beside < index else f"after record {beside}"
        self.add(Finding(Fault.MOVED, f"record {index} was moved: it stands {where}", index, line=line))

    def repeated(self, index: int, line: int) -> None:
        """Tell of a record that stands there a second time."""
        self.add(Finding(Fault.INSERTED, f"record {index} was inserted again", index, line=line))

    def forged(self, place: int, line: int, why: str) -> None:
        """Tell of a line that is no record of the log."""
        detail = f"what stands before record {place} was inserted: {why}"
        self.add(Finding(Fault.INSERTED, detail, place, line=line))

    def missing(self, start: int, stop: int, *, at_the_end: bool) -> None:
        """Tell of records from ``start`` to before ``stop`` that are not there."""
        last = stop - 1
        what = f"record {start} is" if start == last else f"records {start} to {last} are"
        if at_the_end:
            self.add(Finding(Fault.CUT, f"the end was cut: {what} missing", start, last))
        else:
            self.add(Finding(Fault.REMOVED, f"{what} missing", start, last))
