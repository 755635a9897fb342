"""The tail of usage: every call once, in order, and nothing before it is complete."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from keystead.adapters.memory.usage import MemoryUsage
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope
from keystead.usage.model import Call, Stretch, Subject, UsageFilter
from keystead.usage.tail import Tail, Told

SCOPE = TenantScope("wsp_ours", BOTH_ENVIRONMENTS)
KEY = Subject("wsp_ours", "live", "key_a", "sec_a", "customer-1")
BEGIN_MS = 1_000_000


def call(number: int, at_ms: int) -> Call:
    """Make a verdict."""
    return Call(f"ver_{number:05}", at_ms, KEY, 1, 1, "read", "192.0.2.1")


class Counting:
    """A store with two journals, counted by hand."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.store = MemoryUsage()
        self._places = {"jrn_1": 0, "jrn_2": 0}

    async def count(self, journal_id: str, calls: Sequence[Call], *, seen_at_ms: int) -> None:
        """Count calls of a journal, which held nothing more at ``seen_at_ms``."""
        begin = self._places[journal_id]
        self._places[journal_id] = end = begin + len(calls)
        assert await self.store.count(Stretch(journal_id, begin, end, tuple(calls), seen_at_ms))

    def tail(self, **options: Any) -> Tail:
        """Begin a tail at the beginning of the test."""
        return Tail(self.store, SCOPE, UsageFilter(BEGIN_MS, BEGIN_MS), **options)


async def read(tail: Tail) -> list[Told]:
    """Return the parts of one reading."""
    return [told async for told in tail.read()]


async def test_nothing_is_told_before_every_journal_has_counted_it() -> None:
    """A call that one process counted waits until the slowest process has counted as far, so the order holds."""
    counting = Counting()
    tail = counting.tail()
    for journal_id in ("jrn_1", "jrn_2"):
        await counting.store.register(journal_id, at_ms=BEGIN_MS)
    await counting.count("jrn_1", [call(2, BEGIN_MS + 20)], seen_at_ms=BEGIN_MS + 100)
    assert await read(tail) == [Told((), BEGIN_MS)]
    await counting.count("jrn_2", [call(1, BEGIN_MS + 10)], seen_at_ms=BEGIN_MS + 50)
    [told] = await read(tail)
    assert [it.verification_id for it in told.calls] == ["ver_00001", "ver_00002"]
    assert told.complete_until_ms == BEGIN_MS + 50


async def test_a_call_at_the_very_end_is_told_once() -> None:
    """A call in the millisecond up to which all is counted comes with the next reading, and with no other."""
    counting = Counting()
    tail = counting.tail()
    await counting.count("jrn_1", [call(1, BEGIN_MS + 49), call(2, BEGIN_MS + 50)], seen_at_ms=BEGIN_MS + 50)
    first = await read(tail)
    await counting.count("jrn_1", [call(3, BEGIN_MS + 50)], seen_at_ms=BEGIN_MS + 51)
    second = await read(tail)
    assert [[it.verification_id for it in told.calls] for told in first + second] == [
        ["ver_00001"],
        ["ver_00002", "ver_00003"],
    ]
    assert await read(tail) == [Told((), BEGIN_MS + 51)]


async def test_what_came_before_the_beginning_is_not_told() -> None:
    """A tail that begins now shows no history."""
    counting = Counting()
    tail = counting.tail()
    await counting.count("jrn_1", [call(1, BEGIN_MS - 1), call(2, BEGIN_MS)], seen_at_ms=BEGIN_MS + 1)
    [told] = await read(tail)
    assert [it.verification_id for it in told.calls] == ["ver_00002"]


async def test_nothing_is_claimed_while_nothing_is_known() -> None:
    """Without any journal there is no moment up to which all is told."""
    assert await read(Counting().tail()) == [Told((), None)]


async def test_what_was_claimed_is_never_taken_back() -> None:
    """When journals close, or one with an older clock joins, the claim stays and nothing is told again."""
    counting = Counting()
    tail = counting.tail()
    await counting.count("jrn_1", [call(1, BEGIN_MS + 1)], seen_at_ms=BEGIN_MS + 100)
    assert [told.complete_until_ms for told in await read(tail)] == [BEGIN_MS + 100]
    await counting.store.register("jrn_2", at_ms=BEGIN_MS + 30)
    assert await read(tail) == [Told((), BEGIN_MS + 100)]
    await counting.store.close("jrn_1")
    await counting.store.close("jrn_2")
    assert await read(tail) == [Told((), BEGIN_MS + 100)]


@pytest.mark.parametrize("part_size", (1, 2, 7, 20, 1_000))
@pytest.mark.parametrize("page_size", (1, 3, 10, 1_000))
async def test_pages_neither_lose_nor_double(page_size: int, part_size: int) -> None:
    """Many calls, several in one millisecond, come in pages and parts, each once and in order; what each part claims is
    true, so a reader who begins again at its last claim misses none.
    """
    counting, draw = Counting(), random.Random(7)
    tail = counting.tail(page_size=page_size, part_size=part_size)
    made: list[Call] = []
    parts: list[Told] = []
    for turn in range(4):
        upto_ms = BEGIN_MS + 10 * turn
        fresh = [call(len(made) + index, upto_ms + draw.randrange(10)) for index in range(20)]
        made += fresh
        await counting.count("jrn_1", fresh, seen_at_ms=upto_ms + 10)
        parts += await read(tail)
    told = [it for part in parts for it in part.calls]
    assert told == sorted(made, key=lambda it: (it.at_ms, it.verification_id))
    claims = [part.complete_until_ms or 0 for part in parts]
    assert claims == sorted(claims)
    for place, claim_ms in enumerate(claims):
        so_far = {it.verification_id for part in parts[: place + 1] for it in part.calls}
        assert {it.verification_id for it in made if it.at_ms < claim_ms} <= so_far
    assert max(len(part.calls) for part in parts) == min(page_size, part_size, 20)
