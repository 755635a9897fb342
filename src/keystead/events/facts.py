"""What a record says, read with care: an export is checked before anybody knows who wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from keystead.events.export import Entry


@dataclass(frozen=True, slots=True)
class Facts:
    """A record's fields as text, empty where it has none, and its moment in milliseconds since 1970."""

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
    client_ip: str
    user_agent: str


def facts_of(entry: Entry) -> Facts:
    """Read a record and what is private beside it."""
    record: dict[str, Any] = json.loads(entry.record)
    private: dict[str, Any] = json.loads(entry.private)
    moment = record.get("occurred_at_ms")
    actor = record.get("actor")
    return Facts(
        id=_text(record, "id"),
        workspace_id=_text(record, "workspace_id"),
        environment=_text(record, "environment"),
        occurred_at_ms=moment if type(moment) is int else 0,
        action=_text(record, "action"),
        actor_type=_text(actor, "type"),
        actor_id=_text(actor, "id"),
        owner_id=_text(record, "owner_id"),
        target=_text(record, "target"),
        reason=_text(record, "reason"),
        request_id=_text(record, "request_id"),
        result=_text(record, "result"),
        client_ip=_text(private.get("client_ip"), "value"),
        user_agent=_text(private.get("user_agent"), "value"),
    )


def _text(found: Any, name: str) -> str:
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""
