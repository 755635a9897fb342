"""What stands at the beginning: the system's own workspace, operator keys, and the first platform with a sample key.

These are the only things made without a caller; the command line asks for them and nothing else can.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.kernel.change import Actor, ActorType, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.secret import Secret
from keystead.keys.model import Key, KeyFilter, KeyKind
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft, KeyService, created
from keystead.keys.tenancy import EVERYTHING, TenancyService, workspace_created
from keystead.scopes.model import Grants
from keystead.tenants.model import RESERVED_BRAND, SYSTEM_WORKSPACE_ID, Environment, Workspace

SYSTEM_ORIGIN = Origin(Actor(ActorType.SYSTEM, "command-line"))
OPERATOR_SCOPES = ("*:workspaces",)
_OPERATORS_MAX = 1_000
SAMPLE_BRAND = "acme"
SAMPLE_OWNER_ID = "sample-customer"
SAMPLE_SCOPES = ("read:invoices", "write:invoices")


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What the first run made, to be shown once."""

    workspace_id: str
    management_key: Secret
    sample_key: Secret
    sample_key_id: str
    sample_owner_id: str


class Installation:
    """Makes what stands at the beginning."""

    def __init__(self, *, tenancy: TenancyService, keys: KeyService, clock: Clock) -> None:
        """Work with the services of both domains."""
        self._tenancy = tenancy
        self._keys = keys
        self._clock = clock

    async def mint_operator(self, unit: Unit, *, name: str, replace: bool = False) -> tuple[Key, Secret]:
        """Make an operator key, and the system's own workspace when it is not there yet, in a unit without walls.

        ``replace`` revokes every operator key there was: one was lost, leaked, or refers to an old master key.
        """
        workspace = await self._system_workspace(unit)
        if replace:
            wanted = KeyFilter(now_ms=self._clock.now_ms(), kind=KeyKind.OPERATOR, not_revoked=True)
            for old in await unit.keys.find(wanted, limit=_OPERATORS_MAX, lock=True):
                await self._keys.revoke_locked(unit, old, reason="replaced")
        key, secret = await self._tenancy.mint_own_key(
            workspace,
            kind=KeyKind.OPERATOR,
            name=name,
            scopes=OPERATOR_SCOPES,
            created_by=SYSTEM_ORIGIN.actor.id,
        )
        await unit.keys.add(key)
        unit.record(created(key))
        return key, secret

    async def first_run(self, unit: Unit, workspace_id: str) -> FirstRun:
        """Make a workspace, its management key and a customer's key to try; the walls are around ``workspace_id``."""
        workspace, management_key, management_secret = await self._tenancy.create_workspace(
            unit, brand=SAMPLE_BRAND, name="Acme", created_by=SYSTEM_ORIGIN.actor.id, workspace_id=workspace_id
        )
        caller = Principal(
            key_id=management_key.id,
            kind=KeyKind.MANAGEMENT,
            workspace_id=workspace.id,
            brand=workspace.brand,
            environment=Environment.ALL,
            grants=Grants((EVERYTHING,)),
        )
        draft = KeyDraft(
            name="Sample key",
            owner_id=SAMPLE_OWNER_ID,
            create_owner=True,
            description="Made by the first run, to try things with.",
            environment=Environment.LIVE,
            scopes=SAMPLE_SCOPES,
        )
        sample, sample_secret = await self._keys.create(unit, caller, draft)
        return FirstRun(workspace.id, management_secret, sample_secret, sample.id, SAMPLE_OWNER_ID)

    async def _system_workspace(self, unit: Unit) -> Workspace:
        workspace = await unit.workspaces.get(SYSTEM_WORKSPACE_ID, lock=True)
        if workspace is None:
            now_ms = self._clock.now_ms()
            workspace = Workspace(SYSTEM_WORKSPACE_ID, RESERVED_BRAND, "Keystead", now_ms, now_ms)
            await unit.workspaces.add(workspace)
            unit.record(workspace_created(workspace))
        return workspace
