"""The log as OCSF 1.8 events, one on each line, for a SIEM that knows the schema.

What was done to keys, owners, plans and workspaces is Entity Management (class 3004), a failed authentication is
Authentication (3002) and a refused call is API Activity (6003), told once with how often it happened. The record and
its proof stand in ``unmapped.keystead`` as they do in the JSON Lines form, and the rest is a function of it. The first
line and the checkpoint are base events (class 0) at the time 0, for neither has one that could be proven.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from keystead.events.export import End, Entry, Head, LineError, Part, json_of, part_of
from keystead.events.facts import Facts, facts_of
from keystead.events.model import REFUSED, canonical
from keystead.kernel.change import Action

VERSION = "1.8.0"

_OTHER = 99
_AUTHENTICATION, _ENTITY_MANAGEMENT, _API_ACTIVITY = 3002, 3004, 6003
_IDENTITY_AND_ACCESS, _APPLICATION_ACTIVITY = 3, 6
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3
_LOGON = 1
_SUCCESS, _FAILURE = 1, 2
_PRODUCT = {"name": "Keystead", "vendor_name": "Keystead"}

_UNKNOWN = "unknown"

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
    if facts.action.startswith("authentication."):
        return _authentication(part, facts)
    if facts.action == Action.CALL_REFUSED:
        return _refused_call(part, facts)
    activity = _ACTIVITIES.get(facts.action.rpartition(".")[2], _OTHER)
    event: dict[str, Any] = {
        **_base(part, _IDENTITY_AND_ACCESS, _ENTITY_MANAGEMENT, activity, facts.action),
        **_told(part, facts, "Entity Management"),
        "actor": _actor(facts),
        "comment": facts.reason,
        "entity": _entity(facts),
    }
    refused = facts.result == REFUSED
    event |= {"status_id": _FAILURE if refused else _SUCCESS, "severity_id": _LOW if refused else _INFORMATIONAL}
    return event


def _authentication(entry: Entry, facts: Facts) -> dict[str, Any]:
    """Tell of secrets that authenticated nobody, or of who presented too many of them."""
    failed = facts.action == Action.AUTHENTICATION_FAILED
    by_key = {"credential_uid": facts.target, "uid": facts.target}
    user = by_key if facts.target else {"name": facts.presented or _UNKNOWN}
    return {
        **_base(entry, _IDENTITY_AND_ACCESS, _AUTHENTICATION, _LOGON if failed else _OTHER, facts.action),
        **_told(entry, facts, "Authentication"),
        **_often(facts),
        "auth_protocol": "API key",
        "auth_protocol_id": _OTHER,
        "service": {"name": _PRODUCT["name"]},
        "severity_id": _LOW if failed else _MEDIUM,
        "user": {**user, "type": "key", "type_id": _OTHER},
    }


def _refused_call(entry: Entry, facts: Facts) -> dict[str, Any]:
    """Tell of calls of Keystead's own methods whose caller might not make them."""
    event = {
        **_base(entry, _APPLICATION_ACTIVITY, _API_ACTIVITY, _OTHER, facts.action),
        **_told(entry, facts, "API Activity"),
        **_often(facts),
        "actor": _actor(facts),
        "api": {"operation": facts.method or _UNKNOWN, "service": {"name": _PRODUCT["name"]}},
        "severity_id": _LOW,
    }
    return {"src_endpoint": {"name": _UNKNOWN}, **event}


def _told(entry: Entry, facts: Facts, kind: str) -> dict[str, Any]:
    """Tell what an event of any class does."""
    event: dict[str, Any] = {
        "message": f"{facts.action} {facts.target}".rstrip(),
        "metadata": _metadata(entry, facts),
        "time": facts.occurred_at_ms,
        "type_name": f"{kind}: {facts.action}",
    }
    if facts.client_ip:
        event["src_endpoint"] = {"ip" if _is_address(facts.client_ip) else "name": facts.client_ip}
    if facts.user_agent:
        event["http_request"] = {"user_agent": facts.user_agent}
    return event


def _often(facts: Facts) -> dict[str, Any]:
    """Tell how often something was refused, since when, until when and why."""
    return {
        "count": facts.count,
        "end_time": facts.occurred_at_ms,
        "start_time": facts.first_at_ms,
        "status_code": facts.reason,
        "status_id": _FAILURE,
    }


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


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
    return {"app_name": facts.actor_id or facts.actor_type}


def _entity(facts: Facts) -> dict[str, Any]:
    kind = facts.action.partition(".")[0]
    entity: dict[str, Any] = {"type": kind, "uid": facts.target or facts.workspace_id}
    return entity | ({"data": {"owner_id": facts.owner_id}} if facts.owner_id else {})
