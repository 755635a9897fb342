"""Whether an export is what was written: line by line, offline, and which record was touched if it is not.

An export is read twice. The first reading only looks for its frame, the line that names the workspace and the
checkpoint at the end; the second judges every record by its own proof to the root that is then known. So nothing but a
few numbers is kept however long the export is, where one reading would keep every hash, and a record that was touched
is named by what it fails itself rather than by a root that came out wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from keystead.events.checkpoints import Checkpoint, origin_of
from keystead.events.export import End, Entry, Form, Head, LineError
from keystead.events.findings import Fault, Finding, Findings
from keystead.events.merkle import leaf_hash, root_from_inclusion
from keystead.events.model import commitment
from keystead.events.order import Order, Strange
from keystead.kernel.change import Action

Lines = Callable[[], Iterable[bytes]]
"""Opens the export and returns its lines with their line ends; a line may be given in pieces when it is too long."""

Opened = Callable[[str], Checkpoint]
"""Opens a signed note with the public key; raises ``ValueError`` that says why it cannot."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    ``events`` counts the records that prove themselves, ``first_at_ms`` and ``last_at_ms`` are the earliest and the
    latest moment among them; ``findings`` are at most 100 of ``findings_count``. ``checkpoint`` is None when the export
    has none that the key vouches for, and then nothing in it is proven. ``cut_index`` is the record that tells that the
    log was cut where the export begins; None when there is none.
    """

    workspace_id: str = ""
    first_index: int = 0
    events: int = 0
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    checkpoint: Checkpoint | None = None
    findings: tuple[Finding, ...] = ()
    findings_count: int = 0
    cut_index: int | None = None

    @property
    def intact(self) -> bool:
        """Whether nothing was touched."""
        return self.findings_count == 0


@dataclass(slots=True)
class _Frame:
    """Where an export begins and ends: the lines that say so, by number from 1 (0 for none), and how many there are.

    ``glued`` is what stands before the checkpoint on its own line, where only a line end was destroyed.
    """

    form: Form
    head_line: int = 0
    head: bytes = b""
    end_line: int = 0
    end: bytes = b""
    glued: bytes = b""
    lines: int = 0
    first: bytes = b""
    last: bytes = b""


def verify_export(lines: Lines, opened: Opened, forms: Iterable[Form]) -> Report:
    """Check an export in one of ``forms`` against the public key that ``opened`` knows."""
    frame = _find_frame(lines(), tuple(forms))
    findings = Findings()
    checkpoint = _checkpoint_of(frame, opened, findings)
    if checkpoint is None:
        return Report(findings=tuple(findings.kept), findings_count=findings.count)
    reading = _Reading(frame, checkpoint, findings)
    for number, line in enumerate(lines(), 1):
        reading.take(number, line)
    return reading.report()


def read_exactly(form: Form, line: bytes) -> tuple[Head | Entry | End, bool]:
    """Read a line, and say whether it is byte for byte what would be written; raise ``ValueError`` for no line."""
    try:
        part = form.read(line.decode())
        return part, form.write(part).encode() == line
    except RecursionError:
        raise LineError("it is nested too deep") from None


def _find_frame(lines: Iterable[bytes], forms: tuple[Form, ...]) -> _Frame:
    frame = _Frame(forms[0])
    ends = tuple(form.end_start for form in forms)
    heads = tuple(form.head_start for form in forms)
    for number, line in enumerate(lines, 1):
        frame.lines, frame.last = number, line
        frame.first = frame.first or line
        if line.startswith(ends):
            frame.end_line, frame.end = number, line
        elif not frame.head_line and line.startswith(heads):
            frame.head_line, frame.head = number, line
    for form in forms:
        if not frame.end_line and form.end_start in frame.last:
            start = frame.last.rindex(form.end_start)
            frame.end_line, frame.glued, frame.end = frame.lines, frame.last[:start], frame.last[start:]
        if frame.end.startswith(form.end_start):
            frame.form = form
    if not frame.head_line and not _is_record(frame.form, frame.first):
        frame.head_line, frame.head = 1, frame.first
    return frame


def _is_record(form: Form, line: bytes) -> bool:
    try:
        return isinstance(read_exactly(form, line)[0], Entry)
    except ValueError:
        return False


def _checkpoint_of(frame: _Frame, opened: Opened, findings: Findings) -> Checkpoint | None:
    """Open the checkpoint; tell what is wrong and return None when there is none that the key vouches for."""
    if not frame.end_line:
        findings.add(_no_end(frame))
        return None
    try:
        return opened(_note_of(frame))
    except ValueError as error:
        detail = f"the checkpoint is not vouched for by this key, so nothing is proven: {error}"
        findings.add(Finding(Fault.CHECKPOINT, detail, line=frame.end_line))
        return None


def _note_of(frame: _Frame) -> str:
    part, exact = read_exactly(frame.form, frame.end)
    if not isinstance(part, End) or not exact:
        raise LineError("its line was changed")
    return part.note


def _no_end(frame: _Frame) -> Finding:
    where = f"after line {frame.lines}" if frame.last.endswith(b"\n") else f"inside line {frame.lines}"
    detail = f"the end was cut {where}: there is no checkpoint, so nothing is proven"
    return Finding(Fault.CUT, detail, line=frame.lines)


class _Reading:
    """The second reading: every line, with the checkpoint known."""

    def __init__(self, frame: _Frame, checkpoint: Checkpoint, findings: Findings) -> None:
        self._frame = frame
        self._checkpoint = checkpoint
        self._findings = findings
        self._events = 0
        self._first_at_ms: int | None = None
        self._last_at_ms: int | None = None
        self._cut_index: int | None = None
        self._first_index = self._begin()
        self._order = Order(self._first_index, findings)

    def take(self, number: int, line: bytes) -> None:
        """Judge one line."""
        if number == self._frame.end_line:
            line = self._frame.glued
        if number == self._frame.head_line or not line:
            return
        if number > self._frame.end_line:
            detail = "what stands after the checkpoint was inserted"
            self._findings.add(Finding(Fault.INSERTED, detail, self._checkpoint.size, line=number))
            return
        try:
            self._take_record(number, line)
        except LineError as error:
            self._order.take_strange(Strange(number, error.stated, str(error)))
        except (ValueError, RecursionError):
            self._order.take_strange(Strange(number, None, "its line cannot be read"))

    def report(self) -> Report:
        """Judge what can be judged only at the end, and say what was found."""
        self._order.finish(self._checkpoint.size)
        return Report(
            workspace_id=self._checkpoint.origin.partition("/")[2],
            first_index=self._first_index,
            events=self._events,
            first_at_ms=self._first_at_ms,
            last_at_ms=self._last_at_ms,
            checkpoint=self._checkpoint,
            findings=tuple(self._findings.kept),
            findings_count=self._findings.count,
            cut_index=self._cut_index,
        )

    def _begin(self) -> int:
        """Read the first line and return where the records begin; without one that can be read, as the size says."""
        guessed = max(0, self._checkpoint.size - (self._frame.lines - bool(self._frame.head_line) - 1))
        try:
            part, exact = read_exactly(self._frame.form, self._frame.head)
        except ValueError:
            self._tell_head("it cannot be read" if self._frame.head_line else "it is missing")
            return guessed
        if not isinstance(part, Head) or not exact:
            self._tell_head("it was changed")
            return guessed
        if origin_of(part.workspace_id) != self._checkpoint.origin:
            self._tell_head(f"it names {part.workspace_id}, and the checkpoint is of {self._checkpoint.origin}")
        if part.first_index > self._checkpoint.size:
            self._tell_head(f"it begins at {part.first_index}, beyond the checkpoint")
            return guessed
        return part.first_index

    def _tell_head(self, why: str) -> None:
        detail = f"the first line is not what was written: {why}"
        self._findings.add(Finding(Fault.HEAD, detail, line=self._frame.head_line or 1))

    def _take_record(self, number: int, line: bytes) -> None:
        entry = self._frame.form.read(line.decode())
        if not isinstance(entry, Entry):
            raise LineError("it is no record")
        if not self._is_proven(entry):
            raise LineError("its proof does not lead to the checkpoint", entry.index)
        if not self._events and entry.index < self._first_index:
            self._tell_head(f"it begins at {self._first_index}, and record {entry.index} follows")
            self._first_index = entry.index
            self._order = Order(entry.index, self._findings)
        self._events += 1
        record = json.loads(entry.record)
        self._order.take(entry.index, number)
        if wrong := _wrong_private(json.loads(entry.private), record.get("committed")):
            self._findings.changed(entry.index, number, f"{wrong} is not what the record commits to")
        elif self._frame.form.write(entry).encode() != line:
            self._findings.changed(entry.index, number, "its line is not as it was written")
        else:
            self._see_moment(record.get("occurred_at_ms"))
            if _first_index_of_cut(record) == self._first_index:
                self._cut_index = entry.index

    def _is_proven(self, entry: Entry) -> bool:
        leaf = leaf_hash(entry.record.encode())
        try:
            root = root_from_inclusion(leaf, entry.index, self._checkpoint.size, entry.proof)
        except ValueError:
            return False
        return root == self._checkpoint.root_hash

    def _see_moment(self, occurred_at_ms: object) -> None:
        if not isinstance(occurred_at_ms, int):
            return
        self._first_at_ms = occurred_at_ms if self._first_at_ms is None else min(self._first_at_ms, occurred_at_ms)
        self._last_at_ms = occurred_at_ms if self._last_at_ms is None else max(self._last_at_ms, occurred_at_ms)


def _first_index_of_cut(record: dict[str, Any]) -> object:
    """Return from where on events are kept since a cut, when ``record`` is one that proves itself and tells of it."""
    told = record.get("changes")
    moved = told.get("first_index") if isinstance(told, dict) and record.get("action") == Action.AUDIT_LOG_CUT else None
    return moved.get("after") if isinstance(moved, dict) else None


def _wrong_private(private: dict[str, Any], committed: object) -> str:
    """Return the name of a private value that its commitment does not fit; empty when all do. Erased ones fit."""
    known = committed if isinstance(committed, dict) else {}
    return next((name for name, value in private.items() if not _fits(value, known.get(name))), "")


def _fits(value: Any, committed: Any) -> bool:
    if not isinstance(value, dict) or sorted(value) != ["salt", "value"]:
        return False
    salt, text = value["salt"], value["value"]
    if not isinstance(salt, str) or not isinstance(text, str):
        return False
    try:
        known = bytes.fromhex(salt)
        # Hexadecimal has two spellings of one salt; only one was written.
        return known.hex() == salt and commitment(known, text) == committed
    except ValueError:
        return False
