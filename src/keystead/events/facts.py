"""What a record says, read with care: an export is checked before anybody knows who wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from keystead.events.export import Entry


@dataclass(frozen=True, slots=True)
class Facts:
    """A record's fields as text, empty where it has none, and its moments in milliseconds since 1970.

    What is told once for many has their number as ``count`` and began at ``first_at_ms``; any other counts as one.
    """

    id: str
    workspace_id: str
    environment: str
    occurred_at_ms: int
    action: str
    actor_type: str
    actor_id: str
    owner_id: str
    target: str
    reason: str
    request_id: str
    result: str
    count: int
    first_at_ms: int
    method: str
    presented: str
    client_ip: str
    user_agent: str


def facts_of(entry: Entry) -> Facts:
    """Read a record and what is private beside it."""
    record: dict[str, Any] = json.loads(entry.record)
    private: dict[str, Any] = json.loads(entry.private)
    moment = _number(record, "occurred_at_ms")
    actor, group = record.get("actor"), record.get("group")
    return Facts(
        id=_text(record, "id"),
        workspace_id=_text(record, "workspace_id"),
        environment=_text(record, "environment"),
        occurred_at_ms=moment or 0,
        action=_text(record, "action"),
        actor_type=_text(actor, "type"),
        actor_id=_text(actor, "id"),
        owner_id=_text(record, "owner_id"),
        target=_text(record, "target"),
        reason=_text(record, "reason"),
        request_id=_text(record, "request_id"),
        result=_text(record, "result"),
        count=_number(group, "count") or 1,
        first_at_ms=_number(group, "first_at_ms") or moment or 0,
        method=_text(group, "method"),
        presented=_text(group, "presented"),
        client_ip=_text(private.get("client_ip"), "value"),
        user_agent=_text(private.get("user_agent"), "value"),
    )


def _number(found: Any, name: str) -> int | None:
    value = found.get(name) if isinstance(found, dict) else None
    return value if type(value) is int else None


def _text(found: Any, name: str) -> str:
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""
