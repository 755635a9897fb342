"""Verifying an export: what is erased, what only looks alike, whose key it is, and what a careful forger tries."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keystead.events.checkpoints import Checkpoint, origin_of, sign_checkpoint
from keystead.events.export import End, Entry, Form, Head, JsonLines
from keystead.events.findings import Fault, Findings
from keystead.events.merkle import Tree
from keystead.events.model import Event, canonical
from keystead.events.order import Order, Strange
from tests.fakes import BEGINNING_MS
from tests.unit.events.exports import FORMS, KEY, WORKSPACE, Export, TestKey, entries_of, events_of, export_of, note_of

EVENTS = events_of(20)
WHOLE = export_of(EVENTS)


def faults(export: Export) -> list[tuple[Fault, int | None]]:
    """Verify, and name what was found."""
    return [(found.fault, found.index) for found in export.verified().findings]


def with_line(at: int, line: str | bytes) -> Export:
    """Put another line in a place."""
    written = line.encode() if isinstance(line, str) else line
    return WHOLE.with_lines([*WHOLE.lines[:at], written, *WHOLE.lines[at + 1 :]])


def with_private(change: Callable[[dict[str, Any]], None]) -> Export:
    """Change what is private beside record 4, and write its line as it should be."""
    content = json.loads(WHOLE.lines[5])
    change(content["private"])
    return with_line(5, canonical(content) + "\n")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@pytest.mark.parametrize("first_index", (0, 7, 20))
def test_a_whole_export_is_summed_up(form: Form, first_index: int) -> None:
    """A good export tells how many events it holds, from when to when, and the checkpoint that vouches for them."""
    report = export_of(EVENTS, form, first_index=first_index).verified()
    count = 20 - first_index
    assert report.intact
    assert (report.workspace_id, report.first_index, report.events) == (WORKSPACE, first_index, count)
    assert report.checkpoint == Checkpoint(origin_of(WORKSPACE), 20, Tree([it.leaf_hash for it in EVENTS]).root(20))
    span = (BEGINNING_MS + first_index, BEGINNING_MS + 19) if count else (None, None)
    assert (report.first_at_ms, report.last_at_ms) == span


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_a_log_with_erased_personal_data_still_verifies(form: Form) -> None:
    """Erasing addresses, programs or both leaves every proof as it was (P6)."""

    def erased(event: Event, number: int) -> Event:
        kept = json.loads(event.private)
        for name in (("client_ip",), ("user_agent",), ("client_ip", "user_agent"))[number % 3]:
            kept.pop(name, None)
        return replace(event, private=canonical(kept))

    report = export_of([erased(event, number) for number, event in enumerate(EVENTS)], form).verified()
    assert (report.intact, report.events) == (True, 20)


def test_personal_data_must_be_what_the_record_commits_to() -> None:
    """Another address, another salt, another spelling of the salt or a value nobody committed to is a change."""

    def another_value(private: dict[str, Any]) -> None:
        private["client_ip"]["value"] = "198.51.100.1"

    def another_salt(private: dict[str, Any]) -> None:
        private["client_ip"]["salt"] = "00" * 16

    def no_salt(private: dict[str, Any]) -> None:
        private["client_ip"]["salt"] = "no"

    def upper_case(private: dict[str, Any]) -> None:
        private["client_ip"]["salt"] = private["client_ip"]["salt"].upper()

    def something_more(private: dict[str, Any]) -> None:
        private["name"] = {"salt": "00" * 16, "value": "Zoë"}

    def no_object(private: dict[str, Any]) -> None:
        private["client_ip"] = "203.0.113.7"

    def no_text(private: dict[str, Any]) -> None:
        private["client_ip"]["value"] = 7

    def half_a_character(private: dict[str, Any]) -> None:
        private["client_ip"]["value"] = "X"

    for change in (another_value, another_salt, no_salt, upper_case, something_more, no_object, no_text):
        assert faults(with_private(change)) == [(Fault.CHANGED, 4)], change.__name__
    escaped = with_private(half_a_character).lines[5].replace(b'"X"', b'"\\ud800"')
    assert faults(with_line(5, escaped)) == [(Fault.CHANGED, 4)]


def test_what_says_the_same_in_other_bytes_is_a_change() -> None:
    """Spaces, another order, a key told twice, hexadecimal in capitals: a reader might see another thing than we do."""
    line = WHOLE.lines[5].decode()
    content = json.loads(line)
    twice = line.replace('"record":', '"record":{"action":"key.forged"},"record":')
    spelled = (
        json.dumps(content, ensure_ascii=False) + "\n",
        canonical(content).replace("Zoë", "Zo\\u00eb") + "\n",
        line.replace(content["proof"][0], content["proof"][0].upper()),
        line[:-1] + " \n",
        line[:-1] + "\r\n",
        twice,
    )
    for text in spelled:
        assert text != line
        assert faults(with_line(5, text)) == [(Fault.CHANGED, 4)], text


def test_what_only_breaks_a_reader_is_a_change() -> None:
    """Lines that are nested too deep, hold numbers of a thousand digits or are no UTF-8 are told, and stop nothing."""
    for line in (b"[" * 100_000 + b"\n", b'{"index":' + b"9" * 9_000 + b"}\n", b"\xff\n", b"\n", b'"\\ud800"\n'):
        assert faults(with_line(5, line)) == [(Fault.CHANGED, 4)]
    deep = WHOLE.lines[-1][:-2] + b',"x":' + b"[" * 100_000 + b"\n"
    assert faults(with_line(21, deep)) == [(Fault.CHECKPOINT, None)]
    lone = WHOLE.lines[5].replace(b'"reason":"', b'"reason":"\\ud800')
    assert faults(with_line(5, lone)) == [(Fault.CHANGED, 4)]


def test_only_the_key_of_the_workspace_vouches() -> None:
    """Another key, and the same key under another workspace's name, vouch for nothing."""
    for report in (WHOLE.verified(key=TestKey(2)), WHOLE.verified(workspace_id="wsp_2")):
        assert [found.fault for found in report.findings] == [Fault.CHECKPOINT]
        assert (report.intact, report.checkpoint, report.events) == (False, None, 0)


