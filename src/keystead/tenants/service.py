"""What can be done with owners and workspaces, as far as no key is touched (that part is in ``keys/tenancy.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from keystead.kernel.bounds import NAME_CHARACTERS, REASON_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change, owner_subject
from keystead.kernel.changing import demand_fields, demand_version
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.kernel.limit import Limit, check_limits, limit_record
from keystead.tenants.errors import AlreadyExistsError, NotFoundError
from keystead.tenants.model import Owner, Workspace
from keystead.tenants.ports import TenantUnit

OWNER_FIELDS = frozenset({"name", "metadata", "plan_id", "limits"})
WORKSPACE_FIELDS = frozenset({"name", "default_plan_id", "audit_retention_days"})
RETENTION_DAYS_MIN = 30
RETENTION_DAYS_MAX = 36_500
PLAN_REFERENCE_CHARACTERS = 64
# What verdicts about its keys depend on, and nothing else of an owner.
_TOUCHING = frozenset({"suspended", "plan_id", "limits", "entitled_plan_id", "entitled_until_ms"})


@dataclass(frozen=True, slots=True)
class OwnerDraft:
    """What a caller says of an owner; ``plan_id`` may be a plan's name."""

    owner_id: str
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    plan_id: str = ""
    limits: tuple[Limit, ...] = ()

    def check(self, prefix: str = "") -> None:
        """Raise ``InvalidRequestError`` naming every field that breaks a bound; ``prefix`` leads the names."""
        bounds = Bounds()
        bounds.owner_id(f"{prefix}owner_id", self.owner_id)
        bounds.text(f"{prefix}name", self.name, at_most=NAME_CHARACTERS)
        bounds.metadata(f"{prefix}metadata", self.metadata)
        check_limits(bounds, f"{prefix}limits", self.limits)
        bounds.raise_if_any()


@dataclass(frozen=True, slots=True)
class WorkspaceDraft:
    """What a caller says of a workspace; ``default_plan_id`` may be a plan's name, and is empty for none."""

    name: str = ""
    default_plan_id: str = ""
    audit_retention_days: int = 0

    def check(self, mask: Set[str]) -> None:
        """Raise ``InvalidRequestError`` for what ``mask`` names and breaks a bound."""
        if "name" in mask:
            check_workspace_name(self.name, "workspace.name")
        days = self.audit_retention_days
        if "audit_retention_days" in mask and days and not RETENTION_DAYS_MIN <= days <= RETENTION_DAYS_MAX:
            within = f"{RETENTION_DAYS_MIN} to {RETENTION_DAYS_MAX:,}"
            raise invalid("workspace.audit_retention_days", f"must be {within} days, or 0 for ever")


def check_reason(reason: str) -> None:
    """Raise when a reason is longer than 500 characters or holds control characters."""
    bounds = Bounds()
    bounds.text("reason", reason, at_most=REASON_CHARACTERS)
    bounds.raise_if_any()


