"""Plans in SQL, and who refers to them.

References are not foreign keys: whoever stores one holds the plan's row (``FOR KEY SHARE``), and whoever deletes a plan
has locked it before he counts, so one of the two waits for the other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, delete, exc, func, literal_column, or_, select, update

from keystead.adapters.limits import limits_from, limits_text
from keystead.adapters.sql import schema
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.walls import Walls
from keystead.kernel.ids import is_id
from keystead.kernel.limit import OutagePolicy
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.keys.model import VERIFIED_KINDS, KeyKind, KeyState
from keystead.limits.model import PLAN_ID_PREFIX, Plan, PlanReach, PlanUses
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError

_TABLE = schema.plans
_KEYS = schema.keys
_OWNERS = schema.owners
_WORKSPACES = schema.workspaces
# Spelled out rather than bound, so that the planner sees that an index of those that refer to a plan will do.
_NONE: ColumnElement[str] = literal_column("''")


class SqlPlans:
    """The ``PlanRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def add(self, plan: Plan) -> None:
        """Store a new plan.

        Raises ``AlreadyExistsError`` when the name is taken, ``NotFoundError`` when the workspace is gone.
        """
        self._walls.demand(plan.workspace_id)
        insert = self._session.database.insert_new(_TABLE)
        insert = insert.values(id=plan.id, workspace_id=plan.workspace_id, **_values(plan))
        with demanding_workspace(plan.workspace_id):
            added = await self._session.write(insert)
        if not added:
            raise AlreadyExistsError("plan", plan.name)

    async def get(self, workspace_id: str, reference: str, *, lock: bool = False) -> Plan | None:
        """Return one, or None."""
        if not self._walls.admit(workspace_id):
            return None
        wanted = select(_TABLE).where(*_meant(workspace_id, reference))
        rows = await (self._session.lock(wanted.with_for_update()) if lock else self._session.read(wanted))
        return _plan(rows[0]) if rows else None

    async def hold(self, workspace_id: str, reference: str) -> str | None:
        """Return the id of a plan, or None, and keep others from deleting it."""
        if not self._walls.admit(workspace_id):
            return None
        wanted = select(_TABLE.c.id).where(*_meant(workspace_id, reference))
        rows = await self._session.lock(wanted.with_for_update(read=True, key_share=True))
        return rows[0].id if rows else None

    async def save(self, plan: Plan) -> None:
        """Store the new state; raise ``EtagMismatchError`` when the stored version is not the one before it."""
        self._walls.demand(plan.workspace_id)
        change = update(_TABLE).where(
            _TABLE.c.id == plan.id, _TABLE.c.workspace_id == plan.workspace_id, _TABLE.c.version == plan.version - 1
        )
        try:
            saved = await self._session.write(change.values(**_values(plan)))
        except exc.IntegrityError as error:
            raise AlreadyExistsError("plan", plan.name) from error
        if not saved:
            raise EtagMismatchError("plan", plan.name)

    async def delete(self, plan: Plan) -> None:
        """Delete a plan."""
        self._walls.demand(plan.workspace_id)
        await self._session.write(
            delete(_TABLE).where(_TABLE.c.id == plan.id, _TABLE.c.workspace_id == plan.workspace_id)
        )

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Plan]:
        """Return one page by name; the position is ``(name,)``."""
        self._walls.demand(workspace_id)
        wanted = select(_TABLE).where(_TABLE.c.workspace_id == workspace_id)
        rows = await self._session.read(after(wanted, request, (_TABLE.c.name,), request.position))
        return cut([_plan(row) for row in rows], request.size, lambda plan: (plan.name,))

    async def uses(self, plan: Plan, *, now_ms: int) -> PlanUses:
        """Count who refers to ``plan`` in all environments."""
        self._walls.demand(plan.workspace_id)
        chosen = _owner_ids(plan).where(_OWNERS.c.plan_id == plan.id, _OWNERS.c.plan_id != _NONE)
        entitled = _owner_ids(plan).where(
            _OWNERS.c.entitled_plan_id == plan.id, _OWNERS.c.entitled_plan_id != _NONE, _lasting(now_ms)
        )
        default = select(func.count()).where(
            _WORKSPACES.c.id == plan.workspace_id, _WORKSPACES.c.default_plan_id == plan.id
        )
        return PlanUses(
            keys=await self._number(_referring(plan).with_only_columns(func.count())),
            owners=await self._number(select(func.count()).select_from(chosen.union(entitled).subquery())),
            is_default=await self._number(default) > 0,
        )

    async def reach(self, plan: Plan, *, now_ms: int, samples: int) -> PlanReach:
        """Say to which keys of the unit's environments ``plan`` applies at ``now_ms``."""
        self._walls.demand(plan.workspace_id)
        ways = [self._seen(_referring(plan)), self._seen(_through_owners(plan, now_ms))]
        if (await self.uses(plan, now_ms=now_ms)).is_default:
            ways.append(self._seen(_by_default(plan, now_ms)))
        affected, owner_ids = 0, set[str]()
        for way in ways:
            affected += await self._number(way.with_only_columns(func.count()))
            named = way.with_only_columns(_KEYS.c.owner_id).where(_KEYS.c.owner_id != _NONE)
            rows = await self._session.read(named.distinct().order_by(_KEYS.c.owner_id).limit(samples))
            owner_ids |= {row.owner_id for row in rows}
        return PlanReach(affected, tuple(sorted(owner_ids)[:samples]))

    def _seen(self, keys: Select[Any]) -> Select[Any]:
        if self._walls.environments is None:
            return keys
        return keys.where(_KEYS.c.environment.in_(sorted(self._walls.environments)))

    async def _number(self, statement: Select[Any]) -> int:
        number: int = (await self._session.read(statement))[0][0]
        return number


