"""The bytes of mapped counters: slots, each a group's three numbers and what they are about.

Every slot stands for itself: its checksum begins from the journal's id and the slot's own place, and it says to which
page it belongs, so whatever is damaged elsewhere, a whole slot is read. The numbers are 64-bit words at places that are
multiples of 8 and change in place, one store each, which no kill can cut in two; that they make sense is all that can
be checked of them. A group whose count is still 0 was never answered for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from zlib import crc32

from keystead.keys.addresses import parse_address
from keystead.usage.model import INTERVAL_MS, OTHER_ADDRESS, Interval

WORD_BYTES = 8
MINUTE_MS = INTERVAL_MS[Interval.MINUTE]

_NUMBERS = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
_BODY_AT = _NUMBERS.size + _CRC.size
_COUNT_MAX = 1 << 40

Group = tuple[Any, ...]
"""What is counted together: a workspace and other texts, then one number below 2^32, then an address."""


class Counted(Protocol):
    """A group of one minute with its numbers."""

    @property
    def first_at_ms(self) -> int:
        """The first time."""
        ...


class NumberedPage(Protocol):
    """What was counted between two turns of one process."""

    @property
    def journal_id(self) -> str:
        """The process's journal."""
        ...

    @property
    def number(self) -> int:
        """1 for a journal's first page, and one more for each that follows."""
        ...


ItemT = TypeVar("ItemT", bound=Counted)
PageT = TypeVar("PageT", bound=NumberedPage)


@dataclass(frozen=True)
class Layout(Generic[ItemT, PageT]):
    """How groups of one kind lie in slots; a slot's length must be a multiple of 8.

    ``name`` is that of the file. ``text_bytes`` are the rooms of a group's texts, its address the last. ``summed``
    makes of a group the one in which those are counted that have no room of their own. ``item`` is called with a group,
    its minute, its count and its first and last time; ``page`` with a journal's id, a number and items. ``allowances``
    say how many groups a minute those with a number may be, apart from all others.
    """

    name: str
    text_bytes: tuple[int, ...]
    summed: Callable[[Group], Group]
    item: Callable[[Group, int, int, int, int], ItemT]
    page: Callable[[str, int, Sequence[ItemT]], PageT]
    allowances: Mapping[int, int] = field(default_factory=dict)
    body: struct.Struct = field(init=False)
    slot_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Work out the lengths."""
        body = struct.Struct("<IQQ" + "".join(f"{length}s" for length in self.text_bytes))
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "slot_bytes", _BODY_AT + body.size)

    def salt_of(self, journal_id: str) -> int:
        """Return what the checksums of a journal's slots begin from."""
        return crc32(f"{journal_id}/{self.name}/1".encode())

    def normalised(self, group: Group) -> Group:
        """Return the group as it is kept: an address in its one spelling, no text longer than its room."""
        if group[-1] == OTHER_ADDRESS:
            group = self.summed(group)
        *texts, number, client_ip = group
        address = parse_address(client_ip) if client_ip else None
        kept = [*texts, client_ip if address is None else str(address)]
        *texts, client_ip = map(_cut, kept, self.text_bytes)
        return *texts, number, client_ip

    def other(self, group: Group) -> Group:
        """Return the group, as it is kept, in which those are summed that have no room of their own."""
        return self.normalised(self.summed(group))

    def write(self, buffer: memoryview, salt: int, slot: int, *, page: int, minute_ms: int, group: Group) -> None:
        """Write what the numbers of ``slot`` are about: a group (normalised) of one minute, in a page."""
        *texts, number, client_ip = group
        body = self.body.pack(number, page, minute_ms, *[text.encode() for text in (*texts, client_ip)])
        place = slot * self.slot_bytes + _NUMBERS.size
        buffer[place : place + _CRC.size + len(body)] = _CRC.pack(crc32(body, salt ^ slot)) + body


@dataclass(slots=True)
class SlotReading(Generic[ItemT, PageT]):
    """What slots hold: items by the number of their page. ``damaged`` are the slots that hold something else."""

    layout: Layout[ItemT, PageT]
    journal_id: str
    items: dict[int, list[ItemT]] = field(default_factory=dict)
    damaged: int = 0

    def read(self, held: memoryview, *, first_slot: int = 0) -> None:
        """Read all whole slots of ``held``, whose first one is ``first_slot``; whatever the bytes are, it ends."""
        layout = self.layout
        salt, length = layout.salt_of(self.journal_id), layout.slot_bytes
        for place in range(0, len(held) - length + 1, length):
            count, first_at_ms, last_at_ms = _NUMBERS.unpack_from(held, place)
            if not count:
                continue
            slot = first_slot + place // length
            body = held[place + _BODY_AT : place + length]
            whole = _CRC.unpack_from(held, place + _NUMBERS.size)[0] == crc32(body, salt ^ slot)
            if not whole or count > _COUNT_MAX:
                self.damaged += 1
                continue
            number, page, minute_ms, *held_texts = layout.body.unpack(body)
            *texts, client_ip = map(_text, held_texts)
            span = _within(first_at_ms, minute_ms), _within(last_at_ms, minute_ms)
            item = layout.item((*texts, number, client_ip), minute_ms, count, *span)
            self.items.setdefault(page, []).append(item)

    def page(self, number: int) -> PageT:
        """Return the page with a number."""
        return self.layout.page(self.journal_id, number, self.items.get(number, ()))


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
