"""One fact: what changed, who did it, from where.

A domain records a ``Change`` for every mutation; the unit of work stores it in the mutation's own transaction (P6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Action(StrEnum):
    """The catalogue of what can happen: audit actions and webhook types alike."""

    WORKSPACE_CREATED = "workspace.created"
    WORKSPACE_UPDATED = "workspace.updated"
    WORKSPACE_DELETED = "workspace.deleted"
    OWNER_CREATED = "owner.created"
    OWNER_UPDATED = "owner.updated"
    OWNER_SUSPENDED = "owner.suspended"
    OWNER_RESUMED = "owner.resumed"
    OWNER_DELETED = "owner.deleted"
    KEY_CREATED = "key.created"
    KEY_UPDATED = "key.updated"
    KEY_ROTATION_STARTED = "key.rotation_started"
    KEY_ROTATION_FINISHED = "key.rotation_finished"
    KEY_ROTATION_CANCELLED = "key.rotation_cancelled"
    KEY_SUSPENDED = "key.suspended"
    KEY_RESUMED = "key.resumed"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATION_DUE = "key.rotation_due"
    PLAN_CREATED = "plan.created"
    PLAN_UPDATED = "plan.updated"
    PLAN_DELETED = "plan.deleted"
    OWNER_ENTITLED = "owner.entitled"
    LIMITS_RESET = "limits.reset"
    CREDITS_ADJUSTED = "credits.adjusted"
    QUOTA_THRESHOLD_REACHED = "quota.threshold_reached"
    JOURNAL_DECLARED_LOST = "journal.declared_lost"
    AUTHENTICATION_FAILED = "authentication.failed"
    AUTHENTICATION_THRESHOLD_REACHED = "authentication.threshold_reached"
    CALL_REFUSED = "call.refused"
    SINK_CREATED = "sink.created"
    SINK_UPDATED = "sink.updated"
    SINK_DELETED = "sink.deleted"
    SINK_REPLAYED = "sink.replayed"
    SINK_EVENT_SET_ASIDE = "sink.event_set_aside"
    AUDIT_DATA_ERASED = "audit.data_erased"
    AUDIT_LOG_CUT = "audit.log_cut"


class ActorType(StrEnum):
    """What kind of someone did it."""

    KEY = "key"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a key by its id, the system itself (``id`` says which part), or nobody who could prove who he is."""

    type: ActorType
    id: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Who calls and from where, as far as it is known: the peer's address, and what the peer says of itself."""

    actor: Actor
    client_ip: str = ""
    user_agent: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What was refused so often between two moments (milliseconds since the epoch), and is told once.

    ``method`` is the one that was called, for calls; ``presented`` what a text in our form began with, for secrets.
    """

    count: int
    first_at_ms: int
    last_at_ms: int
    method: str = ""
    presented: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A fact to be recorded.

    ``target`` is the id of what changed; ``changes`` maps a field
    to its value before and after, never a secret. ``touches`` names what any process may have cached of it: key ids,
    workspace ids, ``owner_subject`` and secret prefixes. With a ``group`` nothing changed: it was refused.
    """

    workspace_id: str
    action: Action
    target: str
    touches: tuple[str, ...]
    environment: str = ""
    owner_id: str = ""
    changes: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    reason: str = ""
    group: Group | None = None


def owner_subject(workspace_id: str, owner_id: str) -> str:
    """Name an owner among the things that a change touches; owner ids are unique only within a workspace."""
    return f"{workspace_id}/{owner_id}"
