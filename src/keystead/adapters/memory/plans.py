"""Plans in memory; which keys one applies to is asked of the rule itself, and SQL has to agree with it."""

from __future__ import annotations

from keystead.adapters.memory.store import Staging
from keystead.adapters.memory.tenants import page_of
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest
from keystead.keys.model import Key, KeyState
from keystead.keys.tiers import plan_of
from keystead.limits.model import Plan, PlanReach, PlanUses
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError


class MemoryPlans:
    """The ``PlanRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def add(self, plan: Plan) -> None:
        """Store a new plan."""
        self._walls.demand(plan.workspace_id)
        state = await self._staging.begin()
        if plan.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", plan.workspace_id)
        self._demand_name(plan)
        state.plans[plan.id] = plan

    async def get(self, workspace_id: str, reference: str, *, lock: bool = False) -> Plan | None:
        """Return one, or None."""
        if lock:
            await self._staging.begin()
        return next((plan for plan in self._inside(workspace_id) if reference in {plan.id, plan.name}), None)

    async def hold(self, workspace_id: str, reference: str) -> str | None:
        """Return the id of a plan, or None, and keep others from deleting it."""
        plan = await self.get(workspace_id, reference, lock=True)
        return None if plan is None else plan.id

    async def save(self, plan: Plan) -> None:
        """Store the new state."""
        self._walls.demand(plan.workspace_id)
        state = await self._staging.begin()
        stored = state.plans.get(plan.id)
        if stored is None or stored.version != plan.version - 1:
            raise EtagMismatchError("plan", plan.name)
        self._demand_name(plan)
        state.plans[plan.id] = plan

    async def delete(self, plan: Plan) -> None:
        """Delete a plan."""
        self._walls.demand(plan.workspace_id)
        (await self._staging.begin()).plans.pop(plan.id, None)

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Plan]:
        """Return one page by name."""
        self._walls.demand(workspace_id)
        return page_of(self._inside(workspace_id), request, lambda plan: (plan.name,))

    async def uses(self, plan: Plan, *, now_ms: int) -> PlanUses:
        """Count who refers to ``plan`` in all environments."""
        self._walls.demand(plan.workspace_id)
        owners = [it for it in self._staging.state.owners.values() if it.workspace_id == plan.workspace_id]
        return PlanUses(
            keys=len([key for key in self._working(plan) if key.plan_id == plan.id]),
            owners=len([it for it in owners if plan.id in {it.plan_id, it.plan_at(now_ms)[0]}]),
            is_default=self._staging.state.workspaces[plan.workspace_id].default_plan_id == plan.id,
        )

    async def reach(self, plan: Plan, *, now_ms: int, samples: int) -> PlanReach:
        """Say to which keys of the unit's environments ``plan`` applies at ``now_ms``."""
        self._walls.demand(plan.workspace_id)
        state = self._staging.state
        default_plan_id = state.workspaces[plan.workspace_id].default_plan_id
        affected = [
            key
            for key in self._working(plan)
            if self._walls.admit_key(key)
            and plan_of(key, state.owners.get((key.workspace_id, key.owner_id)), default_plan_id, now_ms)[0] == plan.id
        ]
        owner_ids = sorted({key.owner_id for key in affected} - {""})
        return PlanReach(len(affected), tuple(owner_ids[:samples]))

    def _inside(self, workspace_id: str) -> list[Plan]:
        if not self._walls.admit(workspace_id):
            return []
        return [plan for plan in self._staging.state.plans.values() if plan.workspace_id == workspace_id]

    def _working(self, plan: Plan) -> list[Key]:
        keys = self._staging.state.keys.values()
        return [key for key in keys if key.workspace_id == plan.workspace_id and key.state is not KeyState.REVOKED]

    def _demand_name(self, plan: Plan) -> None:
        if any(it.name == plan.name and it.id != plan.id for it in self._inside(plan.workspace_id)):
            raise AlreadyExistsError("plan", plan.name)
