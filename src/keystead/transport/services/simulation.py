"""The handler of ``SimulatePlan``: it reads the calls of a time, oldest first, and replays them through limits.

It stands outside the units of work: a plan is looked up in one of its own, and the calls are read page by page, so
nothing is held while a million of them are replayed. Other calls are answered between two pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from keystead.gen.v1 import plans_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.clock import Clock
from keystead.kernel.errors import NotFoundError, UnavailableError, invalid
from keystead.kernel.limit import Limit, check_limits
from keystead.kernel.paging import PAGE_SIZE_MAX, PageRequest
from keystead.keys.ports import Units
from keystead.keys.principal import Principal
from keystead.limits.simulation import PastCall, Simulation
from keystead.transport.services import conversions, tiers
from keystead.usage.model import CODE_NUMBERS, Call, UsageFilter
from keystead.usage.ports import UsageStore

CALLS_MAX = 1_000_000
KEYS_SHOWN = 20
WAITING_MAX = 4
_RETRY_AFTER_MS = 10_000
_DAY_MS = 86_400_000
_SPAN_DEFAULT_MS = 7 * _DAY_MS
_SPAN_MAX_MS = 400 * _DAY_MS
_REACHED_LIMITS = frozenset(CODE_NUMBERS[code] for code in ("VALID", "RATE_LIMITED", "QUOTA_EXCEEDED"))


class SimulationHandlers:
    """Serves what of ``keystead.v1.PlanService`` is about calls of the past; one simulation at a time, few waiting."""

    def __init__(self, store: UsageStore, units: Units, clock: Clock, *, calls_max: int = CALLS_MAX) -> None:
        """Ask ``store`` for calls, at most ``calls_max``, and ``units`` for plans."""
        self._waiting = 0
        self._store = store
        self._units = units
        self._clock = clock
        self._calls_max = calls_max
        self._turn = asyncio.Lock()

    async def simulate_plan(
        self, caller: Principal, request: plans_pb2.SimulatePlanRequest
    ) -> plans_pb2.SimulatePlanResponse:
        """Say what limits would have denied."""
        caller.demand("read:usage")
        wanted = self._wanted(request)
        limits = await self._limits(caller, request)
        simulation = Simulation(limits, caller.workspace_id)
        async with self._one_at_a_time():
            truncated = await self._replay(simulation, caller, wanted)
        return plans_pb2.SimulatePlanResponse(
            calls=simulation.calls,
            denied=simulation.denied,
            denied_by_limit=simulation.denied_by_limit,
            keys=[
                plans_pb2.SimulatedKey(key_id=key.key_id, owner_id=key.owner_id, calls=key.calls, denied=key.denied)
                for key in simulation.most_denied(KEYS_SHOWN)
            ],
            truncated=truncated,
        )

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_MAX:
            raise UnavailableError("Other simulations are under way; try again later.", retry_after_ms=_RETRY_AFTER_MS)
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _replay(self, simulation: Simulation, caller: Principal, wanted: UsageFilter) -> bool:
        """Replay the calls; return whether there were more than are looked at."""
        walls = conversions.demand_walls(caller)
        request = PageRequest(min(PAGE_SIZE_MAX, self._calls_max), ascending=True)
        left = self._calls_max
        while True:
            page = await self._store.calls(walls, wanted, request)
            await asyncio.sleep(0)  # others are answered between reading a page and replaying it, and after
            simulation.replay(_past(call) for call in page.items if call.code in _REACHED_LIMITS)
            left -= len(page.items)
            if page.next_position is None or left <= 0:
                return page.next_position is not None
            request = replace(request, size=min(request.size, left), position=page.next_position)
            # A store may begin to look at the filter's beginning rather than at the position.
            wanted = replace(wanted, from_ms=page.items[-1].at_ms)
            await asyncio.sleep(0)

    async def _limits(self, caller: Principal, request: plans_pb2.SimulatePlanRequest) -> tuple[Limit, ...]:
        if bool(request.plan_id) == bool(request.limits):
            raise invalid("plan_id", "must be given, or else limits, and not both")
        if request.limits:
            limits = tiers.limits_of("limits", request.limits)
            bounds = Bounds()
            check_limits(bounds, "limits", limits)
            bounds.raise_if_any()
            return limits
        reference = tiers.demand_plan_reference("plan_id", request.plan_id)
        async with self._units.read(caller.scope) as unit:
            plan = await unit.plans.get(caller.workspace_id, reference)
        if plan is None:
            raise NotFoundError("plan", reference)
        return plan.limits

    def _wanted(self, request: plans_pb2.SimulatePlanRequest) -> UsageFilter:
        to_ms = conversions.moment_ms("to", request, request.to)
        to_ms = self._clock.now_ms() if to_ms is None else to_ms
        from_ms = conversions.moment_ms("from", request, getattr(request, "from"))
        from_ms = to_ms - _SPAN_DEFAULT_MS if from_ms is None else from_ms
        if from_ms >= to_ms:
            raise invalid("from", "must be before `to`")
        if to_ms - from_ms > _SPAN_MAX_MS:
            raise invalid("from", f"must be at most {_SPAN_MAX_MS // _DAY_MS} days before `to`")
        return UsageFilter(
            from_ms,
            to_ms,
            key_id=conversions.demand_id("key_id", request.key_id, "key") if request.key_id else "",
            owner_id=conversions.demand_owner_id(request.owner_id) if request.owner_id else "",
        )


def _past(call: Call) -> PastCall:
    subject = call.subject
    return PastCall(call.at_ms, subject.environment, subject.owner_id, subject.key_id, call.cost)
