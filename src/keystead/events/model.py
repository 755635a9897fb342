"""An event: the record that is hashed, and the personal data beside it.

The record is canonical JSON whose bytes never change; personal data stands in it only as commitments, SHA-256 over a
128-bit salt and the value, so erasing it is possible without breaking the Merkle tree (RFC 6962 leaf hash).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from keystead.kernel.change import Change, Origin

SALT_BYTES = 16
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Event:
    """One fact as it is stored. ``seq`` is None until the sequencer has placed it; ``record`` is the canonical JSON."""

    id: str
    workspace_id: str
    environment: str
    action: str
    target: str
    owner_id: str
    actor_type: str
    actor_id: str
    request_id: str
    occurred_at_ms: int
    touches: tuple[str, ...]
    record: str
    private: str
    seq: int | None = None
    leaf_index: int | None = None

    @property
    def leaf_hash(self) -> bytes:
        """The RFC 6962 hash of the record: SHA-256 over 0x00 and its bytes."""
        return hashlib.sha256(b"\x00" + self.record.encode()).digest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place in the log: the last event it has read, and its hash, which tells a log that was replaced."""

    seq: int = 0
    event_hash: bytes = b""


def canonical(value: object) -> str:
    """Write JSON with sorted keys and no spaces; the same value has the same bytes for ever."""
    return _ENCODER.encode(value)


def commitment(salt: bytes, value: str) -> str:
    """Stand in for ``value`` in a record."""
    return "sha256:" + hashlib.sha256(salt + value.encode()).hexdigest()


def make_event(
    change: Change, origin: Origin, *, event_id: str, occurred_at_ms: int, random_bytes: RandomBytes
) -> Event:
    """Turn a change into the event that is stored with it."""
    private: dict[str, dict[str, str]] = {}
    committed: dict[str, str] = {}
    for name, value in (("client_ip", origin.client_ip), ("user_agent", origin.user_agent)):
        if value:
            salt = random_bytes(SALT_BYTES)
            private[name] = {"salt": salt.hex(), "value": value}
            committed[name] = commitment(salt, value)
    record = {
        "id": event_id,
        "workspace_id": change.workspace_id,
        "environment": change.environment,
        "occurred_at_ms": occurred_at_ms,
        "action": change.action,
        "actor": {"type": str(origin.actor.type), "id": origin.actor.id},
        "owner_id": change.owner_id,
        "target": change.target,
        "changes": {name: {"before": before, "after": after} for name, (before, after) in change.changes.items()},
        "reason": change.reason,
        "request_id": origin.request_id,
        "committed": committed,
    }
    return Event(
        id=event_id,
        workspace_id=change.workspace_id,
        environment=change.environment,
        action=change.action,
        target=change.target,
        owner_id=change.owner_id,
        actor_type=str(origin.actor.type),
        actor_id=origin.actor.id,
        request_id=origin.request_id,
        occurred_at_ms=occurred_at_ms,
        touches=change.touches,
        record=canonical(record),
        private=canonical(private),
    )
