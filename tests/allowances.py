"""Quotas and credits in the hands of a test: a store, processes over it, and a database that can go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.kernel.change import Actor, ActorType, Change, Origin
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import Credits, Period, Quota
from keystead.kernel.walls import TenantScope
from keystead.limits.blocks import Blocks
from keystead.limits.model import Allowance, AllowanceRow, Decision
from keystead.limits.periods import span_of
from keystead.limits.ports import AllowanceUnit, AllowanceUnits
from keystead.tenants.model import Workspace
from tests.fakes import WORKSPACE_ID, ManualClock

ORIGIN = Origin(Actor(ActorType.SYSTEM, "test"))


def quota(limit: int, period: Period = Period.MONTH, *, soft: bool = False, name: str = "calls") -> Allowance:
    """Make a quota of the test's workspace; the number is no part of its counter."""
    return allowance(name, Quota(limit, period, soft=soft))


def credits_of(
    balance: int, refill: int = 0, refill_every_ms: int = 0, maximum: int = 0, *, name: str = "credits"
) -> Allowance:
    """Make credits of the test's workspace."""
    return allowance(name, Credits(balance, refill, refill_every_ms, maximum))


def allowance(name: str, kind: Quota | Credits, workspace_id: str = WORKSPACE_ID) -> Allowance:
    """Make an allowance that is counted under its name and period."""
    way = str(kind.period) if isinstance(kind, Quota) else "c"
    return Allowance(name, f"{{{workspace_id}/live/o}}:{name}:{way}", workspace_id, "live", "o", kind)


class Shop:
    """One store and its clock; ``changes`` is everything that was committed."""

    def __init__(self) -> None:
        """Begin empty, but for the workspace."""
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.store.committed.workspaces[WORKSPACE_ID] = Workspace(WORKSPACE_ID, "acme", "Acme", 1, 1)
        self.changes: list[Change] = []
        self.units = MemoryUnits(self.store, clock=self.clock, ids=IdSource(self.clock), on_commit=self.changes.extend)

    @property
    def now_ms(self) -> int:
        """The moment."""
        return self.clock.now_ms()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[AllowanceUnit]:
        """Open a unit without walls."""
        async with self.units.begin(None, ORIGIN) as unit:
            yield unit

    def row(self, of: Allowance) -> AllowanceRow | None:
        """Return what is stored of the period that is now."""
        return self.store.committed.allowances.get((of.counter, span_of(of.kind, self.now_ms).begins_at_ms))

    def amount(self, of: Allowance) -> int:
        """Return what was taken of a quota, or the balance of credits; there must be a row."""
        row = self.row(of)
        assert row is not None
        return row.amount

    def levels(self) -> list[object]:
        """Return the thresholds that were told of, in order."""
        return [change.changes["level"][1] for change in self.changes if "level" in change.changes]


class Line:
    """The way from one process to a store: it can be cut before or after a commit, and held up at ``gate``."""

    def __init__(self, units: AllowanceUnits) -> None:
        """Begin whole and open."""
        self._units = units
        self.away = False
        self.loses_answers = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.begun = 0
        self.read_only = 0

    @asynccontextmanager
    async def begin(self, scope: TenantScope | None, origin: Origin) -> AsyncIterator[AllowanceUnit]:
        """Open a unit, if the line holds."""
        self.begun += 1
        await self._pass()
        async with self._units.begin(scope, origin) as unit:
            yield unit
        if self.loses_answers:
            raise UnavailableError("away", internal="the answer to the commit was lost")

    @asynccontextmanager
    async def read(self, scope: TenantScope | None) -> AsyncIterator[AllowanceUnit]:
        """Open a unit for reading, if the line holds."""
        self.read_only += 1
        await self._pass()
        async with self._units.read(scope) as unit:
            yield unit

    async def _pass(self) -> None:
        self.arrived.set()
        await self.gate.wait()
        if self.away:
            raise UnavailableError("away")


def process(shop: Shop, *, counters_max: int = 100) -> tuple[Blocks, Line]:
    """Start a process over ``shop``."""
    line = Line(shop.units)
    return Blocks(line, shop.clock, counters_max=counters_max), line


async def spend(blocks: Blocks, *of: Allowance, cost: int = 1, peek: bool = False) -> Decision:
    """Take as a verification does: without awaiting where that goes."""
    now = blocks.take_now(of, cost=cost, peek=peek)
    return now or await blocks.take(of, cost=cost, peek=peek)


async def spend_all(blocks: Blocks, *of: Allowance, cost: int = 1, at_most: int = 100_000) -> int:
    """Spend until it is denied; return how often it was admitted."""
    for count in range(at_most):
        if not (await spend(blocks, *of, cost=cost)).admitted:
            return count
    raise AssertionError("never denied")


def remaining(decision: Decision) -> Sequence[int]:
    """Return what is left of each allowance."""
    return [level.remaining for level in decision.levels]
