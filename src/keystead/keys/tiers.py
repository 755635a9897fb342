"""Which plan applies to a key, and who may say so.

A plan, and what an owner or a workspace is given, holds in both environments: so it is changed by a caller for both.
"""

from __future__ import annotations

from collections.abc import Set

from keystead.keys.model import VERIFIED_KINDS, Key, KeyKind
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.limits.model import Plan
from keystead.limits.service import PlanDraft, PlanService
from keystead.tenants.model import Environment, Owner, Workspace
from keystead.tenants.service import OwnerDraft, OwnerService, WorkspaceDraft, WorkspaceService

_OF_BOTH = frozenset({"plan_id", "limits", "default_plan_id", "audit_retention_days"})


def plan_of(key: Key, owner: Owner | None, default_plan_id: str, now_ms: int) -> tuple[str, int | None]:
    """Return the plan that applies to ``key`` at ``now_ms``, empty for none, and when an entitlement to it ends.

    That is its own; else its owner's, entitled before chosen; else, for customers' keys alone, the workspace's default.
    Keys that call Keystead itself have none.
    """
    if key.kind not in VERIFIED_KINDS:
        return "", None
    if key.plan_id:
        return key.plan_id, None
    plan_id, ends_at_ms = ("", None) if owner is None else owner.plan_at(now_ms)
    if plan_id:
        return plan_id, ends_at_ms
    return (default_plan_id if key.kind is KeyKind.CUSTOMER else ""), None


class TierService:
    """Sets tiers, for callers who are for both environments."""

    def __init__(self, *, plans: PlanService, owners: OwnerService, workspaces: WorkspaceService) -> None:
        """Work with the services of both domains."""
        self._plans = plans
        self._owners = owners
        self._workspaces = workspaces

    async def create_plan(self, unit: Unit, caller: Principal, draft: PlanDraft) -> Plan:
        """Make a plan."""
        caller.demand_environment(Environment.ALL)
        return await self._plans.create(unit, caller.workspace_id, draft)

    async def update_plan(
        self, unit: Unit, caller: Principal, reference: str, draft: PlanDraft, *, mask: Set[str], etag: str
    ) -> Plan:
        """Change what ``mask`` names of a plan."""
        caller.demand_environment(Environment.ALL)
        return await self._plans.update(unit, caller.workspace_id, reference, draft, mask=mask, etag=etag)

    async def delete_plan(self, unit: Unit, caller: Principal, reference: str, *, etag: str) -> None:
        """Delete a plan that nobody refers to."""
        caller.demand_environment(Environment.ALL)
        await self._plans.delete(unit, caller.workspace_id, reference, etag=etag)

    async def create_owner(self, unit: Unit, caller: Principal, draft: OwnerDraft) -> Owner:
        """Make an owner, perhaps with a plan or limits of its own."""
        if draft.plan_id or draft.limits:
            caller.demand_environment(Environment.ALL)
        return await self._owners.create(unit, caller.workspace_id, draft)

    async def update_owner(
        self, unit: Unit, caller: Principal, draft: OwnerDraft, *, mask: Set[str], etag: str, allow_missing: bool
    ) -> Owner:
        """Change what ``mask`` names of an owner, or make it when ``allow_missing`` and there is none."""
        if mask & _OF_BOTH or (allow_missing and (draft.plan_id or draft.limits)):
            caller.demand_environment(Environment.ALL)
        return await self._owners.update(
            unit, caller.workspace_id, draft, mask=mask, etag=etag, allow_missing=allow_missing
        )

    async def entitle(
        self, unit: Unit, caller: Principal, owner_id: str, reference: str, *, until_ms: int | None
    ) -> Owner:
        """Give an owner a plan until some time."""
        caller.demand_environment(Environment.ALL)
        return await self._owners.entitle(unit, owner_id, reference, until_ms=until_ms)

    async def update_workspace(
        self,
        unit: Unit,
        caller: Principal,
        workspace_id: str,
        draft: WorkspaceDraft,
        *,
        mask: Set[str],
        etag: str,
    ) -> Workspace:
        """Change what ``mask`` names of a workspace."""
        if mask & _OF_BOTH:
            caller.demand_environment(Environment.ALL)
        return await self._workspaces.update(unit, workspace_id, draft, mask=mask, etag=etag)
