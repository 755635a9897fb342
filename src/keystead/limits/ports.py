"""What limits need of the world outside."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from keystead.kernel.change import Change, Origin
from keystead.kernel.paging import Page, PageRequest
from keystead.kernel.walls import TenantScope
from keystead.limits.model import Allowance, AllowanceRow, Decision, Metered, Plan, PlanReach, PlanUses


class RateStore(Protocol):
    """Where buckets and windows are counted. All rates of one call are decided in one atomic step."""

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision | None:
        """Decide as ``decide`` does without awaiting; None when that cannot be, and ``decide`` must be asked."""
        ...

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Spend ``cost`` from every rate of ``metered``, or nothing; return their levels in the order of ``rates``.

        A ``peek`` tells what would be, and spends nothing. ``cost`` 0 is admitted unless a limit is 0. Raises
        ``LimiterAwayError`` when there is no answer in time; a cancelled call may have spent.
        """
        ...

    async def reset(self, counters: Sequence[str]) -> None:
        """Forget what was spent of these counters; raise ``LimiterAwayError`` when that is not known to be done."""
        ...


class FallbackRates(RateStore, Protocol):
    """A store of this process's own, for while the one that is shared is away."""

    def clear(self) -> None:
        """Forget every counter: the outage is over."""
        ...


class AllowanceSpender(Protocol):
    """This process's blocks of quotas and credits: what may be spent here without asking anybody."""

    def take_now(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision | None:
        """Take ``cost`` of every allowance, or nothing, without awaiting; None when a block has to be fetched first.

        The levels are in the order of ``allowances``. What was taken is kept unless ``put_back`` is called.
        """
        ...

    async def take(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision:
        """Take as ``take_now`` does, fetching blocks where needed; raise ``UnavailableError`` when one cannot be."""
        ...

    def put_back(self, taken: Decision) -> None:
        """Undo a take that was admitted, once: the call was denied after all.

        It is given that take's own answer, which knows from which blocks it was taken: a period may have ended since.
        """
        ...


class PlanRepository(Protocol):
    """The plans inside the unit's walls. A ``reference`` is an id (``pln_…``) or a name."""

    async def add(self, plan: Plan) -> None:
        """Store a new plan; raise ``AlreadyExistsError`` when its name is taken."""
        ...

    async def get(self, workspace_id: str, reference: str, *, lock: bool = False) -> Plan | None:
        """Return one, or None; ``lock`` keeps others from changing it or referring to it until the unit ends."""
        ...

    async def hold(self, workspace_id: str, reference: str) -> str | None:
        """Return the id of a plan, or None, and keep others from deleting it until the unit ends."""
        ...

    async def save(self, plan: Plan) -> None:
        """Store the new state of a plan that was read with ``lock``.

        Raises ``AlreadyExistsError`` when its new name is taken, after which the unit can only end.
        """
        ...

    async def delete(self, plan: Plan) -> None:
        """Delete a plan that was read with ``lock``, and that nobody refers to."""
        ...

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Plan]:
        """Return one page by name; the position is ``(name,)``."""
        ...

    async def uses(self, plan: Plan, *, now_ms: int) -> PlanUses:
        """Count who refers to ``plan`` in all environments; an entitlement that ended by ``now_ms`` does not."""
        ...

    async def reach(self, plan: Plan, *, now_ms: int, samples: int) -> PlanReach:
        """Say to which keys of the unit's environments ``plan`` applies at ``now_ms``.

        ``samples`` owners are named at most: those of them that come first by id.
        """
        ...


class PlanUnit(Protocol):
    """The part of a unit of work that plans see."""

    @property
    def plans(self) -> PlanRepository:
        """The plans."""
        ...

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits, in the same transaction (P6)."""
        ...


class AllowanceRepository(Protocol):
    """What is stored of quotas and credits, inside the unit's walls."""

    async def get(self, counter: str, begins_at_ms: int, *, lock: bool = False) -> AllowanceRow | None:
        """Return the row of one period, or None; ``lock`` keeps others from changing it until the unit ends."""
        ...

    async def add(self, row: AllowanceRow) -> AllowanceRow:
        """Store a new row and return it, or else the one that another unit stored first; locked either way.

        Raises ``NotFoundError`` when the workspace is gone.
        """
        ...

    async def save(self, row: AllowanceRow) -> None:
        """Store the new state of a row that was read with ``lock``."""
        ...


class AllowanceUnit(Protocol):
    """The part of a unit of work that allowances see."""

    @property
    def allowances(self) -> AllowanceRepository:
        """What is left of quotas and credits."""
        ...

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits, in the same transaction (P6)."""
        ...


class AllowanceUnits(Protocol):
    """Opens units of work. A scope of None is the system's own, without walls."""

    def begin(self, scope: TenantScope | None, origin: Origin) -> AbstractAsyncContextManager[AllowanceUnit]:
        """Open a unit that commits when its block ends and rolls back when it raises."""
        ...

    def read(self, scope: TenantScope | None) -> AbstractAsyncContextManager[AllowanceUnit]:
        """Open a unit for reading alone."""
        ...
