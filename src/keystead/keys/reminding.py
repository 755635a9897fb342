"""What is done about keys whose secrets are too old, inside a unit of work: the decision is ``overdue``'s.

Whoever asked for it found the key without a lock, so everything is decided once more under the key's own.
"""

from __future__ import annotations

from dataclasses import replace

from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.clock import Clock
from keystead.keys.model import Key, KeyState, SecretRecord
from keystead.keys.overdue import Due, RotationNotice, current_secret, due, due_at_ms, grace_ms, suspended
from keystead.keys.ports import Unit
from keystead.keys.tiers import plan_of
from keystead.limits.model import Plan

ORIGIN = Origin(Actor(ActorType.SYSTEM, "rotation"))
"""Who suspends keys whose secrets are too old."""

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000


class RotationReminder:
    """Warns of a key, or suspends it, when that is due."""

    def __init__(self, clock: Clock) -> None:
        """Take the time from ``clock``."""
        self._clock = clock

    async def remind(self, unit: Unit, key_id: str) -> Due:
        """Do what is due about a key and return it; nothing when the key is gone."""
        now_ms = self._clock.now_ms()
        key = await unit.keys.get(key_id, lock=True)
        secret = None if key is None else current_secret(key)
        if key is None or secret is None:
            return Due.NOTHING
        plan = await self._plan(unit, key, now_ms)
        notice = await unit.rotations.notice(secret.id)
        wanted = due(key, plan, notice, now_ms)
        if plan is None or wanted is Due.NOTHING:
            return Due.NOTHING
        if notice is None:
            await unit.rotations.add(RotationNotice(secret.id, now_ms))
            unit.record(_warning(key, secret, plan, now_ms))
        else:
            await unit.rotations.save(replace(notice, suspended_at_ms=now_ms))
            await unit.keys.save(suspended(key, _reason(plan), now_ms))
            unit.record(_suspension(key, _reason(plan)))
        return wanted

    async def _plan(self, unit: Unit, key: Key, now_ms: int) -> Plan | None:
        owner = await unit.owners.get(key.owner_id) if key.owner_id else None
        workspace = await unit.workspaces.get(key.workspace_id)
        plan_id, _ = plan_of(key, owner, "" if workspace is None else workspace.default_plan_id, now_ms)
        return await unit.plans.get(key.workspace_id, plan_id) if plan_id else None


def _warning(key: Key, secret: SecretRecord, plan: Plan, now_ms: int) -> Change:
    changes: dict[str, tuple[object, object]] = {
        "secret_id": (None, secret.id),
        "plan_id": (None, plan.id),
        "due_at_ms": (None, due_at_ms(secret, plan)),
    }
    if plan.suspend_overdue:
        changes["suspends_at_ms"] = (None, now_ms + grace_ms(plan.rotate_every_ms))
    return Change(
        key.workspace_id,
        Action.KEY_ROTATION_DUE,
        key.id,
        touches=(),
        environment=key.environment,
        owner_id=key.owner_id,
        changes=changes,
    )


def _suspension(key: Key, reason: str) -> Change:
    return Change(
        key.workspace_id,
        Action.KEY_SUSPENDED,
        key.id,
        touches=(key.id,),
        environment=key.environment,
        owner_id=key.owner_id,
        changes={"state": (key.state, KeyState.SUSPENDED)},
        reason=reason,
    )


def _reason(plan: Plan) -> str:
    every_ms = plan.rotate_every_ms
    said = f"{every_ms // _DAY_MS} days" if every_ms >= 2 * _DAY_MS else f"{every_ms // _HOUR_MS} hours"
    return f"The plan {plan.name} demands a new secret every {said}; rotate the key, then resume it."
