"""What can be done with keys. Every invariant of their life is held here, whatever transport or screen asks.

A method works inside the unit of work it is given and records the change it makes; nothing is half-done.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from keystead.kernel.bounds import NAME_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change
from keystead.kernel.changing import demand_fields, demand_version
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import Limit, check_limits, limit_record
from keystead.kernel.secret import Secret
from keystead.keys import addresses, rotation
from keystead.keys.errors import (
    CountMismatchError,
    KeyLimitReachedError,
    PermissionDeniedError,
    RefusedFor,
    TooManyKeysError,
)
from keystead.keys.minting import Minter
from keystead.keys.model import VERIFIED_KINDS, Key, KeyFilter, KeyKind, KeyState
from keystead.keys.ports import Unit
from keystead.keys.principal import Held, Principal
from keystead.keys.tiers import plan_of
from keystead.scopes import model as scopes
from keystead.tenants.errors import AlreadyExistsError, NotFoundError
from keystead.tenants.model import Environment, Owner
from keystead.tenants.service import OwnerDraft, OwnerService, check_reason, held_plan

DESCRIPTION_CHARACTERS = 500
TAGS_PER_KEY = 20
TAG_CHARACTERS = 50
REVOKED_AT_ONCE_MAX = 1_000
KEY_FIELDS = frozenset(
    {"name", "description", "scopes", "metadata", "tags", "allowed_ips", "expires_at", "plan_id", "limits"}
)
_RECORDED = (
    "name",
    "description",
    "scopes",
    "metadata",
    "tags",
    "allowed_ips",
    "expires_at_ms",
    "state",
    "plan_id",
    "limits",
)


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """What a caller says of a key. ``environment`` None means the caller's own; ``plan_id`` may be a plan's name."""

    name: str
    owner_id: str = ""
    create_owner: bool = False
    description: str = ""
    environment: Environment | None = None
    kind: KeyKind = KeyKind.CUSTOMER
    scopes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    expires_at_ms: int | None = None
    plan_id: str = ""
    limits: tuple[Limit, ...] = ()

    def checked(self, *, now_ms: int, mask: Set[str] = KEY_FIELDS, prefix: str = "") -> KeyDraft:
        """Return the draft with its ranges in one spelling; raise ``InvalidRequestError`` naming all that is wrong."""
        bounds = Bounds()
        if "name" in mask:
            bounds.text(f"{prefix}name", self.name, at_least=1, at_most=NAME_CHARACTERS)
        if "description" in mask:
            bounds.text(f"{prefix}description", self.description, at_most=DESCRIPTION_CHARACTERS)
        if "scopes" in mask:
            scopes.check_granted(bounds, f"{prefix}scopes", self.scopes)
        if "metadata" in mask:
            bounds.metadata(f"{prefix}metadata", self.metadata)
        if "tags" in mask:
            bounds.texts(f"{prefix}tags", self.tags, at_most_items=TAGS_PER_KEY, at_most=TAG_CHARACTERS)
        if "expires_at" in mask and self.expires_at_ms is not None and self.expires_at_ms <= now_ms:
            bounds.add(f"{prefix}expires_at", "must be in the future")
        if "limits" in mask:
            check_limits(bounds, f"{prefix}limits", self.limits)
        ranges = addresses.normalise(bounds, f"{prefix}allowed_ips", self.allowed_ips) if "allowed_ips" in mask else ()
        bounds.raise_if_any()
        return replace(self, allowed_ips=ranges)


class KeyService:
    """Keys inside one caller's walls."""

    def __init__(self, *, minter: Minter, owners: OwnerService, ids: IdSource, clock: Clock) -> None:
        """Mint with ``minter``; make owners that are missing with ``owners``."""
        self._minter = minter
        self._owners = owners
        self._ids = ids
        self._clock = clock

    async def create(self, unit: Unit, caller: Principal, draft: KeyDraft) -> tuple[Key, Secret]:
        """Make a key and its first secret."""
        now_ms = self._clock.now_ms()
        draft = draft.checked(now_ms=now_ms)
        environment = _environment_of(draft, caller)
        if draft.kind is KeyKind.OPERATOR:
            text = "Operator keys are made by `keystead bootstrap` alone."
            raise PermissionDeniedError(text, refused_for=RefusedFor.COMMAND_LINE_ONLY)
        if draft.kind is KeyKind.MANAGEMENT:
            caller.demand_cover(Held(draft.scopes, environment, draft.allowed_ips, draft.expires_at_ms))
        caller.demand_environment(environment)
        if draft.create_owner:
            caller.demand("write:owners")
        _check_owner_id(draft)
        _check_unlimited(draft, draft.kind)
        minted = await self._minter.mint(brand=caller.brand, kind=draft.kind, environment=environment)
        owner = await self._demanded_owner(unit, caller, draft)
        key = Key(
            id=self._ids.new("key"),
            workspace_id=caller.workspace_id,
            environment=environment,
            kind=draft.kind,
            owner_id=draft.owner_id,
            name=draft.name,
            description=draft.description,
            created_at_ms=now_ms,
            created_by=caller.key_id,
            updated_at_ms=now_ms,
            secrets=(minted.record,),
            scopes=draft.scopes,
            metadata=dict(draft.metadata),
            tags=draft.tags,
            allowed_ips=draft.allowed_ips,
            expires_at_ms=draft.expires_at_ms,
            plan_id=await held_plan(unit, caller.workspace_id, draft.plan_id),
            limits=draft.limits,
        )
        if owner is not None:
            await self._demand_room(unit, key, owner)
        await unit.keys.add(key)
        unit.record(created(key))
        return key, minted.secret

    async def get(self, unit: Unit, key_id: str, *, lock: bool = False) -> Key:
        """Return a key; raise ``NotFoundError`` when there is none inside the walls."""
        key = await unit.keys.get(key_id, lock=lock)
        if key is None:
            raise NotFoundError("key", key_id[:64])
        return key

    async def update(
        self, unit: Unit, caller: Principal, key_id: str, draft: KeyDraft, *, mask: Set[str], etag: str
    ) -> Key:
        """Change what ``mask`` names; with ``etag``, only if the key is still at that version."""
        demand_fields(mask, KEY_FIELDS)
        draft = draft.checked(now_ms=self._clock.now_ms(), mask=mask, prefix="key.")
        before = await self._changeable(unit, caller, key_id)
        demand_version("key", key_id, etag=etag, version=before.version)
        _check_unlimited(draft, before.kind, mask, prefix="key.")
        wanted = {_stored_name(name): getattr(draft, _stored_name(name)) for name in mask}
        if "plan_id" in wanted:
            wanted["plan_id"] = await held_plan(unit, before.workspace_id, draft.plan_id)
        if all(getattr(before, name) == value for name, value in wanted.items()):
            return before
        after = replace(before, **wanted)
        caller.demand_may_change(after)
        return await self._save(unit, before, after, Action.KEY_UPDATED)

    async def rotate(self, unit: Unit, caller: Principal, key_id: str, *, overlap_ms: int | None) -> tuple[Key, Secret]:
        """Give a key a new secret (P7); the old one works until the overlap ends, 24 h when None."""
        overlap_ms = rotation.OVERLAP_DEFAULT_MS if overlap_ms is None else overlap_ms
        if not 0 <= overlap_ms <= rotation.OVERLAP_MAX_MS:
            raise invalid("overlap", f"must be 0 s to {rotation.OVERLAP_MAX_MS // 1_000} s (90 days)")
        seen = await self.get(unit, key_id)
        caller.demand_may_change(seen)
        rotation.demand_rotatable(seen, self._clock.now_ms())
        # Hashing is slow, so it comes before the lock; kind and environment never change, the rest is looked at again.
        minted = await self._minter.mint(brand=caller.brand, kind=seen.kind, environment=seen.environment)
        before = await self._locked(unit, caller, key_id)
        after = rotation.rotate(before, minted.record, now_ms=self._clock.now_ms(), overlap_ms=overlap_ms)
        saved = await self._save(unit, before, after, Action.KEY_ROTATION_STARTED, touches=(minted.record.prefix,))
        return saved, minted.secret

    async def finish_rotation(self, unit: Unit, caller: Principal, key_id: str) -> Key:
        """Retire every retiring secret now."""
        before = await self._locked(unit, caller, key_id)
        after = rotation.finish(before, now_ms=self._clock.now_ms())
        return await self._save(unit, before, after, Action.KEY_ROTATION_FINISHED)

    async def cancel_rotation(self, unit: Unit, caller: Principal, key_id: str) -> Key:
        """Retire the new secret and make the one before it current again."""
        before = await self._locked(unit, caller, key_id)
        after = rotation.cancel(before, now_ms=self._clock.now_ms())
        return await self._save(unit, before, after, Action.KEY_ROTATION_CANCELLED)

    async def suspend(self, unit: Unit, caller: Principal, key_id: str, *, reason: str) -> Key:
        """Suspend a key; a suspended one stays so."""
        check_reason(reason)
        before = await self._changeable(unit, caller, key_id)
        if before.state is KeyState.SUSPENDED:
            return before
        after = replace(before, state=KeyState.SUSPENDED, state_reason=reason)
        return await self._save(unit, before, after, Action.KEY_SUSPENDED, reason=reason)

    async def resume(self, unit: Unit, caller: Principal, key_id: str) -> Key:
        """End a key's suspension; one that is not suspended stays as it is."""
        before = await self._changeable(unit, caller, key_id)
        if before.state is KeyState.ACTIVE:
            return before
        return await self._save(
            unit, before, replace(before, state=KeyState.ACTIVE, state_reason=""), Action.KEY_RESUMED
        )

    async def revoke(self, unit: Unit, caller: Principal, key_id: str, *, reason: str) -> Key:
        """Revoke a key for good; a revoked one stays as it is."""
        check_reason(reason)
        before = await self._locked(unit, caller, key_id)
        return await self.revoke_locked(unit, before, reason=reason)

    async def revoke_locked(self, unit: Unit, before: Key, *, reason: str) -> Key:
        """Revoke a key that the unit has read with ``lock``; the caller has checked the rights."""
        if before.state is KeyState.REVOKED:
            return before
        after = replace(before, state=KeyState.REVOKED, state_reason=reason, revoked_at_ms=self._clock.now_ms())
        return await self._save(unit, before, after, Action.KEY_REVOKED, reason=reason)

    async def revoke_matching(
        self,
        unit: Unit,
        caller: Principal,
        wanted: KeyFilter,
        *,
        reason: str,
        validate_only: bool,
        expected_count: int | None,
    ) -> list[Key]:
        """Revoke every key that matches, all or none; return them, the newest first."""
        check_reason(reason)
        found = await unit.keys.find(
            replace(wanted, not_revoked=True), limit=REVOKED_AT_ONCE_MAX + 1, lock=not validate_only
        )
        if len(found) > REVOKED_AT_ONCE_MAX:
            raise TooManyKeysError(REVOKED_AT_ONCE_MAX)
        if expected_count is not None and expected_count != len(found):
            raise CountMismatchError(expected_count, len(found))
        for key in found:
            caller.demand_may_change(key)
        if validate_only:
            return found
        return [await self.revoke_locked(unit, key, reason=reason) for key in found]

    async def _locked(self, unit: Unit, caller: Principal, key_id: str) -> Key:
        key = await self.get(unit, key_id, lock=True)
        caller.demand_may_change(key)
        return key

    async def _changeable(self, unit: Unit, caller: Principal, key_id: str) -> Key:
        key = await self._locked(unit, caller, key_id)
        rotation.demand_not_revoked(key)
        return key

    async def _demanded_owner(self, unit: Unit, caller: Principal, draft: KeyDraft) -> Owner | None:
        """Return the owner with its row locked: whoever else makes a key of it waits."""
        if not draft.owner_id:
            return None
        owner = await unit.owners.get(draft.owner_id, lock=True)
        if owner is not None:
            return owner
        if not draft.create_owner:
            raise NotFoundError("owner", draft.owner_id)
        try:
            return await self._owners.create(unit, caller.workspace_id, OwnerDraft(draft.owner_id))
        except AlreadyExistsError:  # another call made the owner since we looked
            return await self._owners.get(unit, draft.owner_id, lock=True)

    async def _demand_room(self, unit: Unit, key: Key, owner: Owner) -> None:
        """Raise ``KeyLimitReachedError`` when ``owner`` has as many keys as the plan of the new one allows."""
        now_ms = self._clock.now_ms()
        workspace = await unit.workspaces.get(key.workspace_id)
        default_plan_id = "" if workspace is None else workspace.default_plan_id
        plan_id, _ = plan_of(key, owner, default_plan_id, now_ms)
        plan = await unit.plans.get(key.workspace_id, plan_id) if plan_id else None
        if plan is None or not plan.max_keys_per_owner:
            return
        held = KeyFilter(now_ms=now_ms, owner_id=owner.owner_id, environment=key.environment, not_revoked=True)
        if await unit.keys.count(held) >= plan.max_keys_per_owner:
            raise KeyLimitReachedError(owner.owner_id, plan=plan.name, limit=plan.max_keys_per_owner)

    async def _save(
        self, unit: Unit, before: Key, after: Key, action: Action, *, reason: str = "", touches: tuple[str, ...] = ()
    ) -> Key:
        after = replace(after, updated_at_ms=self._clock.now_ms(), version=before.version + 1)
        await unit.keys.save(after)
        unit.record(
            Change(
                after.workspace_id,
                action,
                after.id,
                touches=(after.id, *touches),
                environment=after.environment,
                owner_id=after.owner_id,
                changes=_differences(before, after),
                reason=reason,
            )
        )
        return after


