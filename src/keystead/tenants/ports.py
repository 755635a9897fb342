"""What the tenants' services need of the world outside."""

from __future__ import annotations

from typing import Protocol

from keystead.kernel.change import Change
from keystead.kernel.paging import Page, PageRequest
from keystead.tenants.model import Owner, Workspace


class WorkspaceRepository(Protocol):
    """The workspaces that a unit of work may see: all of them for the system, else the scope's own."""

    async def add(self, workspace: Workspace) -> None:
        """Store a new workspace; raise ``AlreadyExistsError`` when the brand is taken."""
        ...

    async def get(self, workspace_id: str, *, lock: bool = False) -> Workspace | None:
        """Return one, or None; ``lock`` keeps others from changing it until the unit ends."""
        ...

    async def by_brand(self, brand: str) -> Workspace | None:
        """Return the workspace with ``brand``, or None."""
        ...

    async def save(self, workspace: Workspace) -> None:
        """Store the new state of a workspace that was read with ``lock``."""
        ...

    async def delete(self, workspace_id: str) -> None:
        """Delete a workspace with its owners, keys and secrets; its events stay."""
        ...

    async def page(self, request: PageRequest) -> Page[Workspace]:
        """Return one page, the newest first; the position is ``(id,)``."""
        ...


class OwnerRepository(Protocol):
    """The owners of the unit's workspace."""

    async def add(self, owner: Owner) -> None:
        """Store a new owner; raise ``AlreadyExistsError`` when the id is taken."""
        ...

    async def get(self, owner_id: str, *, lock: bool = False) -> Owner | None:
        """Return one, or None; ``lock`` keeps others from changing it until the unit ends."""
        ...

    async def save(self, owner: Owner) -> None:
        """Store the new state of an owner that was read with ``lock``."""
        ...

    async def delete(self, owner_id: str) -> None:
        """Delete an owner; keys of it must have been detached (revoked) before and keep its id."""
        ...

    async def page(self, request: PageRequest, *, query: str = "", suspended: bool | None = None) -> Page[Owner]:
        """Return one page by time of creation; the position is ``(created_at_ms, owner_id)``, zero-padded to 15 digits.

        ``query`` is looked for in id and name, whatever its case, every character taken literally.
        """
        ...


class PlanReferences(Protocol):
    """The plans, as far as tenants refer to them."""

    async def hold(self, workspace_id: str, reference: str) -> str | None:
        """Return the id of a plan, given by id or name, or None; keep others from deleting it until the unit ends."""
        ...


class TenantUnit(Protocol):
    """The part of a unit of work that tenants' services see."""

    @property
    def workspaces(self) -> WorkspaceRepository:
        """The workspaces."""
        ...

    @property
    def owners(self) -> OwnerRepository:
        """The owners."""
        ...

    @property
    def plans(self) -> PlanReferences:
        """The plans."""
        ...

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits, in the same transaction (P6)."""
        ...
