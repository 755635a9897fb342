"""Owners in SQL."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, select, update

from keystead.adapters.limits import limits_from, limits_text
from keystead.adapters.sql import schema
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.texts import fold, owner_position, searched_in_owner
from keystead.adapters.walls import Walls
from keystead.events.model import canonical
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError
from keystead.tenants.model import Owner

_TABLE = schema.owners


class SqlOwners:
    """The ``OwnerRepository`` of one unit; looking for an owner needs walls, for ids are unique only inside them."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def add(self, owner: Owner) -> None:
        """Store a new owner.

        Raises ``AlreadyExistsError`` when the id is taken, ``NotFoundError`` when the workspace is gone.
        """
        self._walls.demand(owner.workspace_id)
        insert = self._session.database.insert_new(_TABLE)
        insert = insert.values(workspace_id=owner.workspace_id, owner_id=owner.owner_id, **_values(owner))
        with demanding_workspace(owner.workspace_id):
            added = await self._session.write(insert)
        if not added:
            raise AlreadyExistsError("owner", owner.owner_id)

    async def get(self, owner_id: str, *, lock: bool = False) -> Owner | None:
        """Return one, or None."""
        wanted = select(_TABLE).where(self._inside(), _TABLE.c.owner_id == owner_id)
        rows = await (self._session.lock(wanted.with_for_update()) if lock else self._session.read(wanted))
        return _owner(rows[0]) if rows else None

    async def save(self, owner: Owner) -> None:
        """Store the new state; raise ``EtagMismatchError`` when the stored version is not the one before it."""
        self._walls.demand(owner.workspace_id)
        change = update(_TABLE).where(
            _TABLE.c.workspace_id == owner.workspace_id,
            _TABLE.c.owner_id == owner.owner_id,
            _TABLE.c.version == owner.version - 1,
        )
        if not await self._session.write(change.values(**_values(owner))):
            raise EtagMismatchError("owner", owner.owner_id)

    async def delete(self, owner_id: str) -> None:
        """Delete an owner; keys keep its id."""
        await self._session.write(delete(_TABLE).where(self._inside(), _TABLE.c.owner_id == owner_id))

    async def page(self, request: PageRequest, *, query: str = "", suspended: bool | None = None) -> Page[Owner]:
        """Return one page by time of creation; the position is ``(created_at_ms, owner_id)``."""
        statement = select(_TABLE).where(self._inside())
        if query:
            statement = statement.where(_TABLE.c.search.contains(fold(query), autoescape=True))
        if suspended is not None:
            statement = statement.where(_TABLE.c.suspended == suspended)
        position = (int(request.position[0]), request.position[1]) if request.position else ()
        rows = await self._session.read(
            after(statement, request, (_TABLE.c.created_at_ms, _TABLE.c.owner_id), position)
        )
        return cut([_owner(row) for row in rows], request.size, owner_position)

    def _inside(self) -> ColumnElement[bool]:
        return _TABLE.c.workspace_id == self._walls.demand_workspace()


def _values(owner: Owner) -> dict[str, object]:
    return {
        "name": owner.name,
        "metadata": canonical(dict(owner.metadata)),
        "suspended": owner.suspended,
        "search": searched_in_owner(owner),
        "created_at_ms": owner.created_at_ms,
        "updated_at_ms": owner.updated_at_ms,
        "version": owner.version,
        "plan_id": owner.plan_id,
        "limits": limits_text(owner.limits),
        "entitled_plan_id": owner.entitled_plan_id,
        "entitled_until_ms": owner.entitled_until_ms,
    }


def _owner(row: Row[Any]) -> Owner:
    return Owner(
        workspace_id=row.workspace_id,
        owner_id=row.owner_id,
        name=row.name,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        metadata=json.loads(row.metadata),
        suspended=row.suspended,
        version=row.version,
        plan_id=row.plan_id,
        limits=limits_from(row.limits),
        entitled_plan_id=row.entitled_plan_id,
        entitled_until_ms=row.entitled_until_ms,
    )