class OwnerService:
    """Owners of one workspace; every method works inside the unit it is given."""

    def __init__(self, clock: Clock) -> None:
        """Take time from ``clock``."""
        self._clock = clock

    async def create(self, unit: TenantUnit, workspace_id: str, draft: OwnerDraft) -> Owner:
        """Make an owner; raise ``AlreadyExistsError`` when the id is taken."""
        draft.check()
        now_ms = self._clock.now_ms()
        owner = Owner(
            workspace_id,
            draft.owner_id,
            draft.name,
            now_ms,
            now_ms,
            dict(draft.metadata),
            plan_id=await held_plan(unit, workspace_id, draft.plan_id),
            limits=draft.limits,
        )
        await unit.owners.add(owner)
        fields = ["name", "metadata", *[name for name in ("plan_id", "limits") if getattr(owner, name)]]
        changes = {name: (None, _plain(getattr(owner, name))) for name in fields}
        unit.record(_owner_change(Action.OWNER_CREATED, owner, changes))
        return owner

    async def get(self, unit: TenantUnit, owner_id: str, *, lock: bool = False) -> Owner:
        """Return an owner; raise ``NotFoundError`` when there is none."""
        owner = await unit.owners.get(owner_id, lock=lock)
        if owner is None:
            raise NotFoundError("owner", owner_id[:128])
        return owner

    async def update(
        self, unit: TenantUnit, workspace_id: str, draft: OwnerDraft, *, mask: Set[str], etag: str, allow_missing: bool
    ) -> Owner:
        """Change what ``mask`` names, or make the owner when ``allow_missing`` and there is none."""
        draft.check("owner.")
        if mask or not allow_missing:
            demand_fields(mask, OWNER_FIELDS)
        before = await unit.owners.get(draft.owner_id, lock=True)
        if before is None and allow_missing:
            try:
                return await self.create(unit, workspace_id, draft)
            except AlreadyExistsError:  # another call made the owner since we looked
                before = await unit.owners.get(draft.owner_id, lock=True)
        demand_fields(mask, OWNER_FIELDS)
        if before is None:
            raise NotFoundError("owner", draft.owner_id)
        demand_version("owner", before.owner_id, etag=etag, version=before.version)
        wanted = {name: getattr(draft, name) for name in mask}
        if "plan_id" in wanted:
            wanted["plan_id"] = await held_plan(unit, workspace_id, draft.plan_id)
        return await self._save(unit, before, replace(before, **wanted), Action.OWNER_UPDATED)

    async def entitle(self, unit: TenantUnit, owner_id: str, reference: str, *, until_ms: int | None) -> Owner:
        """Make a plan go before the owner's own until ``until_ms``, for ever when None; an empty one ends that.

        What is so already stays so; otherwise ``until_ms`` must be in the future.
        """
        if not reference and until_ms is not None:
            raise invalid("until", "must be absent: without a plan the entitlement ends at once")
        before = await self.get(unit, owner_id, lock=True)
        plan_id = await held_plan(unit, before.workspace_id, reference)
        after = replace(before, entitled_plan_id=plan_id, entitled_until_ms=until_ms)
        if after != before and until_ms is not None and until_ms <= self._clock.now_ms():
            raise invalid("until", "must be in the future")
        return await self._save(unit, before, after, Action.OWNER_ENTITLED)

    async def set_suspended(self, unit: TenantUnit, owner_id: str, *, suspended: bool, reason: str = "") -> Owner:
        """Suspend or resume an owner; what is so already stays so."""
        check_reason(reason)
        before = await self.get(unit, owner_id, lock=True)
        action = Action.OWNER_SUSPENDED if suspended else Action.OWNER_RESUMED
        return await self._save(unit, before, replace(before, suspended=suspended), action, reason)

    async def _save(self, unit: TenantUnit, before: Owner, after: Owner, action: Action, reason: str = "") -> Owner:
        """Store the next version and record what differs; nothing when nothing does."""
        changes = {
            name: (_plain(getattr(before, name)), _plain(getattr(after, name)))
            for name in ("name", "metadata", *sorted(_TOUCHING))
            if getattr(before, name) != getattr(after, name)
        }
        if not changes:
            return before
        after = replace(after, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.owners.save(after)
        unit.record(_owner_change(action, after, changes, reason))
        return after


class WorkspaceService:
    """Workspaces, as far as no key is touched."""

    def __init__(self, clock: Clock) -> None:
        """Take time from ``clock``."""
        self._clock = clock

    async def get(self, unit: TenantUnit, workspace_id: str, *, lock: bool = False) -> Workspace:
        """Return a workspace; raise ``NotFoundError`` when there is none that the unit may see."""
        workspace = await unit.workspaces.get(workspace_id, lock=lock)
        if workspace is None:
            raise NotFoundError("workspace", workspace_id[:64])
        return workspace

    async def update(
        self, unit: TenantUnit, workspace_id: str, draft: WorkspaceDraft, *, mask: Set[str], etag: str
    ) -> Workspace:
        """Change what ``mask`` names."""
        demand_fields(mask, WORKSPACE_FIELDS)
        draft.check(mask)
        before = await self.get(unit, workspace_id, lock=True)
        demand_version("workspace", before.id, etag=etag, version=before.version)
        wanted: dict[str, Any] = {name: getattr(draft, name) for name in mask}
        if "default_plan_id" in mask:
            wanted["default_plan_id"] = await held_plan(unit, workspace_id, draft.default_plan_id)
        changes = {
            field: (getattr(before, field), value) for field, value in wanted.items() if getattr(before, field) != value
        }
        if not changes:
            return before
        after = replace(before, **wanted, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.workspaces.save(after)
        touches = (after.id,) if "default_plan_id" in changes else ()
        unit.record(Change(after.id, Action.WORKSPACE_UPDATED, after.id, touches=touches, changes=changes))
        return after


async def held_plan(unit: TenantUnit, workspace_id: str, reference: str) -> str:
    """Return the id of the plan that ``reference`` names, an empty text for none, and keep it from being deleted.

    Raises ``NotFoundError`` when there is none in the workspace: one of another workspace answers alike (P8).
    """
    if not reference:
        return ""
    plan_id = await unit.plans.hold(workspace_id, reference)
    if plan_id is None:
        raise NotFoundError("plan", reference[:PLAN_REFERENCE_CHARACTERS])
    return plan_id


def check_workspace_name(name: str, field_name: str) -> None:
    """Raise unless ``name`` has 1 to 100 characters, none of them a control character."""
    bounds = Bounds()
    bounds.text(field_name, name, at_least=1, at_most=NAME_CHARACTERS)
    bounds.raise_if_any()


def _owner_change(
    action: Action, owner: Owner, changes: Mapping[str, tuple[object, object]], reason: str = ""
) -> Change:
    return Change(
        owner.workspace_id,
        action,
        owner.owner_id,
        touches=(owner_subject(owner.workspace_id, owner.owner_id),) if changes.keys() & _TOUCHING else (),
        owner_id=owner.owner_id,
        changes=changes,
        reason=reason,
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return [limit_record(limit) for limit in value] if isinstance(value, tuple) else value