def test_a_checkpoint_of_another_log_proves_nothing_of_this_one() -> None:
    """Records that do not lead to the root are told one by one, though the checkpoint is signed by the right key."""
    other = note_of(events_of(21)[1:])
    assert faults(with_line(21, JsonLines().write(End(other)))) == [(Fault.CHANGED, index) for index in range(20)]


def test_the_first_line_must_be_of_the_same_log() -> None:
    """A first line that names another workspace or beginning is told, and the records are judged all the same."""
    cases = {
        Head("wsp_2", 0): [(Fault.HEAD, None)],
        Head(WORKSPACE, 5): [(Fault.HEAD, None)],
        Head(WORKSPACE, 21): [(Fault.HEAD, None)],
    }
    for head, expected in cases.items():
        assert faults(with_line(0, JsonLines().write(head))) == expected
    assert faults(with_line(0, "{}\n")) == [(Fault.HEAD, None)]
    assert faults(with_line(0, '{"export":7}\n')) == [(Fault.HEAD, None)]
    assert faults(with_line(0, WHOLE.lines[0].replace(b":0", b": 0"))) == [(Fault.HEAD, None)]
    assert faults(WHOLE.with_lines(WHOLE.lines[1:])) == [(Fault.HEAD, None)]
    later = export_of(EVENTS, first_index=7)
    assert faults(later.with_lines(later.lines[1:])) == [(Fault.HEAD, None)]
    assert faults(later.with_lines([WHOLE.lines[0], *later.lines[1:]])) == [(Fault.REMOVED, 0)]


def test_an_empty_file_is_cut() -> None:
    """Nothing at all is not an empty log: that has a first line and a checkpoint."""
    assert faults(Export([])) == [(Fault.CUT, None)]
    assert export_of([]).verified().intact


