"""The journal's bytes: what a verdict leaves behind, and how it is read again after anything.

A segment is a header and records, each padded to 8 bytes and led by a CRC-32 that begins from the journal's id, the
segment's number and the record's place: bytes that were moved, torn, left over from another file or written by a caller
into a text never pass for a record. What repeats (a key with its owner, an operation, an address) is written once per
segment and referred to by number. A reader that meets damage goes on at the next place where a record checks out: every
whole record survives.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from zlib import crc32

from keystead.kernel.ids import SequentialIds
from keystead.usage.model import Call, Subject

JOURNAL_PREFIX = "jrn"
HEADER_BYTES = 64
CALL_BYTES = 48
ALIGNMENT_BYTES = 8
DEFINITION_PAYLOAD_MAX_BYTES = 8_192

CALL = 1
SUBJECT = 2
TEXT = 3

_MAGIC = b"KSJRNL01"
_CRC_BYTES = 4
_HEADER = struct.Struct("<8s30sI8sQ")
_CRC = struct.Struct("<I")
_CALL_BODY = struct.Struct("<HBBIIIIIIQQ")
_CALL_FRAME = struct.Struct("<I44s")
_CALL = struct.Struct("<IHBBIIIIIIQQ")
_DEFINITION_HEAD = struct.Struct("<HBBI")
_LEAD = struct.Struct("<IHB")
_ZEROES = bytes(ALIGNMENT_BYTES)
_ZEROES_STEP_BYTES = 65_536
_AT_MS_BITS = 48
_ORDINAL_BITS = 40
_SUBJECT_FIELDS = 5

_pack_body = _CALL_BODY.pack
_pack_frame_into = _CALL_FRAME.pack_into


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself. ``number`` is 1 to 2^31 - 1; ``process`` the constant part of verification ids."""

    journal_id: str
    number: int
    process: str
    created_at_ms: int

    def encode(self) -> bytes:
        """Write the header, 64 bytes with its checksum."""
        names = self.journal_id.encode(), self.number, self.process.encode()
        body = _HEADER.pack(_MAGIC, *names, self.created_at_ms)
        return (body + _CRC.pack(crc32(body))).ljust(HEADER_BYTES, b"\0")


def decode_header(buffer: memoryview) -> SegmentHeader | None:
    """Read a header; None when these bytes begin no segment."""
    if len(buffer) < HEADER_BYTES:
        return None
    body = bytes(buffer[: _HEADER.size])
    magic, journal_id, number, process, created_at_ms = _HEADER.unpack(body)
    if magic != _MAGIC or _CRC.unpack_from(buffer, _HEADER.size) != (crc32(body),):
        return None
    return SegmentHeader(
        journal_id.decode("ascii", "replace"), number, process.decode("ascii", "replace"), created_at_ms
    )


def salt_of(journal_id: str, number: int) -> int:
    """Return what the checksums of a segment begin from; with a record's place it makes them good nowhere else."""
    return crc32(f"{journal_id}/{number}".encode())


def write_call(  # noqa: PLR0917 -- by name it takes half as long again
    buffer: memoryview,
    salt: int,
    place: int,
    code: int,
    subject: int,
    operation: int,
    address: int,
    scopes: int,
    tags: int,
    cost: int,
    at_ms: int,
    ordinal: int,
) -> None:
    """Write a verdict, 48 bytes, at ``place``; ``subject`` to ``tags`` are numbers of definitions, 0 for none.

    ``ordinal`` is the process's own count of verdicts (40 bits). Positional and all in one for speed: it stands between
    a verdict and its answer. A record of which only a part got written does not check out.
    """
    body = _pack_body(CALL_BYTES, CALL, code, subject, operation, address, scopes, tags, cost, at_ms, ordinal)
    _pack_frame_into(buffer, place, crc32(body, salt ^ place), body)


def definition_bytes(payload: bytes) -> int:
    """Return how many bytes a definition takes."""
    length = _CRC_BYTES + _DEFINITION_HEAD.size + len(payload)
    return length + -length % ALIGNMENT_BYTES


def encode_definition(salt: int, place: int, kind: int, number: int, payload: bytes) -> bytes:
    """Write what ``number`` stands for, ``definition_bytes`` long; ``payload`` has at most 8,192 bytes."""
    length = definition_bytes(payload)
    padding = length - _CRC_BYTES - _DEFINITION_HEAD.size - len(payload)
    body = _DEFINITION_HEAD.pack(length, kind, padding, number) + payload + bytes(padding)
    return _CRC.pack(crc32(body, salt ^ place)) + body


def encode_subject(subject: Subject) -> bytes:
    """Write the payload that defines a subject; raise ``ValueError`` when it is longer than any real one."""
    fields = (subject.workspace_id, subject.environment, subject.key_id, subject.secret_id, subject.owner_id)
    payload = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    if len(payload) > DEFINITION_PAYLOAD_MAX_BYTES:
        raise ValueError("the subject of a verdict is too long for the journal")
    return payload


def encode_text(text: str) -> bytes:
    """Write the payload that defines a text: what no store takes is replaced, what is too long is cut."""
    payload = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    return payload[:DEFINITION_PAYLOAD_MAX_BYTES].decode("utf-8", "ignore").encode()


