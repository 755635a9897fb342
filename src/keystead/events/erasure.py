"""Erasing what is private beside events: their salts go with it, so nothing leads back to it, and every proof holds.

A record commits to private values by salted hashes alone. Without the 128-bit salt a commitment tells nothing, so the
records, their leaves and all checkpoints stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.events.model import Erasure
from keystead.events.ports import EventUnit
from keystead.kernel.bounds import REASON_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change
from keystead.kernel.errors import invalid

ERASED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Erased:
    """Beside how many events something was erased, and whether there is more."""

    count: int
    more: bool


async def erase(
    unit: EventUnit, workspace_id: str, wanted: Erasure, *, reason: str, at_most: int = ERASED_AT_ONCE
) -> Erased:
    """Erase what is private beside at most ``at_most`` events of a workspace, the oldest first, and record it.

    The event names what was asked for, the address aside: that would keep what was to be erased. Nothing is recorded
    when there is nothing to erase.
    """
    bounds = Bounds()
    bounds.text("reason", reason, at_most=REASON_CHARACTERS)
    bounds.raise_if_any()
    if wanted == Erasure():
        raise invalid("owner_id", "or key_id, client_ip or before must be given: it would be everything")
    count = await unit.events.erase(workspace_id, wanted, limit=at_most)
    if count:
        asked: dict[str, object] = {
            "key_id": wanted.key_id or None,
            "by_address": bool(wanted.client_ip) or None,
            "before_ms": wanted.before_ms,
            "events": count,
        }
        changes = {name: (None, value) for name, value in asked.items() if value is not None}
        change = Change(
            workspace_id,
            Action.AUDIT_DATA_ERASED,
            workspace_id,
            touches=(),
            owner_id=wanted.owner_id,
            changes=changes,
            reason=reason,
        )
        unit.record(change)
    return Erased(count, more=count == at_most)