def test_a_checkpoint_inside_is_an_insertion() -> None:
    """Only the last checkpoint counts, so that nobody ends an export early."""
    lines = [*WHOLE.lines[:9], JsonLines().write(End(note_of(EVENTS[:8]))).encode(), *WHOLE.lines[9:]]
    assert faults(WHOLE.with_lines(lines)) == [(Fault.INSERTED, 8)]


def test_a_proven_record_need_not_look_like_ours() -> None:
    """A record that is in the tree is checked whatever it says: a later version may write other fields."""
    record = canonical({"committed": 5, "occurred_at_ms": "then"})
    events = [replace(event, record=record, private="{}") for event in EVENTS[:3]]
    assert faults(export_of(events)) == []
    report = export_of(events).verified()
    assert (report.events, report.first_at_ms) == (3, None)


def test_several_faults_at_once() -> None:
    """Faults beside each other are still told, each by its record."""
    lines = WHOLE.lines
    forged = JsonLines().write(replace(entries_of(EVENTS)[6], record="{}")).encode()
    junk = b"{}\n"
    # Record 5 is missing, record 6 changed: the line says which it was.
    assert set(faults(WHOLE.with_lines([*lines[:6], forged, *lines[8:]]))) == {(Fault.CHANGED, 6), (Fault.REMOVED, 5)}
    # Record 6 was changed, and something inserted beside it.
    found = set(faults(WHOLE.with_lines([*lines[:7], junk, forged, *lines[8:]])))
    assert found == {(Fault.CHANGED, 6), (Fault.INSERTED, 6)}
    # Two lines for three records.
    found = set(faults(WHOLE.with_lines([*lines[:6], junk, junk, *lines[9:]])))
    assert found == {(Fault.CHANGED, 5), (Fault.CHANGED, 6), (Fault.REMOVED, 7)}
    # Two records far apart changed places.
    swapped = list(lines)
    swapped[4], swapped[15] = swapped[15], swapped[4]
    assert set(faults(WHOLE.with_lines(swapped))) == {(Fault.MOVED, 3), (Fault.MOVED, 14)}
    # A whole stretch came too early.
    early = [*lines[:4], *lines[15:18], *lines[4:15], *lines[18:]]
    assert {fault for fault, _ in faults(WHOLE.with_lines(early))} == {Fault.MOVED}
    # Every second record is missing.
    sparse = [lines[0], *lines[1:-1:2], lines[-1]]
    assert [index for _, index in faults(WHOLE.with_lines(sparse))] == list(range(1, 20, 2))


def test_a_stretch_that_is_missing_is_one_finding() -> None:
    """Records in a row that are missing are told together, from first to last."""
    (found,) = WHOLE.with_lines([*WHOLE.lines[:5], *WHOLE.lines[9:]]).verified().findings
    assert (found.fault, found.index, found.last_index) == (Fault.REMOVED, 4, 7)
    assert found.detail == "records 4 to 7 are missing"


def ordered(*indexes: int | None, size: int) -> list[tuple[str, int | None]]:
    """Take records by their indexes, and strange lines for None, and tell what is found."""
    findings = Findings()
    order = Order(0, findings)
    for line, index in enumerate(indexes, 2):
        if index is None:
            order.take_strange(Strange(line, None, "x"))
        else:
            order.take(index, line)
    order.finish(size)
    return [(str(found.fault), found.index) for found in findings.kept]


def test_a_record_that_is_early_twice_was_inserted_once() -> None:
    """Doubles are doubles also among records that stand too early."""
    assert ordered(5, 5, 0, 1, 2, 3, 4, 6, size=7) == [("inserted", 5), ("moved", 5)]
    assert ordered(5, 0, 5, 1, 2, 3, 4, 6, size=7) == [("inserted", 5), ("moved", 5)]
    assert ordered(0, 5, 1, 5, 6, size=7) == [("inserted", 5), ("removed", 2)]
    assert ordered(5, 7, 0, 1, 2, 3, 4, 6, size=8) == [("moved", 5), ("moved", 7)]


