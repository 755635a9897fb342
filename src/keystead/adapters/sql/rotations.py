"""Secrets that are too old, in SQL: what was done about them, and how they are found.

They are found by a walk over the current secrets, the oldest first, by an index of these alone. It stops at the age
that the strictest plan of the deployment allows; where no plan says anything it finds nothing at once.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.plans import owners_plan
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.turns import begin_turn
from keystead.keys.model import VERIFIED_KINDS, KeyKind, KeyState
from keystead.keys.overdue import GRACE_MIN_MS, GRACE_PART, OverdueKey, Place, RotationNotice, Walked

TURN = "rotations"

_NOTICES = schema.rotation_notices
_SECRETS = schema.secrets
_KEYS = schema.keys
_OWNERS = schema.owners
_PLANS = schema.plans
_WORKSPACES = schema.workspaces
_NONE: ColumnElement[str] = literal_column("''")


class SqlRotations:
    """The ``RotationRepository`` of one unit; the lock of the secret's key stands for a lock of its own."""

    def __init__(self, session: Session) -> None:
        """Work in ``session``."""
        self._session = session

    async def notice(self, secret_id: str) -> RotationNotice | None:
        """Return what was done about a secret; None when nothing was."""
        rows = await self._session.read(select(_NOTICES).where(_NOTICES.c.secret_id == secret_id))
        return RotationNotice(**rows[0]._asdict()) if rows else None

    async def add(self, notice: RotationNotice) -> None:
        """Store the first thing that is done about a secret."""
        await self._session.write(insert(_NOTICES).values(asdict(notice)))

    async def save(self, notice: RotationNotice) -> None:
        """Store what else was done."""
        change = update(_NOTICES).where(_NOTICES.c.secret_id == notice.secret_id)
        await self._session.write(change.values(told_at_ms=notice.told_at_ms, suspended_at_ms=notice.suspended_at_ms))


class SqlOverdueKeys:
    """The ``OverdueKeys`` of one database."""

    def __init__(self, database: Database) -> None:
        """Look in ``database``."""
        self._database = database

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn is due, and note that it is begun."""
        return await begin_turn(self._database, TURN, now_ms=now_ms, every_ms=every_ms)

    async def walk(self, *, now_ms: int, after: Place | None, at_most: int) -> Walked:
        """Look at the next ``at_most`` current secrets past ``after``, the oldest first; find those that are due."""
        session = Session(self._database, read_only=False)
        strictest = select(func.min(_PLANS.c.rotate_every_ms)).where(_PLANS.c.rotate_every_ms > 0)
        every_ms = (await session.read(strictest))[0][0]
        if every_ms is None:
            return Walked((), None)
        rows = await session.read(_walk(_next(now_ms - every_ms, after, at_most), now_ms))
        found = tuple(OverdueKey(row.key_id, row.workspace_id) for row in rows if row.due)
        return Walked(found, (rows[-1].created_at_ms, rows[-1].id) if len(rows) == at_most else None)


def _next(made_to_ms: int, after: Place | None, at_most: int) -> Subquery:
    """Choose the next current secrets that were made up to ``made_to_ms``.

    It stands alone, so that no planner ever joins all of them to find the first.
    """
    place = (_SECRETS.c.created_at_ms, _SECRETS.c.id)
    chosen = select(*place, _SECRETS.c.key_id).where(
        _SECRETS.c.retires_at_ms.is_(None), _SECRETS.c.created_at_ms <= made_to_ms
    )
    if after is not None:
        chosen = chosen.where(tuple_(*place) > tuple_(literal(after[0]), literal(after[1])))
    return chosen.order_by(*place).limit(at_most).subquery("next")


def _walk(secrets: Subquery, now_ms: int) -> Select[Any]:
    """Say of each of ``secrets`` what ``keys.overdue.due`` does: whether something is due, and of which key."""
    owner = and_(_OWNERS.c.workspace_id == _KEYS.c.workspace_id, _OWNERS.c.owner_id == _KEYS.c.owner_id)
    plan = and_(_PLANS.c.workspace_id == _KEYS.c.workspace_id, _PLANS.c.id == _applying_plan(now_ms))
    due = and_(
        _KEYS.c.state == KeyState.ACTIVE,
        or_(_KEYS.c.expires_at_ms.is_(None), _KEYS.c.expires_at_ms > now_ms),
        _KEYS.c.kind.in_(sorted(VERIFIED_KINDS)),
        _PLANS.c.rotate_every_ms > 0,
        secrets.c.created_at_ms <= now_ms - _PLANS.c.rotate_every_ms,
        or_(_NOTICES.c.secret_id.is_(None), _unsuspended(now_ms)),
    )
    return (
        select(*secrets.c, _KEYS.c.workspace_id, due.label("due"))
        .join_from(secrets, _KEYS, _KEYS.c.id == secrets.c.key_id)
        .join(_WORKSPACES, _WORKSPACES.c.id == _KEYS.c.workspace_id)
        .outerjoin(_OWNERS, owner)
        .outerjoin(_PLANS, plan)
        .outerjoin(_NOTICES, _NOTICES.c.secret_id == secrets.c.id)
        .order_by(secrets.c.created_at_ms, secrets.c.id)
    )


def _unsuspended(now_ms: int) -> ColumnElement[bool]:
    tenth = _PLANS.c.rotate_every_ms / GRACE_PART
    grace_ms = case((tenth > GRACE_MIN_MS, tenth), else_=GRACE_MIN_MS)
    return and_(
        _PLANS.c.suspend_overdue, _NOTICES.c.suspended_at_ms.is_(None), _NOTICES.c.told_at_ms <= now_ms - grace_ms
    )


def _applying_plan(now_ms: int) -> ColumnElement[str]:
    """Return the plan that applies to a key, as ``keys.tiers.plan_of`` does."""
    own, owners = _KEYS.c.plan_id, func.coalesce(owners_plan(now_ms), _NONE)
    return case(
        (own != _NONE, own),
        (owners != _NONE, owners),
        (_KEYS.c.kind == KeyKind.CUSTOMER, _WORKSPACES.c.default_plan_id),
        else_=_NONE,
    )