def _meant(workspace_id: str, reference: str) -> tuple[ColumnElement[bool], ...]:
    column = _TABLE.c.id if is_id(reference, PLAN_ID_PREFIX) else _TABLE.c.name
    return _TABLE.c.workspace_id == workspace_id, column == reference


def _owner_ids(plan: Plan) -> Select[Any]:
    return select(_OWNERS.c.owner_id).where(_OWNERS.c.workspace_id == plan.workspace_id)


def _working(plan: Plan) -> Select[Any]:
    """Choose the keys of the plan's workspace that are not revoked."""
    return select(_KEYS.c.id).where(_KEYS.c.workspace_id == plan.workspace_id, _KEYS.c.state != KeyState.REVOKED)


def _referring(plan: Plan) -> Select[Any]:
    return _working(plan).where(_KEYS.c.plan_id == plan.id, _KEYS.c.plan_id != _NONE)


def _through_owners(plan: Plan, now_ms: int) -> Select[Any]:
    same = and_(_OWNERS.c.workspace_id == _KEYS.c.workspace_id, _OWNERS.c.owner_id == _KEYS.c.owner_id)
    chosen = _owner_ids(plan).where(_OWNERS.c.plan_id == plan.id, _OWNERS.c.plan_id != _NONE)
    entitled = _owner_ids(plan).where(_OWNERS.c.entitled_plan_id == plan.id, _OWNERS.c.entitled_plan_id != _NONE)
    return (
        _working(plan)
        .join_from(_KEYS, _OWNERS, same)
        .where(
            _OWNERS.c.workspace_id == plan.workspace_id,
            _KEYS.c.owner_id.in_(chosen.union(entitled)),
            _KEYS.c.plan_id == _NONE,
            _KEYS.c.kind.in_(sorted(VERIFIED_KINDS)),
            owners_plan(now_ms) == plan.id,
        )
    )


def _by_default(plan: Plan, now_ms: int) -> Select[Any]:
    same = and_(_OWNERS.c.workspace_id == _KEYS.c.workspace_id, _OWNERS.c.owner_id == _KEYS.c.owner_id)
    return (
        _working(plan)
        .join_from(_KEYS, _OWNERS, same, isouter=True)
        .where(
            _KEYS.c.plan_id == _NONE,
            _KEYS.c.kind == KeyKind.CUSTOMER,
            func.coalesce(owners_plan(now_ms), _NONE) == _NONE,
        )
    )


def _lasting(now_ms: int) -> ColumnElement[bool]:
    until = _OWNERS.c.entitled_until_ms
    return or_(until.is_(None), until > now_ms)


def owners_plan(now_ms: int) -> ColumnElement[str]:
    """Return the plan that an owner gives its keys."""
    entitled = and_(_OWNERS.c.entitled_plan_id != _NONE, _lasting(now_ms))
    return case((entitled, _OWNERS.c.entitled_plan_id), else_=_OWNERS.c.plan_id)


def _values(plan: Plan) -> dict[str, object]:
    return {
        "name": plan.name,
        "description": plan.description,
        "limits": limits_text(plan.limits),
        "max_keys_per_owner": plan.max_keys_per_owner,
        "rotate_every_ms": plan.rotate_every_ms,
        "suspend_overdue": plan.suspend_overdue,
        "on_limiter_outage": plan.on_limiter_outage,
        "created_at_ms": plan.created_at_ms,
        "updated_at_ms": plan.updated_at_ms,
        "version": plan.version,
    }


def _plan(row: Row[Any]) -> Plan:
    return Plan(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        description=row.description,
        limits=limits_from(row.limits),
        max_keys_per_owner=row.max_keys_per_owner,
        rotate_every_ms=row.rotate_every_ms,
        suspend_overdue=row.suspend_overdue,
        on_limiter_outage=OutagePolicy(row.on_limiter_outage),
        version=row.version,
    )
