"""When a secret has got too old for its plan, as arithmetic: first its key is warned of, then perhaps suspended.

What was said of a secret is kept with that secret, so each is warned of once and suspended for once, whatever the plan
becomes meanwhile. A rotation makes another secret current, and with that everything begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from keystead.keys.model import Key, KeyState, SecretRecord
from keystead.limits.model import Plan

GRACE_PART = 10
GRACE_MIN_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class RotationNotice:
    """What was done about a current secret that is too old: its key was warned of, and suspended for it."""

    secret_id: str
    told_at_ms: int
    suspended_at_ms: int | None = None


Place = tuple[int, str]
"""Where a walk over all current secrets has come to: when a secret was made, and its id."""


@dataclass(frozen=True, slots=True)
class OverdueKey:
    """A key about whose current secret something seems to be due."""

    key_id: str
    workspace_id: str


@dataclass(frozen=True, slots=True)
class Walked:
    """A part of a walk: what was found, and where to go on; None at the end."""

    found: tuple[OverdueKey, ...]
    next_place: Place | None


class Due(StrEnum):
    """What is to be done about a key."""

    NOTHING = "nothing"
    WARNING = "warning"
    SUSPENSION = "suspension"


def grace_ms(rotate_every_ms: int) -> int:
    """Return how long after the warning a key is suspended: a tenth of the time, and at least a day."""
    return max(GRACE_MIN_MS, rotate_every_ms // GRACE_PART)


def current_secret(key: Key) -> SecretRecord | None:
    """Return the current secret of ``key``."""
    return next((secret for secret in key.secrets if secret.retires_at_ms is None), None)


def due_at_ms(secret: SecretRecord, plan: Plan) -> int:
    """Return when ``secret`` gets older than ``plan``, which must have a ``rotate_every_ms``, allows."""
    return secret.created_at_ms + plan.rotate_every_ms


def due(key: Key, plan: Plan | None, notice: RotationNotice | None, now_ms: int) -> Due:
    """Say what is to be done about ``key``; ``notice`` is that of its current secret.

    A key that does not work is left alone. The grace is counted from the warning, never from before it: nobody is
    suspended for a rule that was made yesterday.
    """
    secret = current_secret(key)
    if plan is None or not plan.rotate_every_ms or secret is None or key.state_at(now_ms) is not KeyState.ACTIVE:
        return Due.NOTHING
    late_since_ms = due_at_ms(secret, plan)
    if now_ms < late_since_ms:
        return Due.NOTHING
    if notice is None:
        return Due.WARNING
    if not plan.suspend_overdue or notice.suspended_at_ms is not None:
        return Due.NOTHING
    ends_at_ms = max(notice.told_at_ms, late_since_ms) + grace_ms(plan.rotate_every_ms)
    return Due.SUSPENSION if now_ms >= ends_at_ms else Due.NOTHING


def suspended(key: Key, reason: str, now_ms: int) -> Key:
    """Return ``key`` as it is when it is suspended."""
    return replace(key, state=KeyState.SUSPENDED, state_reason=reason, updated_at_ms=now_ms, version=key.version + 1)
