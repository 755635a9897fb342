"""The bytes of attempts: slots of 160 bytes, each a group's three numbers and what they are about.

Every slot stands for itself: its checksum begins from the journal's id and the slot's own place, and it says to which
page it belongs, so whatever is damaged elsewhere, a whole slot is read. The numbers are 64-bit words at places that are
multiples of 8 and change in place, one store each, which no kill can cut in two; that they make sense is all that can
be checked of them. A group whose count is still 0 was never answered for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from zlib import crc32

from keystead.keys.addresses import parse_address
from keystead.usage.model import INTERVAL_MS, OTHER_ADDRESS, Attempt, Interval

SLOT_BYTES = 160
WORD_BYTES = 8
MINUTE_MS = INTERVAL_MS[Interval.MINUTE]

_NUMBERS = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
_BODY = struct.Struct("<IQQ40s8s16s8s40s")
_BODY_AT = _NUMBERS.size + _CRC.size
# In the order of a group, the code aside.
_TEXT_BYTES = (40, 8, 16, 8, 40)
_COUNT_MAX = 1 << 40

Group = tuple[str, str, str, str, int, str]
"""Workspace, environment asked for, brand, environment in the text, code, client address."""


def salt_of(journal_id: str) -> int:
    """Return what the checksums of a journal's slots begin from."""
    return crc32(f"{journal_id}/attempts/1".encode())


def normalised(group: Group) -> Group:
    """Return the group as it is kept: an address in its one spelling, no text longer than its room."""
    *texts, code, client_ip = group
    address = parse_address(client_ip) if client_ip else None
    if client_ip == OTHER_ADDRESS:
        return other(group)
    kept = [*texts, client_ip if address is None else str(address)]
    workspace_id, environment, brand, secret_environment, client_ip = map(_cut, kept, _TEXT_BYTES)
    return workspace_id, environment, brand, secret_environment, code, client_ip


def other(group: Group) -> Group:
    """Return the group in which those are summed that have no room of their own."""
    return _cut(group[0], _TEXT_BYTES[0]), _cut(group[1], _TEXT_BYTES[1]), "", "", group[4], OTHER_ADDRESS


def write_definition(buffer: memoryview, salt: int, slot: int, *, page: int, minute_ms: int, group: Group) -> None:
    """Write what the numbers of ``slot`` are about: a group (normalised) of one minute, in the page with a number."""
    workspace_id, environment, brand, secret_environment, code, client_ip = group
    texts = (workspace_id, environment, brand, secret_environment, client_ip)
    body = _BODY.pack(code, page, minute_ms, *[text.encode() for text in texts])
    place = slot * SLOT_BYTES + _NUMBERS.size
    buffer[place : place + _CRC.size + _BODY.size] = _CRC.pack(crc32(body, salt ^ slot)) + body


@dataclass(slots=True)
class SlotReading:
    """What slots hold: attempts by the number of their page. ``damaged`` are the slots that hold something else."""

    journal_id: str
    pages: dict[int, list[Attempt]] = field(default_factory=dict)
    damaged: int = 0

    def read(self, held: memoryview, *, first_slot: int = 0) -> None:
        """Read all whole slots of ``held``, whose first one is ``first_slot``; whatever the bytes are, it ends."""
        salt = salt_of(self.journal_id)
        for place in range(0, len(held) - SLOT_BYTES + 1, SLOT_BYTES):
            count, first_at_ms, last_at_ms = _NUMBERS.unpack_from(held, place)
            if not count:
                continue
            slot = first_slot + place // SLOT_BYTES
            body = held[place + _BODY_AT : place + _BODY_AT + _BODY.size]
            whole = _CRC.unpack_from(held, place + _NUMBERS.size)[0] == crc32(body, salt ^ slot)
            if not whole or count > _COUNT_MAX:
                self.damaged += 1
                continue
            code, page, minute_ms, *texts = _BODY.unpack(body)
            workspace_id, environment, brand, secret_environment, client_ip = map(_text, texts)
            attempt = Attempt(
                workspace_id,
                environment,
                minute_ms,
                brand,
                secret_environment,
                code,
                client_ip,
                count,
                _within(first_at_ms, minute_ms),
                _within(last_at_ms, minute_ms),
            )
            self.pages.setdefault(page, []).append(attempt)


def _within(at_ms: int, minute_ms: int) -> int:
    """Return a moment of the minute, also when what stands there is none."""
    return min(max(at_ms, minute_ms), minute_ms + MINUTE_MS - 1)


def _cut(text: str, at_most_bytes: int) -> str:
    """Return what is kept of a text: nothing that a store would not take, nothing longer than its room."""
    if len(text) <= at_most_bytes and text.isascii() and "\0" not in text:
        return text
    kept = text[:at_most_bytes].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    return kept[:at_most_bytes].decode("utf-8", "ignore")


def _text(held: bytes) -> str:
    return held.rstrip(b"\0").decode("utf-8", "replace")