def created(key: Key) -> Change:
    """Describe the making of ``key``."""
    return Change(
        key.workspace_id,
        Action.KEY_CREATED,
        key.id,
        touches=(key.id, *(secret.prefix for secret in key.secrets)),
        environment=key.environment,
        owner_id=key.owner_id,
        changes={name: (None, _plain(getattr(key, name))) for name in (*_RECORDED, "kind")} | _secret_changes((), key),
    )


def _differences(before: Key, after: Key) -> dict[str, tuple[object, object]]:
    changed: dict[str, tuple[object, object]] = {
        name: (_plain(getattr(before, name)), _plain(getattr(after, name)))
        for name in _RECORDED
        if getattr(before, name) != getattr(after, name)
    }
    if before.secrets != after.secrets:
        changed |= _secret_changes(_described(before), after)
    return changed


def _secret_changes(before: object, after: Key) -> dict[str, tuple[object, object]]:
    return {"secrets": (before, _described(after))}


def _described(key: Key) -> list[dict[str, object]]:
    return [{"id": secret.id, "prefix": secret.prefix, "retires_at_ms": secret.retires_at_ms} for secret in key.secrets]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [limit_record(item) if isinstance(item, Limit) else item for item in value]
    return value


def _stored_name(mask_name: str) -> str:
    return "expires_at_ms" if mask_name == "expires_at" else mask_name