def test_a_strange_line_behind_an_early_record_stands_where_the_sequence_goes_on() -> None:
    """What is strange is told by the record that was due there."""
    assert ordered(5, None, 0, 1, 2, 3, 4, size=6) == [("inserted", 0), ("moved", 5)]
    assert ordered(0, 3, None, 1, 2, size=4) == [("inserted", 1), ("moved", 3)]
    assert ordered(0, 2, None, size=4) == [("changed", 3), ("removed", 1)]


def test_a_late_record_leaves_its_own_gap() -> None:
    """What came late is moved, and what is missing before and after it is still missing."""
    assert ordered(0, 2, 3, 7, 8, 5, size=9) == [("moved", 5), ("removed", 1), ("removed", 4), ("removed", 6)]


def test_what_is_remembered_is_bounded() -> None:
    """However many gaps or early records there are, about a thousand are remembered, and all are told."""
    gaps = [index for start in range(0, 12_000, 3) for index in (start, start + 1)]
    findings = Findings()
    order = Order(0, findings)
    for line, index in enumerate(gaps):
        order.take(index, line)
    assert len(order._gaps) <= 1_000
    order.finish(12_000)
    assert findings.count == 4_000
    findings = Findings()
    order = Order(0, findings)
    for line, index in enumerate(range(5_000, 1_000, -1)):
        order.take(index, line)
    assert len(order._early) <= 1_000
    order.finish(5_001)
    assert findings.count > 3_900


def test_many_strange_lines_are_counted() -> None:
    """Of strange lines in a row a hundred are told, and all are counted, whether they stand for records or not."""
    for first, count, size in ((0, 250, 250), (0, 250, 300), (0, 250, 100), (0, 250, 0)):
        findings = Findings()
        order = Order(first, findings)
        for line in range(count):
            order.take_strange(Strange(line, None, "x"))
        order.finish(size)
        assert findings.count >= count
        assert len(findings.kept) == 100


def test_an_entry_without_a_tree_is_strange() -> None:
    """An index beyond the checkpoint has no proof."""
    entry = Entry(99, EVENTS[3].record, EVENTS[3].private, ())
    assert faults(with_line(4, JsonLines().write(entry))) == [(Fault.CHANGED, 3)]


def test_a_signed_size_that_cannot_be_is_told() -> None:
    """A checkpoint of more records than the export has lines is a cut end."""
    note = sign_checkpoint(Checkpoint(origin_of(WORKSPACE), 5, bytes(32)), KEY)
    export = Export([WHOLE.lines[0], JsonLines().write(End(note)).encode()])
    (found,) = export.verified().findings
    assert (found.fault, found.index, found.last_index) == (Fault.CUT, 0, 4)


@pytest.mark.parametrize(
    ("told", "found"),
    (
        ({"first_index": {"before": 0, "after": 5}}, 6),
        ({"first_index": {"before": 0, "after": 4}}, None),
        ({"first_index": 5}, None),
        ({}, None),
    ),
)
def test_a_report_names_the_record_that_tells_of_the_cut(told: dict[str, object], found: int | None) -> None:
    """Only one that moved the beginning to where the export begins."""
    cut = replace_record(EVENTS[6], {"action": "audit.log_cut", "changes": told})
    events = [*EVENTS[:6], cut, *EVENTS[7:]]
    assert export_of(events, first_index=5).verified().cut_index == found


@pytest.mark.parametrize("changes", (None, [], {"first_index": {"after": 5}}))
def test_only_a_cut_tells_of_a_cut(changes: object) -> None:
    """Whatever other records hold."""
    other = replace_record(EVENTS[6], {"action": "key.updated", "changes": changes})
    cut = replace_record(EVENTS[7], {"action": "audit.log_cut", "changes": None})
    report = export_of([*EVENTS[:6], other, cut, *EVENTS[8:]], first_index=5).verified()
    assert (report.intact, report.cut_index) == (True, None)


def replace_record(event: Event, fields: dict[str, object]) -> Event:
    """Write other fields into an event's record."""
    return replace(event, record=canonical(json.loads(event.record) | fields))
