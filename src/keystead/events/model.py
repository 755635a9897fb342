"""An event: the record that is hashed, and the personal data beside it.

The record is canonical JSON whose bytes never change; personal data stands in it only as commitments, SHA-256 over a
128-bit salt and the value, so erasing it is possible without breaking the Merkle tree (RFC 6962 leaf hash).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from keystead.events.merkle import leaf_hash
from keystead.kernel.change import Action, Change, Group, Origin
from keystead.kernel.walls import BOTH_ENVIRONMENTS, Environment, TenantScope

SALT_BYTES = 16
REFUSED = "refused"
"""The result in the record of what was refused; what was done has none."""

_ENDLESS_MS = 1 << 62
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
        return leaf_hash(self.record.encode())


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place in the log: the last event it has read, and its hash, which tells a log that was replaced."""

    seq: int = 0
    event_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant: all that is given must hold, and what is empty or None asks nothing.

    ``action`` may end with ``*``, which stands for every action of the catalogue that begins so. Times are milliseconds
    since the epoch, ``from_ms`` within and ``to_ms`` without. ``environment`` means what concerns it, alone or not.
    """

    key_id: str = ""
    owner_id: str = ""
    actor_id: str = ""
    action: str = ""
    target: str = ""
    request_id: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    environment: Environment | None = None

    @property
    def actions(self) -> tuple[str, ...] | None:
        """The actions that are meant, in order; None for whichever."""
        if self.action in {"", "*"}:
            return None
        if not self.action.endswith("*"):
            return (self.action,)
        return tuple(sorted(action for action in Action if action.startswith(self.action[:-1])))

    def worlds(self, scope: TenantScope) -> frozenset[str]:
        """Return the environments of the events that ``scope`` may see and the filter means.

        Nobody's environment is an empty text: that is what concerns both. ``all`` is that of keys for both, which a
        caller for one of them does not see either.
        """
        wanted = BOTH_ENVIRONMENTS if self.environment is None else {self.environment, Environment.ALL}
        return frozenset(map(str, scope.environments & wanted)) | {""}

    def admits(self, event: Event, scope: TenantScope) -> bool:
        """Say whether ``event`` is meant, and inside the walls of ``scope``."""
        if event.workspace_id != scope.workspace_id or event.environment not in self.worlds(scope):
            return False
        if not (self.from_ms or 0) <= event.occurred_at_ms < (_ENDLESS_MS if self.to_ms is None else self.to_ms):
            return False
        actions = self.actions
        asked = (
            (self.key_id, event.target),
            (self.owner_id, event.owner_id),
            (self.actor_id, event.actor_id),
            (self.target, event.target),
            (self.request_id, event.request_id),
        )
        return (actions is None or event.action in actions) and all(given in {"", found} for given, found in asked)


@dataclass(frozen=True, slots=True)
class Erasure:
    """Beside which events: all that is given must hold. ``key_id`` is whom they are about, or who did it.

    ``before_ms`` is when they happened at the latest, not included; None is any time.
    """

    owner_id: str = ""
    key_id: str = ""
    client_ip: str = ""
    before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Retained:
    """A workspace, and for how many days its events are kept; 0 is for ever."""

    workspace_id: str
    days: int


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
    record: dict[str, object] = {
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
    if change.group is not None:
        record |= {"result": REFUSED, "group": _record_of(change.group)}
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


def _record_of(group: Group) -> dict[str, object]:
    return {
        "count": group.count,
        "first_at_ms": group.first_at_ms,
        "last_at_ms": group.last_at_ms,
        "method": group.method,
        "presented": group.presented,
    }