def split_tags(text: str) -> tuple[str, ...]:
    """Return the labels that stand in one text, parted by line ends."""
    return tuple(text.split("\n")) if text else ()


@dataclass(slots=True)
class Reading:
    """One pass over a segment, which may go on later from ``place``, where it ended.

    ``whole_until`` is where the last whole record ended: the same for everyone who reads it, whatever follows later.
    ``damaged`` counts the gaps between whole records, verdicts whose subject is in such a gap, and records that check
    out and make no sense.
    """

    salt: int
    process: str
    place: int = HEADER_BYTES
    whole_until: int = HEADER_BYTES
    damaged: int = 0
    _subjects: dict[int, Subject] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=lambda: {0: ""})
    _tags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _in_gap: bool = False
    _ids: SequentialIds = field(init=False)

    def __post_init__(self) -> None:
        """Take over the process's part of verification ids."""
        self._ids = SequentialIds("ver", process=self.process)

    def ended(self, end: int) -> bool:
        """Say whether nothing is left to read before ``end``."""
        return self.place + ALIGNMENT_BYTES > end

    def take(self, buffer: memoryview, end: int, *, at_most: int, steps_max: int, since: int = 0) -> list[Call]:
        """Read on up to ``end`` and return the verdicts at or after the place ``since``, at most so many.

        Whatever the bytes are, it looks at no more than ``steps_max`` places (of records, gaps or 64 KiB of zeroes).
        """
        calls: list[Call] = []
        for _ in range(steps_max):
            place = self.place
            if place + ALIGNMENT_BYTES > end or len(calls) >= at_most:
                break
            crc, length, kind = _LEAD.unpack_from(buffer, place)
            if (
                not self._plausible(length, kind, end)
                or crc32(buffer[place + 4 : place + length], self.salt ^ place) != crc
            ):
                self._go_on(buffer, end)
                continue
            if place != self.whole_until:
                self._end_gap()
            self.place = self.whole_until = place + length
            if kind != CALL:
                self._define(buffer, place, length, kind)
            elif place >= since and (call := self._call_at(buffer, place)) is not None:
                calls.append(call)
        return calls

    def _plausible(self, length: int, kind: int, end: int) -> bool:
        """Say whether the record at ``place`` may be one, so that its checksum is worth a look."""
        if kind == CALL:
            return length == CALL_BYTES and self.place + length <= end
        if kind != SUBJECT and kind != TEXT:  # noqa: PLR1714 -- the fastest way to ask
            return False
        return length >= _CRC_BYTES + _DEFINITION_HEAD.size and length % 8 == 0 and self.place + length <= end

    def _go_on(self, buffer: memoryview, end: int) -> None:
        """Go on at the next place where a record may begin."""
        if buffer[self.place : self.place + ALIGNMENT_BYTES] == _ZEROES:
            self._skip_zeroes(buffer, end)
            return
        if not self._in_gap:
            self._in_gap = True
            self.damaged += 1
        self.place += ALIGNMENT_BYTES

    def _end_gap(self) -> None:
        """Note that a record stands behind a gap: also where all of it is zero, others were there."""
        if not self._in_gap:
            self.damaged += 1
        self._in_gap = False

    def _skip_zeroes(self, buffer: memoryview, end: int) -> None:
        """Go on at the next place that is not all zero; reserved space is zero, so this is mostly the end."""
        window = bytes(buffer[self.place : min(end, self.place + _ZEROES_STEP_BYTES)])
        zeroes = len(window) - len(window.lstrip(b"\0"))
        self.place += zeroes // ALIGNMENT_BYTES * ALIGNMENT_BYTES

    def _define(self, buffer: memoryview, place: int, length: int, kind: int) -> None:
        _, _, padding, number = _DEFINITION_HEAD.unpack_from(buffer, place + _CRC_BYTES)
        payload = bytes(buffer[place + _CRC_BYTES + _DEFINITION_HEAD.size : place + length - padding])
        try:
            if kind == TEXT:
                self._texts[number] = payload.decode()
            else:
                self._subjects[number] = _subject(json.loads(payload))
        except (ValueError, RecursionError):
            self.damaged += 1

    def _call_at(self, buffer: memoryview, place: int) -> Call | None:
        fields = _CALL.unpack_from(buffer, place)
        _, _, _, code, number, operation, address, scopes, tags, cost, at_ms, ordinal = fields
        subject = self._subjects.get(number)
        if subject is None or at_ms >> _AT_MS_BITS or ordinal >> _ORDINAL_BITS:
            self.damaged += 1
            return None
        return Call(
            self._ids.again(at_ms, ordinal),
            at_ms,
            subject,
            code,
            cost,
            self._texts.get(operation, ""),
            self._texts.get(address, ""),
            self._texts.get(scopes, ""),
            self._tags_of(tags),
        )

    def _tags_of(self, number: int) -> tuple[str, ...]:
        if not number:
            return ()
        tags = self._tags.get(number)
        if tags is None:
            tags = self._tags[number] = split_tags(self._texts.get(number, ""))
        return tags


def _subject(fields: object) -> Subject:
    """Take what was read for a subject; raise ``ValueError`` when it is none."""
    if not isinstance(fields, list) or len(fields) != _SUBJECT_FIELDS:
        raise ValueError("no subject")
    if not all(isinstance(item, str) for item in fields):
        raise ValueError("no subject")
    return Subject(*fields)
