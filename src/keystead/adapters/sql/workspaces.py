"""Workspaces in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError
from keystead.tenants.model import Workspace

_TABLE = schema.workspaces


class SqlWorkspaces:
    """The ``WorkspaceRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def add(self, workspace: Workspace) -> None:
        """Store a new workspace; raise ``AlreadyExistsError`` when the brand is taken."""
        self._walls.demand(workspace.id)
        added = await self._session.write(
            self._session.database.insert_new(_TABLE).values(
                id=workspace.id, brand=workspace.brand, **_values(workspace)
            )
        )
        if not added:
            raise AlreadyExistsError("workspace", workspace.brand)

    async def get(self, workspace_id: str, *, lock: bool = False) -> Workspace | None:
        """Return one, or None."""
        wanted = self._inside().where(_TABLE.c.id == workspace_id)
        rows = await (self._session.lock(wanted.with_for_update()) if lock else self._session.read(wanted))
        return _workspace(rows[0]) if rows else None

    async def by_brand(self, brand: str) -> Workspace | None:
        """Return the workspace with ``brand``, or None."""
        rows = await self._session.read(self._inside().where(_TABLE.c.brand == brand))
        return _workspace(rows[0]) if rows else None

    async def save(self, workspace: Workspace) -> None:
        """Store the new state; raise ``EtagMismatchError`` when the stored version is not the one before it."""
        self._walls.demand(workspace.id)
        change = update(_TABLE).where(_TABLE.c.id == workspace.id, _TABLE.c.version == workspace.version - 1)
        if not await self._session.write(change.values(**_values(workspace))):
            raise EtagMismatchError("workspace", workspace.id)

    async def delete(self, workspace_id: str) -> None:
        """Delete a workspace and, by the foreign keys, all that is in it."""
        if self._walls.admit(workspace_id):
            await self._session.write(delete(_TABLE).where(_TABLE.c.id == workspace_id))

    async def page(self, request: PageRequest) -> Page[Workspace]:
        """Return one page, the newest first."""
        rows = await self._session.read(after(self._inside(), request, (_TABLE.c.id,), request.position))
        return cut([_workspace(row) for row in rows], request.size, lambda workspace: (workspace.id,))

    def _inside(self) -> Select[Any]:
        statement = select(_TABLE)
        if self._walls.workspace_id is None:
            return statement
        return statement.where(_TABLE.c.id == self._walls.workspace_id)


def _values(workspace: Workspace) -> dict[str, object]:
    return {
        "name": workspace.name,
        "created_at_ms": workspace.created_at_ms,
        "updated_at_ms": workspace.updated_at_ms,
        "version": workspace.version,
        "default_plan_id": workspace.default_plan_id,
        "audit_retention_days": workspace.audit_retention_days,
    }


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(
        id=row.id,
        brand=row.brand,
        name=row.name,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        version=row.version,
        default_plan_id=row.default_plan_id,
        audit_retention_days=row.audit_retention_days,
    )
