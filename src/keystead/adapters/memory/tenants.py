"""Workspaces and owners in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from keystead.adapters.memory.store import Staging
from keystead.adapters.texts import fold, owner_position, searched_in_owner
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.tenants.model import Owner, Workspace

Item = TypeVar("Item")


def page_of(items: list[Item], request: PageRequest, position: Callable[[Item], tuple[str, ...]]) -> Page[Item]:
    """Sort ``items`` by their position and return the page after the one that was asked for."""
    ordered = sorted(items, key=position, reverse=not request.ascending)
    if request.position:
        last = request.position
        ordered = [item for item in ordered if (position(item) > last if request.ascending else position(item) < last)]
    return cut(ordered[: request.size + 1], request.size, position)


class MemoryWorkspaces:
    """The ``WorkspaceRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def add(self, workspace: Workspace) -> None:
        """Store a new workspace."""
        self._walls.demand(workspace.id)
        state = await self._staging.begin()
        brands = {stored.brand for stored in state.workspaces.values()}
        if workspace.id in state.workspaces or workspace.brand in brands:
            raise AlreadyExistsError("workspace", workspace.brand)
        state.workspaces[workspace.id] = workspace

    async def get(self, workspace_id: str, *, lock: bool = False) -> Workspace | None:
        """Return one, or None."""
        if lock:
            await self._staging.begin()
        return self._staging.state.workspaces.get(workspace_id) if self._walls.admit(workspace_id) else None

    async def by_brand(self, brand: str) -> Workspace | None:
        """Return the workspace with ``brand``, or None."""
        return next((workspace for workspace in self._seen() if workspace.brand == brand), None)

    async def save(self, workspace: Workspace) -> None:
        """Store the new state."""
        self._walls.demand(workspace.id)
        state = await self._staging.begin()
        stored = state.workspaces.get(workspace.id)
        if stored is None or stored.version != workspace.version - 1:
            raise EtagMismatchError("workspace", workspace.id)
        state.workspaces[workspace.id] = workspace

    async def delete(self, workspace_id: str) -> None:
        """Delete a workspace with all that is in it; its events stay."""
        state = await self._staging.begin()
        if not self._walls.admit(workspace_id) or state.workspaces.pop(workspace_id, None) is None:
            return
        state.owners = {name: owner for name, owner in state.owners.items() if name[0] != workspace_id}
        state.keys = {key.id: key for key in state.keys.values() if key.workspace_id != workspace_id}
        state.key_of_prefix = {prefix: key for prefix, key in state.key_of_prefix.items() if key in state.keys}
        state.plans = {plan.id: plan for plan in state.plans.values() if plan.workspace_id != workspace_id}
        state.replies = {slot: reply for slot, reply in state.replies.items() if slot.workspace_id != workspace_id}
        state.allowances = {name: it for name, it in state.allowances.items() if it.workspace_id != workspace_id}
        state.sinks = {name: it for name, it in state.sinks.items() if it.sink.workspace_id != workspace_id}

    async def page(self, request: PageRequest) -> Page[Workspace]:
        """Return one page, the newest first."""
        return page_of(self._seen(), request, lambda workspace: (workspace.id,))

    def _seen(self) -> list[Workspace]:
        return [workspace for workspace in self._staging.state.workspaces.values() if self._walls.admit(workspace.id)]


class MemoryOwners:
    """The ``OwnerRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def add(self, owner: Owner) -> None:
        """Store a new owner."""
        self._walls.demand(owner.workspace_id)
        state = await self._staging.begin()
        if owner.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", owner.workspace_id)
        if (owner.workspace_id, owner.owner_id) in state.owners:
            raise AlreadyExistsError("owner", owner.owner_id)
        state.owners[owner.workspace_id, owner.owner_id] = owner

    async def get(self, owner_id: str, *, lock: bool = False) -> Owner | None:
        """Return one, or None."""
        workspace_id = self._walls.demand_workspace()
        if lock:
            await self._staging.begin()
        return self._staging.state.owners.get((workspace_id, owner_id))

    async def save(self, owner: Owner) -> None:
        """Store the new state."""
        self._walls.demand(owner.workspace_id)
        state = await self._staging.begin()
        stored = state.owners.get((owner.workspace_id, owner.owner_id))
        if stored is None or stored.version != owner.version - 1:
            raise EtagMismatchError("owner", owner.owner_id)
        state.owners[owner.workspace_id, owner.owner_id] = owner

    async def delete(self, owner_id: str) -> None:
        """Delete an owner; keys keep its id."""
        workspace_id = self._walls.demand_workspace()
        (await self._staging.begin()).owners.pop((workspace_id, owner_id), None)

    async def page(self, request: PageRequest, *, query: str = "", suspended: bool | None = None) -> Page[Owner]:
        """Return one page by time of creation."""
        workspace_id = self._walls.demand_workspace()
        found = [
            owner
            for owner in self._staging.state.owners.values()
            if owner.workspace_id == workspace_id
            and fold(query) in searched_in_owner(owner)
            and suspended in {None, owner.suspended}
        ]
        return page_of(found, request, owner_position)
