"""The log as OCSF 1.8 events, one on each line, for a SIEM that knows the schema.

What was done to keys, owners, plans and workspaces is Entity Management (class 3004). The record and its proof stand
in ``unmapped.keystead`` as they do in the JSON Lines form, and the rest is a function of it. The first line and the
checkpoint are base events (class 0) at the time 0, for neither has one that could be proven.
"""

from __future__ import annotations

import json
from typing import Any

from keystead.events.export import End, Entry, Head, LineError, Part, json_of, part_of
from keystead.events.facts import Facts, facts_of
from keystead.events.model import canonical

VERSION = "1.8.0"

_OTHER = 99
_ENTITY_MANAGEMENT = 3004
_IDENTITY_AND_ACCESS = 3
_INFORMATIONAL, _LOW = 1, 2
_SUCCESS, _FAILURE = 1, 2
_PRODUCT = {"name": "Keystead", "vendor_name": "Keystead"}

# The ends of our actions, and OCSF's activities of Entity Management that mean the same.
_ACTIVITIES = {
    "created": 1,
    "updated": 3,
    "deleted": 4,
    "resumed": 13,
    "revoked": 11,
    "suspended": 12,
}


def _start(name: str) -> bytes:
    return (canonical({"activity_id": _OTHER, "activity_name": name})[:-1] + ",").encode()


class Ocsf:
    """The form that a SIEM reads."""

    head_start = _start("Export")
    end_start = _start("Checkpoint")

    def write(self, part: Part) -> str:
        """Write one line."""
        return canonical(ocsf_event(part)) + "\n"

    def read(self, line: str) -> Part:
        """Read a line; only what is unmapped counts, for the rest follows from it."""
        found = json.loads(line)
        for name in ("unmapped", "keystead"):
            if not isinstance(found, dict) or name not in found:
                raise LineError("it is no event of ours")
            found = found[name]
        return part_of(found)


def ocsf_event(part: Part) -> dict[str, Any]:
    """Make the event that tells of a record; also of the first line and the last."""
    if isinstance(part, Head):
        return _frame("Export", f"An export of {part.workspace_id} from {part.first_index} on begins.", part)
    if isinstance(part, End):
        return _frame("Checkpoint", "The checkpoint that the events before lead to.", part)
    facts = facts_of(part)
    activity = _ACTIVITIES.get(facts.action.rpartition(".")[2], _OTHER)
    event: dict[str, Any] = {
        **_base(part, _IDENTITY_AND_ACCESS, _ENTITY_MANAGEMENT, activity, facts.action),
        "actor": _actor(facts),
        "comment": facts.reason,
        "entity": _entity(facts),
        "message": f"{facts.action} {facts.target}".rstrip(),
        "metadata": _metadata(part, facts),
        "time": facts.occurred_at_ms,
        "type_name": f"Entity Management: {facts.action}",
    }
    refused = facts.result == "refused"
    event |= {"status_id": _FAILURE if refused else _SUCCESS, "severity_id": _LOW if refused else _INFORMATIONAL}
    if facts.client_ip:
        event["src_endpoint"] = {"ip": facts.client_ip}
    if facts.user_agent:
        event["http_request"] = {"user_agent": facts.user_agent}
    return event


def _frame(name: str, message: str, part: Part) -> dict[str, Any]:
    metadata = {"log_name": "audit", "product": _PRODUCT, "version": VERSION}
    return {**_base(part, 0, 0, _OTHER, name), "message": message, "metadata": metadata, "time": 0}


def _base(part: Part, category: int, kind: int, activity: int, name: str) -> dict[str, Any]:
    return {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": category,
        "class_uid": kind,
        "severity_id": _INFORMATIONAL,
        "type_uid": kind * 100 + activity,
        "unmapped": {"keystead": json.loads(json_of(part))},
    }


def _metadata(entry: Entry, facts: Facts) -> dict[str, Any]:
    metadata = {
        "event_code": facts.action,
        "log_name": "audit",
        "product": _PRODUCT,
        "sequence": entry.index,
        "tenant_uid": facts.workspace_id,
        "uid": facts.id,
        "version": VERSION,
    }
    return metadata | ({"correlation_uid": facts.request_id} if facts.request_id else {})


def _actor(facts: Facts) -> dict[str, Any]:
    if facts.actor_type == "key":
        return {"user": {"credential_uid": facts.actor_id, "type_id": _OTHER, "type": "key", "uid": facts.actor_id}}
    return {"app_name": facts.actor_id}


def _entity(facts: Facts) -> dict[str, Any]:
    kind = facts.action.partition(".")[0]
    entity: dict[str, Any] = {"type": kind, "uid": facts.target or facts.workspace_id}
    return entity | ({"data": {"owner_id": facts.owner_id}} if facts.owner_id else {})
