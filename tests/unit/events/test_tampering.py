"""Whoever touches an export of 1,000 records is found, and the record that he touched is named (P6)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from keystead.events.findings import FINDINGS_MAX, Fault
from keystead.events.verification import Report
from tests.unit.events.exports import FORMS, Export, events_of, export_of

RECORDS = 1_000
APART = RECORDS // FINDINGS_MAX
"""Faults of one file are so far apart that they are faults of their own, and as many as are told."""

LITTLE = 24
Faults = list[tuple[Fault, int | None]]


@pytest.fixture(scope="module")
def whole() -> Export:
    """Write an export of 1,000 records."""
    return export_of(events_of(RECORDS))


@pytest.fixture(scope="module")
def forged() -> list[bytes]:
    """Write the records of another log: each is sound by itself, and none is of this log."""
    return export_of(events_of(RECORDS + 1)).lines[1:-1]


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: type(form).__name__)
def little(request: pytest.FixtureRequest) -> Export:
    """Write an export of few records in each form, small enough to try everything on it."""
    return export_of(events_of(LITTLE), request.param)


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: type(form).__name__)
def tiny(request: pytest.FixtureRequest) -> Export:
    """Write an export of four records in each form, small enough to flip its bits one by one."""
    return export_of(events_of(4), request.param)


def bits_of(line: bytes, export: Export) -> range:
    """Name the bits to try: in JSON Lines every one, in the other forms every 13th, of each place in a byte alike."""
    return range(0, 8 * len(line), 1 if export.form is FORMS[0] else 13)


def told(report: Report) -> Faults:
    """Name what was found, and at which record."""
    assert report.findings_count == len(report.findings)
    return [(found.fault, found.index) for found in report.findings]


def rounds() -> Iterator[range]:
    """Cover all records in ten files, a hundred of them in each."""
    return (range(first, RECORDS, APART) for first in range(APART))


def flipped(line: bytes, bit: int) -> bytes:
    """Change one bit of a line."""
    changed = bytearray(line)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_nobody_touched_is_whole(whole: Export) -> None:
    """Nothing is said of an export as it was written, which has all that happened, from first to last."""
    report = whole.verified()
    assert (told(report), report.intact, report.events, report.first_index) == ([], True, RECORDS, 0)


def test_one_bit_of_each_record(whole: Export) -> None:
    """Whichever bit of a record's line is another, that record is named as changed, and no other."""
    chance = random.Random(5)
    for chosen in rounds():
        lines = list(whole.lines)
        for index in chosen:
            line = lines[1 + index]
            lines[1 + index] = flipped(line, chance.randrange(8 * (len(line) - 1)))
        # A bit can make a line end, which makes two lines of one: the second is then told as inserted.
        found = told(whole.with_lines(b"".join(lines).splitlines(keepends=True)).verified())
        assert [index for fault, index in found if fault is Fault.CHANGED] == list(chosen)


def test_every_bit_of_a_record(tiny: Export) -> None:
    """There is no bit in a record's line, its end included, that may be another without the record being named.

    Without a line end two records are one line, of which one is changed and the other missing.
    """
    line = tiny.lines[2]
    for bit in bits_of(line, tiny):
        report = tiny.with_lines([*tiny.lines[:2], flipped(line, bit), *tiny.lines[3:]]).verified()
        ended = bit < 8 * (len(line) - 1)
        assert (Fault.CHANGED, 1) in told(report) or (not ended and (Fault.REMOVED, 1) in told(report)), bit


def test_every_bit_of_the_first_line_and_of_the_checkpoint(tiny: Export) -> None:
    """Nothing in the frame may be another: it is told, and without its checkpoint nothing is called proven."""
    for at in (0, len(tiny.lines) - 1):
        for bit in bits_of(tiny.lines[at], tiny):
            lines = list(tiny.lines)
            lines[at] = flipped(lines[at], bit)
            report = tiny.with_lines(lines).verified()
            assert not report.intact, (at, bit)
            assert at == 0 or report.checkpoint is None


def test_every_deletion(whole: Export, little: Export) -> None:
    """A record that is missing is named, also the first, and the last as a cut end."""
    for chosen in rounds():
        lines = [line for at, line in enumerate(whole.lines) if at - 1 not in chosen]
        found = told(whole.with_lines(lines).verified())
        assert found == [(Fault.CUT if index == RECORDS - 1 else Fault.REMOVED, index) for index in chosen]
    for index in range(LITTLE):
        report = little.with_lines(little.lines[: 1 + index] + little.lines[2 + index :]).verified()
        assert told(report) == [(Fault.CUT if index == LITTLE - 1 else Fault.REMOVED, index)]


