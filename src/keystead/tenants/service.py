"""What can be done with owners and workspaces, as far as no key is touched (that part is in ``keys/tenancy.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from keystead.kernel.bounds import NAME_CHARACTERS, REASON_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change, owner_subject
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.tenants.model import Owner, Workspace
from keystead.tenants.ports import TenantUnit

OWNER_FIELDS = frozenset({"name", "metadata"})
WORKSPACE_FIELDS = frozenset({"name"})


@dataclass(frozen=True, slots=True)
class OwnerDraft:
    """What a caller says of an owner."""

    owner_id: str
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def check(self, prefix: str = "") -> None:
        """Raise ``InvalidRequestError`` naming every field that breaks a bound; ``prefix`` leads the names."""
        bounds = Bounds()
        bounds.owner_id(f"{prefix}owner_id", self.owner_id)
        bounds.text(f"{prefix}name", self.name, at_most=NAME_CHARACTERS)
        bounds.metadata(f"{prefix}metadata", self.metadata)
        bounds.raise_if_any()


def demand_fields(mask: Set[str], known: Set[str]) -> None:
    """Raise unless the update mask names something and nothing but ``known`` fields."""
    if not mask:
        raise invalid("update_mask", f"must name at least one of {', '.join(sorted(known))}")
    if wrong := sorted(mask - known):
        raise invalid("update_mask", f"{', '.join(wrong)[:200]} cannot be changed; only {', '.join(sorted(known))} can")


def demand_version(what: str, name: str, *, etag: str, version: int) -> None:
    """Raise ``EtagMismatchError`` when ``etag`` was given and is not that of ``version``."""
    if etag and etag != etag_of(version):
        raise EtagMismatchError(what, name)


def etag_of(version: int) -> str:
    """Return the quoted etag of a version."""
    return f'"{version}"'


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
        owner = Owner(workspace_id, draft.owner_id, draft.name, now_ms, now_ms, dict(draft.metadata))
        await unit.owners.add(owner)
        unit.record(
            _owner_change(
                Action.OWNER_CREATED, owner, {"name": (None, owner.name), "metadata": (None, dict(owner.metadata))}
            )
        )
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
        changes = {
            name: (getattr(before, name), value) for name, value in wanted.items() if getattr(before, name) != value
        }
        if not changes:
            return before
        after = replace(before, **wanted, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.owners.save(after)
        unit.record(_owner_change(Action.OWNER_UPDATED, after, changes))
        return after

    async def set_suspended(self, unit: TenantUnit, owner_id: str, *, suspended: bool, reason: str = "") -> Owner:
        """Suspend or resume an owner; what is so already stays so."""
        check_reason(reason)
        before = await self.get(unit, owner_id, lock=True)
        if before.suspended == suspended:
            return before
        after = replace(before, suspended=suspended, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.owners.save(after)
        action = Action.OWNER_SUSPENDED if suspended else Action.OWNER_RESUMED
        unit.record(_owner_change(action, after, {"suspended": (before.suspended, suspended)}, reason))
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

    async def update(self, unit: TenantUnit, workspace_id: str, *, name: str, mask: Set[str], etag: str) -> Workspace:
        """Change the name."""
        demand_fields(mask, WORKSPACE_FIELDS)
        check_workspace_name(name, "workspace.name")
        before = await self.get(unit, workspace_id, lock=True)
        demand_version("workspace", before.id, etag=etag, version=before.version)
        if before.name == name:
            return before
        after = replace(before, name=name, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.workspaces.save(after)
        unit.record(
            Change(after.id, Action.WORKSPACE_UPDATED, after.id, touches=(), changes={"name": (before.name, name)})
        )
        return after


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
        # A verdict depends on whether an owner is suspended and on nothing else of it.
        touches=(owner_subject(owner.workspace_id, owner.owner_id),) if "suspended" in changes else (),
        owner_id=owner.owner_id,
        changes=changes,
        reason=reason,
    )