def _environment_of(draft: KeyDraft, caller: Principal) -> Environment:
    environment = draft.environment or caller.environment
    if draft.environment is None and environment is Environment.ALL:
        raise invalid("environment", "must be LIVE or TEST: this management key is for both")
    if environment is Environment.ALL and draft.kind is not KeyKind.MANAGEMENT:
        raise invalid("environment", "must be LIVE or TEST; ALL is for management keys alone")
    return environment


def _check_owner_id(draft: KeyDraft) -> None:
    bounds = Bounds()
    if draft.owner_id and draft.kind is KeyKind.MANAGEMENT:
        bounds.add(
            "owner_id", "must be empty: a management key belongs to the platform, and no owner's fate is its own"
        )
    elif draft.owner_id or draft.kind is KeyKind.CUSTOMER or draft.create_owner:
        bounds.owner_id("owner_id", draft.owner_id)
    bounds.raise_if_any()


def _check_unlimited(draft: KeyDraft, kind: KeyKind, mask: Set[str] = KEY_FIELDS, *, prefix: str = "") -> None:
    bounds = Bounds()
    for name in sorted(mask & {"plan_id", "limits"}):
        if kind not in VERIFIED_KINDS and getattr(draft, name):
            bounds.add(f"{prefix}{name}", "must be empty: keys that call Keystead itself have no limits")
    bounds.raise_if_any()
