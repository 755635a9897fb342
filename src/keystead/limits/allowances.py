"""What is left of quotas and credits, handed out in blocks and never twice.

What a process may spend was first taken here, in a transaction that committed: that is all there is to "never over".
Whether it was spent is not known here, so what is taken counts as spent until it is given back.

A block is a sixteenth of what is left before the next threshold, so many processes find something, little is lost with
a process that is killed, and the thresholds of a quota are met exactly: what lies before one is handed out in ever
smaller blocks, none of which reaches across it unless a single call does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from keystead.kernel.bounds import REASON_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change
from keystead.kernel.errors import invalid
from keystead.kernel.limit import COUNT_MAX, Credits, Quota
from keystead.limits.model import Allowance, AllowanceRow, Taken
from keystead.limits.periods import Span, span_of
from keystead.limits.ports import AllowanceUnit

BLOCK_MAX = 10_000
PARTS = 16
THRESHOLDS = (80, 100)
"""At how many percent of a quota an event tells of it, once in each period."""


async def take(unit: AllowanceUnit, allowance: Allowance, wanted: int, at_ms: int, *, least: int = 0) -> Taken:
    """Hand out a block of at least ``wanted``, or what is left when that is less; nothing when ``least`` is not left.

    ``least`` is ``wanted`` when it is 0. A soft quota hands out whatever is wanted. The events of thresholds that what
    was handed out reached are recorded in the same unit.
    """
    row = await _locked(unit, allowance, at_ms)
    kind = allowance.kind
    granted = _granted(kind, row.amount, wanted, least or wanted)
    if not granted:
        return _taken(row, kind, 0)
    if isinstance(kind, Quota):
        after = replace(row, amount=row.amount + granted)
        for level in _reached(after, kind.limit):
            unit.record(_threshold_reached(allowance, kind, after, level))
            after = replace(after, told=level)
    else:
        after = replace(row, amount=row.amount - granted)
    await unit.allowances.save(after)
    return _taken(after, kind, granted)


async def look(unit: AllowanceUnit, allowance: Allowance, at_ms: int) -> Taken:
    """Say how an allowance stands, taking nothing."""
    span = span_of(allowance.kind, at_ms)
    row = await unit.allowances.get(allowance.counter, span.begins_at_ms)
    return _taken(_refilled(row or _fresh(allowance, span, at_ms), allowance.kind, at_ms), allowance.kind, 0)


async def give_back(unit: AllowanceUnit, allowance: Allowance, block: Taken, amount: int, at_ms: int) -> bool:
    """Take back ``amount`` that was not spent of a ``block``; say whether it counts.

    It does not when the block's period is over, or when the counter was reset since. What is given back must be given
    back once, also by a caller who never learns whether it was.
    """
    if at_ms >= block.ends_at_ms:
        return False
    row = await unit.allowances.get(allowance.counter, block.begins_at_ms, lock=True)
    if row is None or row.resets != block.resets:
        return False
    is_quota = isinstance(allowance.kind, Quota)
    now = max(0, row.amount - amount) if is_quota else min(COUNT_MAX, row.amount + amount)
    await unit.allowances.save(replace(row, amount=now))
    return True


async def adjust(
    unit: AllowanceUnit, allowance: Allowance, delta: int, at_ms: int, *, target: str, reason: str = ""
) -> int:
    """Add ``delta`` to a balance of credits and return it, as far as no process has it in a block.

    ``target`` is what the event is about: the key that the caller named. Raises ``InvalidRequestError`` when the
    allowance is no credits, when the balance would leave 0 to 2^32 - 1, and for a ``reason`` of over 500 characters.
    """
    bounds = Bounds()
    bounds.text("reason", reason, at_most=REASON_CHARACTERS)
    bounds.raise_if_any()
    if not isinstance(allowance.kind, Credits):
        raise invalid("name", "must name a limit of kind credits")
    row = await _locked(unit, allowance, at_ms)
    balance = row.amount + delta
    if not 0 <= balance <= COUNT_MAX:
        raise invalid("delta", f"must leave a balance of 0 to {COUNT_MAX}; it is {row.amount}")
    await unit.allowances.save(replace(row, amount=balance))
    unit.record(
        Change(
            allowance.workspace_id,
            Action.CREDITS_ADJUSTED,
            target,
            touches=(),
            environment=allowance.environment,
            owner_id=allowance.owner_id,
            changes={"name": (None, allowance.name), "balance": (row.amount, balance)},
            reason=reason,
        )
    )
    return balance


async def reset(unit: AllowanceUnit, allowance: Allowance, at_ms: int) -> None:
    """Forget what was taken of a quota in its period, or give credits the balance they began with; record no event.

    What processes hold in blocks may still be spent and is not given back; thresholds are told of again.
    """
    row = await _locked(unit, allowance, at_ms)
    amount = 0 if isinstance(allowance.kind, Quota) else allowance.kind.balance
    await unit.allowances.save(replace(row, amount=amount, told=0, resets=row.resets + 1))


async def _locked(unit: AllowanceUnit, allowance: Allowance, at_ms: int) -> AllowanceRow:
    """Return the row of the period that holds ``at_ms``, with the refills that are due; make it when there is none."""
    span = span_of(allowance.kind, at_ms)
    row = await unit.allowances.get(allowance.counter, span.begins_at_ms, lock=True)
    if row is None:
        row = await unit.allowances.add(_fresh(allowance, span, at_ms))
    return _refilled(row, allowance.kind, at_ms)


def _fresh(allowance: Allowance, span: Span, at_ms: int) -> AllowanceRow:
    kind = allowance.kind
    return AllowanceRow(
        counter=allowance.counter,
        begins_at_ms=span.begins_at_ms,
        ends_at_ms=span.ends_at_ms,
        workspace_id=allowance.workspace_id,
        environment=allowance.environment,
        owner_id=allowance.owner_id,
        name=allowance.name,
        amount=kind.balance if isinstance(kind, Credits) else 0,
        refilled_at_ms=at_ms if isinstance(kind, Credits) else 0,
    )


def _refilled(row: AllowanceRow, kind: Quota | Credits, at_ms: int) -> AllowanceRow:
    """Add the whole refills since the last, and remember up to when they go: a part of one is never lost or doubled.

    Without a refill time passes all the same, so that one that is added later does not reach into the past.
    """
    if isinstance(kind, Quota):
        return row
    if not kind.refill_every_ms:
        return replace(row, refilled_at_ms=max(row.refilled_at_ms, at_ms))
    times = (at_ms - row.refilled_at_ms) // kind.refill_every_ms
    if times <= 0:
        return row
    top = max(row.amount, kind.maximum or COUNT_MAX)
    amount = min(top, row.amount + times * kind.refill)
    return replace(row, amount=amount, refilled_at_ms=row.refilled_at_ms + times * kind.refill_every_ms)


def _granted(kind: Quota | Credits, amount: int, wanted: int, least: int) -> int:
    """Return how much of what is left is handed out."""
    if isinstance(kind, Quota):
        left = kind.limit - amount
        before = next((line - amount for _, line in _lines(kind.limit) if line > amount), kind.limit)
        if kind.soft:
            return max(wanted, _part(before))
    else:
        left = before = amount
    if left < least:
        return 0
    return min(left, max(wanted, _part(before)))


def _part(amount: int) -> int:
    return max(1, min(BLOCK_MAX, amount // PARTS))


def _lines(limit: int) -> list[tuple[int, int]]:
    """Return the thresholds with how much reaches them."""
    return [(level, -(-limit * level // 100)) for level in THRESHOLDS]


def _reached(row: AllowanceRow, limit: int) -> Iterator[int]:
    """Yield the thresholds that a quota has reached and nobody was told of in this period."""
    for level, line in _lines(limit):
        if row.told < level and row.amount >= line:
            yield level


def _threshold_reached(allowance: Allowance, quota: Quota, row: AllowanceRow, level: int) -> Change:
    return Change(
        allowance.workspace_id,
        Action.QUOTA_THRESHOLD_REACHED,
        allowance.counter,
        touches=(),
        environment=allowance.environment,
        owner_id=allowance.owner_id,
        changes={
            "name": (None, allowance.name),
            "level": (row.told, level),
            "taken": (None, row.amount),
            "limit": (None, quota.limit),
            "period_begins_at_ms": (None, row.begins_at_ms),
            "period_ends_at_ms": (None, row.ends_at_ms),
        },
    )


def _taken(row: AllowanceRow, kind: Quota | Credits, granted: int) -> Taken:
    if isinstance(kind, Quota):
        return Taken(granted, kind.limit - row.amount, row.begins_at_ms, row.ends_at_ms, row.resets)
    refills_at_ms = row.refilled_at_ms + kind.refill_every_ms if kind.refill_every_ms else 0
    return Taken(granted, row.amount, row.begins_at_ms, row.ends_at_ms, row.resets, refills_at_ms)
