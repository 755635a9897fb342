"""What happens to keys when a workspace or an owner comes or goes."""

from __future__ import annotations

from dataclasses import replace

from keystead.kernel.bounds import Bounds
from keystead.kernel.change import Action, Change, owner_subject
from keystead.kernel.changing import demand_version
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.kernel.secret import Secret
from keystead.keys.errors import PermissionDeniedError, TooManyKeysError
from keystead.keys.minting import Minter
from keystead.keys.model import Key, KeyFilter, KeyKind
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.keys.secret_format import is_brand
from keystead.keys.service import KeyService, created
from keystead.limits.service import PlanService
from keystead.tenants.errors import NotFoundError, WorkspaceNotEmptyError
from keystead.tenants.model import RESERVED_BRAND, SYSTEM_WORKSPACE_ID, Environment, Owner, Workspace
from keystead.tenants.service import OwnerService, WorkspaceService, check_reason, check_workspace_name

OWNED_KEYS_MAX = 10_000
EVERYTHING = "*:*"


class TenancyService:
    """Makes workspaces with their first key, and ends owners and workspaces with theirs."""

    def __init__(
        self,
        *,
        minter: Minter,
        keys: KeyService,
        owners: OwnerService,
        workspaces: WorkspaceService,
        plans: PlanService,
        ids: IdSource,
        clock: Clock,
    ) -> None:
        """Work with the services of both domains."""
        self._minter = minter
        self._keys = keys
        self._owners = owners
        self._workspaces = workspaces
        self._plans = plans
        self._ids = ids
        self._clock = clock

    async def create_workspace(
        self, unit: Unit, *, brand: str, name: str, created_by: str, workspace_id: str = ""
    ) -> tuple[Workspace, Key, Secret]:
        """Make a workspace, the plans it begins with and its first management key, which may do everything in it.

        ``workspace_id`` is drawn when it is not given; who opened walls around it beforehand names it.
        """
        bounds = Bounds()
        if not is_brand(brand):
            bounds.add("brand", "must be 2 to 16 of a-z and 0-9")
        elif brand == RESERVED_BRAND:
            bounds.add("brand", f"{RESERVED_BRAND} is reserved")
        bounds.raise_if_any()
        check_workspace_name(name, "name")
        now_ms = self._clock.now_ms()
        workspace = Workspace(workspace_id or self._ids.new("wsp"), brand, name, now_ms, now_ms)
        plans = self._plans.built_in(workspace.id)
        workspace = replace(workspace, default_plan_id=plans[0].id)
        key, secret = await self.mint_own_key(
            workspace, kind=KeyKind.MANAGEMENT, name="First management key", scopes=(EVERYTHING,), created_by=created_by
        )
        await unit.workspaces.add(workspace)
        await unit.keys.add(key)
        unit.record(workspace_created(workspace))
        for plan in plans:
            await self._plans.add(unit, plan)
        unit.record(created(key))
        return workspace, key, secret

    async def mint_own_key(
        self, workspace: Workspace, *, kind: KeyKind, name: str, scopes: tuple[str, ...], created_by: str
    ) -> tuple[Key, Secret]:
        """Make a key that calls Keystead itself, for both environments; the caller stores and records it."""
        minted = await self._minter.mint(brand=workspace.brand, kind=kind, environment=Environment.ALL)
        now_ms = self._clock.now_ms()
        key = Key(
            id=self._ids.new("key"),
            workspace_id=workspace.id,
            environment=Environment.ALL,
            kind=kind,
            owner_id="",
            name=name,
            created_at_ms=now_ms,
            created_by=created_by,
            updated_at_ms=now_ms,
            secrets=(minted.record,),
            scopes=scopes,
        )
        return key, minted.secret

    async def delete_workspace(self, unit: Unit, workspace_id: str, *, etag: str) -> None:
        """Delete a workspace; raise ``WorkspaceNotEmptyError`` while customers or services have keys not revoked."""
        if workspace_id == SYSTEM_WORKSPACE_ID:
            raise PermissionDeniedError("The system's own workspace cannot be deleted.")
        workspace = await self._workspaces.get(unit, workspace_id, lock=True)
        demand_version("workspace", workspace_id, etag=etag, version=workspace.version)
        wanted = KeyFilter(now_ms=self._clock.now_ms(), not_revoked=True, workspace_id=workspace_id)
        in_use = [await unit.keys.count(replace(wanted, kind=kind)) for kind in (KeyKind.CUSTOMER, KeyKind.SERVICE)]
        if any(in_use):
            raise WorkspaceNotEmptyError(workspace_id, sum(in_use))
        await unit.workspaces.delete(workspace_id)
        unit.record(Change(workspace_id, Action.WORKSPACE_DELETED, workspace_id, touches=(workspace_id,)))

    async def set_suspended(
        self, unit: Unit, caller: Principal, owner_id: str, *, suspended: bool, reason: str = ""
    ) -> Owner:
        """Suspend or resume an owner, whose keys of both environments follow: so the caller must be for both."""
        caller.demand_environment(Environment.ALL)
        return await self._owners.set_suspended(unit, owner_id, suspended=suspended, reason=reason)

    async def delete_owner(self, unit: Unit, caller: Principal, owner_id: str, *, reason: str, etag: str) -> int:
        """Delete an owner and revoke its keys in both environments; return how many were revoked."""
        check_reason(reason)
        caller.demand("write:keys")
        caller.demand_environment(Environment.ALL)
        owner = await unit.owners.get(owner_id, lock=True)
        if owner is None:
            raise NotFoundError("owner", owner_id[:128])
        demand_version("owner", owner_id, etag=etag, version=owner.version)
        wanted = KeyFilter(now_ms=self._clock.now_ms(), owner_id=owner_id, not_revoked=True)
        found = await unit.keys.find(wanted, limit=OWNED_KEYS_MAX + 1, lock=True)
        if len(found) > OWNED_KEYS_MAX:
            raise TooManyKeysError(OWNED_KEYS_MAX)
        for key in found:
            caller.demand_may_change(key)
        for key in found:
            await self._keys.revoke_locked(unit, key, reason=reason or "owner deleted")
        await unit.owners.delete(owner_id)
        touches = (owner_subject(caller.workspace_id, owner_id),)
        unit.record(
            Change(caller.workspace_id, Action.OWNER_DELETED, owner_id, touches, owner_id=owner_id, reason=reason)
        )
        return len(found)


def workspace_created(workspace: Workspace) -> Change:
    """Describe the making of ``workspace``."""
    return Change(
        workspace.id,
        Action.WORKSPACE_CREATED,
        workspace.id,
        touches=(workspace.id,),
        changes={"brand": (None, workspace.brand), "name": (None, workspace.name)},
    )