def test_every_adjacent_swap(whole: Export, little: Export) -> None:
    """Of two records that changed places one is named as moved, and nothing else is."""
    for first in range(APART):
        lines, chosen = list(whole.lines), range(first, RECORDS - 1, APART)
        for index in chosen:
            lines[1 + index : 3 + index] = reversed(lines[1 + index : 3 + index])
        assert told(whole.with_lines(lines).verified()) == [(Fault.MOVED, index + 1) for index in chosen]
    for index in range(LITTLE - 1):
        lines = list(little.lines)
        lines[1 + index : 3 + index] = reversed(lines[1 + index : 3 + index])
        assert told(little.with_lines(lines).verified()) == [(Fault.MOVED, index + 1)]


def test_every_move(little: Export) -> None:
    """A record that stands elsewhere is named as moved; of neighbours either may be."""
    for index in range(LITTLE):
        for place in range(LITTLE):
            if index == place:
                continue
            records = little.lines[1:-1]
            records.insert(place, records.pop(index))
            found = told(little.with_lines([little.lines[0], *records, little.lines[-1]]).verified())
            neighbours = {index, place} if abs(index - place) == 1 else {index}
            assert [fault for fault, _ in found] == [Fault.MOVED]
            assert found[0][1] in neighbours


def test_every_insertion_of_a_duplicate(whole: Export, little: Export) -> None:
    """A record that stands there twice is named, wherever its second line is."""
    chance = random.Random(7)
    for first in range(APART):
        lines: list[bytes] = []
        repeated: list[int] = []
        candidates = range((first + APART // 2) % APART, RECORDS, APART)  # so that each insertion is one of its own
        for at, line in enumerate(whole.lines):
            if at % APART == first and at and len(repeated) < FINDINGS_MAX:
                repeated.append(chance.choice(candidates))
                lines.append(whole.lines[1 + repeated[-1]])
            lines.append(line)
        found = told(whole.with_lines(lines).verified())
        assert {fault for fault, _ in found} == {Fault.INSERTED}
        assert sorted(index for _, index in found if index is not None) == sorted(repeated)
    for index in range(LITTLE):
        for place in range(LITTLE + 1):
            lines = [*little.lines[: 1 + place], little.lines[1 + index], *little.lines[1 + place :]]
            assert told(little.with_lines(lines).verified()) == [(Fault.INSERTED, index)]


def test_every_insertion_of_a_forged_record(whole: Export, little: Export, forged: list[bytes]) -> None:
    """A record of another log, sound by itself, is told by the record before which it stands, and by its line."""
    for first in range(APART):
        places = range(first, RECORDS + (first == 0), APART)[:FINDINGS_MAX]
        lines: list[bytes] = []
        for at, line in enumerate(whole.lines):
            if at - 1 in places:
                lines.append(forged[at - 1])
            lines.append(line)
        report = whole.with_lines(lines).verified()
        assert told(report) == [(Fault.INSERTED, place) for place in places]
    others = export_of(events_of(LITTLE + 1), little.form).lines[1:-1]
    for place in range(LITTLE + 1):
        lines = [*little.lines[: 1 + place], others[place], *little.lines[1 + place :]]
        report = little.with_lines(lines).verified()
        assert told(report) == [(Fault.INSERTED, place)]
        assert report.findings[0].line == place + 2


def test_every_cut_tail(whole: Export, little: Export) -> None:
    """A cut end is told: which records are missing before the checkpoint, or that the checkpoint is missing too."""
    for export, step in ((whole, 97), (little, 1)):
        count = len(export.lines) - 2
        for left in range(0, count, step):
            report = export.with_lines([*export.lines[: 1 + left], export.lines[-1]]).verified()
            assert told(report) == [(Fault.CUT, left)]
            assert report.findings[0].last_index == count - 1
            report = export.with_lines(export.lines[: 1 + left]).verified()
            assert [found.fault for found in report.findings] == [Fault.CUT]
            assert (report.findings[0].line, report.checkpoint) == (1 + left, None)
            torn = export.with_lines([*export.lines[: 1 + left], export.lines[1 + left][:-9]]).verified()
            assert [found.fault for found in torn.findings] == [Fault.CUT]


def test_what_stands_outside_of_the_frame(little: Export) -> None:
    """A line before the first or after the checkpoint was inserted, whatever it says."""
    for line in (little.lines[4], b"\n", little.lines[0]):
        after = little.with_lines([*little.lines, line]).verified()
        assert [found.fault for found in after.findings] == [Fault.INSERTED]
        assert after.findings[0].line == len(little.lines) + 1
    before = little.with_lines([little.lines[4], *little.lines]).verified()
    assert told(before) == [(Fault.INSERTED, 3)]


def test_a_file_that_is_all_wrong_is_told_shortly(whole: Export, forged: list[bytes]) -> None:
    """However much is wrong, a hundred findings are told, and how many there are."""
    report = whole.with_lines([whole.lines[0], *forged[:RECORDS], whole.lines[-1]]).verified()
    assert (len(report.findings), report.findings_count, report.events) == (FINDINGS_MAX, RECORDS, 0)
    assert told_shortly(report) == [(Fault.CHANGED, index) for index in range(FINDINGS_MAX)]


def told_shortly(report: Report) -> Faults:
    """Name what was found, as far as it is kept."""
    return [(found.fault, found.index) for found in report.findings]
