"""Which records of an export are missing, moved or there twice, told from their indexes as they come.

A record that proves itself says where it belongs, so only the order is left to judge. A jump ahead is believed when
the sequence goes on after it; until then the record that jumped may itself be what stands in the wrong place. Lines
that prove nothing are counted against the records that are missing where they stand: those were changed. What is
remembered is bounded: some gaps, some records that came early, and a hundred strange lines of each place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keystead.events.findings import FINDINGS_MAX, Findings

_RUN_MAX = 8
_REMEMBERED_MAX = 1_000

Span = tuple[int, int]
"""Indexes from the first to before the second."""


@dataclass(frozen=True, slots=True)
class Strange:
    """A line that proves nothing: where it stands, the index it claims (None when it claims none), what is wrong."""

    line: int
    stated: int | None
    why: str


@dataclass(slots=True)
class _Group:
    """Strange lines in a row, which stand where ``place`` is due; ``count`` may be more than are kept."""

    place: int
    count: int = 0
    lines: list[Strange] = field(default_factory=list)


class Order:
    """Takes the lines of an export one by one."""

    def __init__(self, first_index: int, findings: Findings) -> None:
        """Expect ``first_index`` first, and tell ``findings``."""
        self._due = first_index
        self._findings = findings
        self._run: list[tuple[int, int]] = []  # (index, line), ascending, beyond what is due, not believed yet
        self._early: dict[int, tuple[int, int]] = {}  # index -> its line, and the record that it stands before
        self._gaps: list[Span] = []
        self._groups: list[_Group] = []

    def take(self, index: int, line: int) -> None:
        """Take a record that proves itself to be number ``index``."""
        while index > self._due and self._due in self._early:
            self._come_early(self._due)
            self._due += 1
        if index < self._due:
            self._come_late(index, line)
        elif index == self._due:
            self._step_back(index)
            self._settle([])
            if index in self._early:
                self._findings.repeated(index, self._early.pop(index)[0])
            self._due += 1
        else:
            self._jump(index, line)

    def take_strange(self, strange: Strange) -> None:
        """Take a line that proves nothing."""
        place = self._place()
        if not self._groups or self._groups[-1].place != place:
            self._groups.append(_Group(place))
        group = self._groups[-1]
        group.count += 1
        if len(group.lines) < FINDINGS_MAX:
            group.lines.append(strange)

    def finish(self, size: int) -> None:
        """Judge what is left, now that ``size`` records should have come."""
        self._believe()
        left = self._settle(self._without_early([(self._due, size)] if self._due < size else []))
        for start, stop in self._gaps:
            self._findings.missing(start, stop, at_the_end=False)
        for start, stop in left:
            self._findings.missing(start, stop, at_the_end=stop == size)

    def _place(self) -> int:
        return self._run[-1][0] + 1 if self._run else self._due

    def _jump(self, index: int, line: int) -> None:
        self._step_back(index)
        if self._run and self._run[-1][0] == index:
            self._findings.repeated(index, line)
            return
        goes_on = bool(self._run) and self._run[-1][0] + 1 == index
        self._run.append((index, line))
        if goes_on or len(self._run) == _RUN_MAX:
            self._believe()

    def _step_back(self, index: int) -> None:
        """Records beyond ``index`` that came before it came too early."""
        while self._run and self._run[-1][0] > index:
            early, line = self._run.pop()
            if early in self._early:
                self._findings.repeated(early, line)
            else:
                self._early[early] = (line, index)
        while len(self._early) > _REMEMBERED_MAX:
            self._come_early(next(iter(self._early)))
        place = self._place()
        for group in self._groups:
            group.place = min(group.place, place)

    def _come_early(self, index: int) -> None:
        line, beside = self._early.pop(index)
        self._findings.moved(index, line, beside=beside)

    def _come_late(self, index: int, line: int) -> None:
        for place, (start, stop) in enumerate(self._gaps):
            if start <= index < stop:
                self._gaps[place : place + 1] = [
                    span for span in ((start, index), (index + 1, stop)) if span[0] < span[1]
                ]
                self._findings.moved(index, line, beside=self._due - 1)
                return
        self._findings.repeated(index, line)

    def _believe(self) -> None:
        """Take what jumped ahead to be in its place, and what lies between to be missing."""
        if not self._run:
            return
        missing: list[Span] = []
        for index, _ in self._run:
            if index > self._due:
                missing.append((self._due, index))
            if index in self._early:
                self._findings.repeated(index, self._early.pop(index)[0])
            self._due = index + 1
        self._run.clear()
        self._gaps += self._settle(self._without_early(missing))
        while len(self._gaps) > _REMEMBERED_MAX:
            self._findings.missing(*self._gaps.pop(0), at_the_end=False)

    def _without_early(self, missing: list[Span]) -> list[Span]:
        left: list[Span] = []
        for start, stop in missing:
            known = sorted(index for index in self._early if start <= index < stop)
            for index in known:
                self._come_early(index)
            left += _without((start, stop), known)
        return left

    def _settle(self, missing: list[Span]) -> list[Span]:
        """Match strange lines with what is missing where they stand; return what is missing without a trace."""
        left: list[Span] = []
        groups, self._groups = self._groups, []
        for span in missing:
            here = [group for group in groups if span[0] <= group.place < span[1]]
            groups = [group for group in groups if group not in here]
            left += self._match(span, here)
        for group in groups:
            if group.place < self._due or not missing:
                self._tell_inserted(group)
            else:
                self._groups.append(group)
        return left

    def _match(self, span: Span, groups: list[_Group]) -> list[Span]:
        lines = [strange for group in groups for strange in group.lines]
        count = sum(group.count for group in groups)
        if count == span[1] - span[0]:
            for index, strange in zip(range(*span), lines, strict=False):
                self._findings.changed(index, strange.line, strange.why)
            self._findings.count += count - len(lines)
            return []
        claims = _claims(span, lines)
        for strange in lines:
            if strange in claims:
                self._findings.changed(claims[strange], strange.line, strange.why)
            else:
                self._findings.forged(span[0], strange.line, strange.why)
        self._findings.count += count - len(lines)
        return _without(span, sorted(claims.values()))

    def _tell_inserted(self, group: _Group) -> None:
        for strange in group.lines:
            self._findings.forged(group.place, strange.line, strange.why)
        self._findings.count += group.count - len(group.lines)


def _claims(span: Span, lines: list[Strange]) -> dict[Strange, int]:
    """Give each line a missing record: the one it states, or else the first that nobody claims, as far as they go."""
    claims: dict[Strange, int] = {}
    taken: set[int] = set()
    for strange in lines:
        if strange.stated is not None and span[0] <= strange.stated < span[1] and strange.stated not in taken:
            claims[strange] = strange.stated
            taken.add(strange.stated)
    free = iter(range(*span))
    for strange in lines:
        if strange in claims:
            continue
        index = next((each for each in free if each not in taken), None)
        if index is None:
            break
        claims[strange] = index
    return claims


def _without(span: Span, known: list[int]) -> list[Span]:
    """Cut the indexes in ``known`` (ascending) out of ``span``."""
    left: list[Span] = []
    start, stop = span
    for index in known:
        if start < index:
            left.append((start, index))
        start = index + 1
    if start < stop:
        left.append((start, stop))
    return left
