"""What can be done with plans: change one, and all keys that it applies to follow (P3), keeping what they spent.

A plan is referred to by its id or by its name, which may change; what is stored is the id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from keystead.kernel.bounds import Bounds
from keystead.kernel.change import Action, Change
from keystead.kernel.changing import demand_fields, demand_version
from keystead.kernel.clock import Clock
from keystead.kernel.errors import AlreadyExistsError, NotFoundError
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import (
    COUNT_MAX,
    Limit,
    On,
    OutagePolicy,
    SlidingWindow,
    check_limits,
    limit_record,
)
from keystead.limits.errors import PlanInUseError
from keystead.limits.model import ENTERPRISE, FREE, PLAN_ID_PREFIX, Plan, PlanReach, PlanUses
from keystead.limits.ports import PlanUnit

PLAN_FIELDS = frozenset(
    {
        "name",
        "description",
        "limits",
        "max_keys_per_owner",
        "rotate_every",
        "suspend_overdue",
        "on_limiter_outage",
    }
)
DESCRIPTION_CHARACTERS = 500
ROTATE_EVERY_MIN_MS = 3_600_000
ROTATE_EVERY_MAX_MS = 4_000 * 86_400_000
REFERENCE_CHARACTERS = 64
SAMPLE_OWNERS_MAX = 20
# The clocks of two nodes differ a little: an entitlement that ended for one may still hold for the other.
_ENDED_FOR_ALL_MS = 60_000

_NAME = re.compile(r"(?!pln_)[a-z0-9_-]{1,40}")
_STORED_NAMES = {"rotate_every": "rotate_every_ms"}
# What a verdict depends on; nobody need read his keys again for the rest.
_TOUCHING = frozenset({"limits", "on_limiter_outage"})


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """What a caller says of a plan; times are milliseconds, 0 is no bound."""

    name: str = ""
    description: str = ""
    limits: tuple[Limit, ...] = ()
    max_keys_per_owner: int = 0
    rotate_every_ms: int = 0
    suspend_overdue: bool = False
    on_limiter_outage: OutagePolicy = OutagePolicy.DENY

    def check(self, *, mask: Set[str] = PLAN_FIELDS, prefix: str = "") -> None:
        """Raise ``InvalidRequestError`` naming every field of ``mask`` that breaks a bound."""
        bounds = Bounds()
        if "name" in mask and not _NAME.fullmatch(self.name):
            bounds.add(f"{prefix}name", "must be 1 to 40 of [a-z0-9_-], and not begin with pln_")
        if "description" in mask:
            bounds.text(f"{prefix}description", self.description, at_most=DESCRIPTION_CHARACTERS)
        if "limits" in mask:
            check_limits(bounds, f"{prefix}limits", self.limits)
        if "max_keys_per_owner" in mask and not 0 <= self.max_keys_per_owner <= COUNT_MAX:
            bounds.add(f"{prefix}max_keys_per_owner", f"must be 0 to {COUNT_MAX}")
        due = "rotate_every" in mask and self.rotate_every_ms != 0
        if due and not ROTATE_EVERY_MIN_MS <= self.rotate_every_ms <= ROTATE_EVERY_MAX_MS:
            bounds.add(f"{prefix}rotate_every", "must be 1 hour to 4,000 days, or absent")
        bounds.raise_if_any()


_BUILT_IN = (
    PlanDraft(
        FREE,
        "A hundred requests a minute for each key.",
        (Limit("requests", On.KEY, SlidingWindow(limit=100, window_ms=60_000)),),
    ),
    PlanDraft(ENTERPRISE, "No limits."),
)


class PlanService:
    """Plans of one workspace; every method works inside the unit it is given."""

    def __init__(self, *, ids: IdSource, clock: Clock) -> None:
        """Name plans by ``ids`` and date them by ``clock``."""
        self._ids = ids
        self._clock = clock

    def built_in(self, workspace_id: str) -> tuple[Plan, Plan]:
        """Make the plans that every workspace begins with, the default one first; ``add`` stores them."""
        free, enterprise = [self._made(workspace_id, draft) for draft in _BUILT_IN]
        return free, enterprise

    async def add(self, unit: PlanUnit, plan: Plan) -> None:
        """Store a new plan; raise ``AlreadyExistsError`` when its name is taken."""
        await unit.plans.add(plan)
        changes = {name: (None, _plain(getattr(plan, _stored_name(name)))) for name in PLAN_FIELDS}
        unit.record(_plan_change(Action.PLAN_CREATED, plan, changes))

    async def create(self, unit: PlanUnit, workspace_id: str, draft: PlanDraft) -> Plan:
        """Make a plan; raise ``AlreadyExistsError`` when its name is taken."""
        draft.check()
        plan = self._made(workspace_id, draft)
        await self.add(unit, plan)
        return plan

    async def get(self, unit: PlanUnit, workspace_id: str, reference: str, *, lock: bool = False) -> Plan:
        """Return a plan by id or by name; raise ``NotFoundError`` when there is none inside the walls."""
        plan = await unit.plans.get(workspace_id, reference, lock=lock)
        if plan is None:
            raise NotFoundError("plan", reference[:REFERENCE_CHARACTERS])
        return plan

    async def update(
        self, unit: PlanUnit, workspace_id: str, reference: str, draft: PlanDraft, *, mask: Set[str], etag: str
    ) -> Plan:
        """Change what ``mask`` names; with ``etag``, only if the plan is still at that version."""
        demand_fields(mask, PLAN_FIELDS)
        draft.check(mask=mask, prefix="plan.")
        before = await self.get(unit, workspace_id, reference, lock=True)
        demand_version("plan", before.name, etag=etag, version=before.version)
        wanted = {_stored_name(name): getattr(draft, _stored_name(name)) for name in mask}
        changes = {
            name: (_plain(getattr(before, name)), _plain(value))
            for name, value in wanted.items()
            if getattr(before, name) != value
        }
        if not changes:
            return before
        if "name" in changes and await unit.plans.get(workspace_id, draft.name) is not None:
            raise AlreadyExistsError("plan", draft.name)
        after = replace(before, **wanted, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.plans.save(after)
        unit.record(_plan_change(Action.PLAN_UPDATED, after, changes))
        return after

    async def delete(self, unit: PlanUnit, workspace_id: str, reference: str, *, etag: str) -> None:
        """Delete a plan; raise ``PlanInUseError`` while anybody refers to it."""
        plan = await self.get(unit, workspace_id, reference, lock=True)
        demand_version("plan", plan.name, etag=etag, version=plan.version)
        uses = await unit.plans.uses(plan, now_ms=self._clock.now_ms() - _ENDED_FOR_ALL_MS)
        if uses:
            raise PlanInUseError(plan.name, keys=uses.keys, owners=uses.owners, default=uses.is_default)
        await unit.plans.delete(plan)
        unit.record(_plan_change(Action.PLAN_DELETED, plan, {"name": (plan.name, None)}))

    async def preview(self, unit: PlanUnit, workspace_id: str, reference: str) -> tuple[PlanUses, PlanReach]:
        """Say who refers to a plan, and to which keys inside the walls it applies now."""
        plan = await self.get(unit, workspace_id, reference)
        now_ms = self._clock.now_ms()
        uses = await unit.plans.uses(plan, now_ms=now_ms)
        return uses, await unit.plans.reach(plan, now_ms=now_ms, samples=SAMPLE_OWNERS_MAX)

    def _made(self, workspace_id: str, draft: PlanDraft) -> Plan:
        now_ms = self._clock.now_ms()
        return Plan(
            id=self._ids.new(PLAN_ID_PREFIX),
            workspace_id=workspace_id,
            name=draft.name,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            description=draft.description,
            limits=draft.limits,
            max_keys_per_owner=draft.max_keys_per_owner,
            rotate_every_ms=draft.rotate_every_ms,
            suspend_overdue=draft.suspend_overdue,
            on_limiter_outage=draft.on_limiter_outage,
        )


def _plan_change(action: Action, plan: Plan, changes: Mapping[str, tuple[object, object]]) -> Change:
    touches = (plan.id,) if action is not Action.PLAN_UPDATED or changes.keys() & _TOUCHING else ()
    return Change(plan.workspace_id, action, plan.id, touches=touches, changes=changes)


def _stored_name(mask_name: str) -> str:
    return _STORED_NAMES.get(mask_name, mask_name)


def _plain(value: object) -> object:
    return [limit_record(limit) for limit in value] if isinstance(value, tuple) else value
