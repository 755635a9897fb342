"""What is left of a key's limits, and how it is given back: the limiter as people see it, beside the calls it decides.

A gauge is a peek that costs nothing, so it tells what a verification would be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from keystead.kernel.bounds import REASON_CHARACTERS, Bounds
from keystead.kernel.change import Action, Change
from keystead.kernel.clock import Clock
from keystead.kernel.errors import NotFoundError, UnavailableError, invalid
from keystead.kernel.limit import Limit, On, OutagePolicy, SlidingWindow, TokenBucket, check_limits
from keystead.keys.principal import Principal
from keystead.limits import allowances
from keystead.limits.compiling import rate_of
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Allowance, Metered, Rate
from keystead.limits.ports import AllowanceUnit, PlanRepository, RateStore
from keystead.tenants.model import Environment
from keystead.verification.cache import limits_of, metered_of
from keystead.verification.limiting import Limited, Limiter, LimitState
from keystead.verification.model import KeySnapshot
from keystead.verification.ports import SnapshotStore

SUBJECT_CHARACTERS = 128
COST_MAX = 1_000_000
LENGTH_MAX_S = 86_400
"""Until when a counter that a caller names must be whole again: it takes room until then."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One limit that applies: where it comes from (``plan``, ``owner`` or ``key``), and where it stands, if known."""

    limit: Limit
    source: str
    state: LimitState | None


@dataclass(frozen=True, slots=True)
class Gauges:
    """The limits of one key; ``degraded`` when buckets and windows are not known."""

    gauges: tuple[Gauge, ...]
    plan_id: str
    plan_name: str
    degraded: bool


@dataclass(frozen=True, slots=True)
class Check:
    """Limits on a subject that is no key."""

    subject: str
    environment: Environment
    limits: tuple[Limit, ...]
    cost: int = 1
    peek: bool = False
    on_outage: OutagePolicy = OutagePolicy.DENY

    def demand(self) -> None:
        """Raise ``InvalidRequestError`` naming every field that breaks a bound."""
        bounds = Bounds()
        bounds.text("subject", self.subject, at_least=1, at_most=SUBJECT_CHARACTERS)
        if not self.limits:
            bounds.add("limits", "must have at least one entry")
        check_limits(bounds, "limits", self.limits)
        for index, limit in enumerate(self.limits):
            if not isinstance(limit.kind, TokenBucket | SlidingWindow):
                bounds.add(f"limits[{index}]", "must be a token_bucket or a sliding_window")
            elif isinstance(limit.kind, TokenBucket) and 0 < limit.kind.burst < self.cost:
                bounds.add(f"limits[{index}].token_bucket.burst", "must not be below cost, or no such call ever passes")
        bounds.raise_if_any()
        for index, rate in enumerate(self.rates("")):
            if rate.window_s > LENGTH_MAX_S:
                bounds.add(f"limits[{index}]", "must be whole again within a day of being spent")
        if self.cost > COST_MAX:
            bounds.add("cost", f"must be at most {COST_MAX}")
        bounds.raise_if_any()

    def rates(self, lead: str) -> list[Rate]:
        """Prepare the limits, counted under names that begin with ``lead``."""
        return [
            rate_of(limit.name, limit.kind, lead)
            for limit in self.limits
            if isinstance(limit.kind, TokenBucket | SlidingWindow)
        ]


class GaugeUnit(AllowanceUnit, Protocol):
    """The part of a unit of work that gauges see."""

    @property
    def plans(self) -> PlanRepository:
        """The plans."""
        ...


class LimitGauges:
    """Shows, resets and uses counters."""

    def __init__(
        self,
        snapshots: SnapshotStore,
        limiter: Limiter,
        rates: RateStore,
        clock: Clock,
        *,
        checks: Limiter,
        changed: Callable[[Sequence[Allowance]], None],
    ) -> None:
        """Find keys in ``snapshots``, ask ``limiter``, and make ``rates`` forget.

        ``checks`` decides what is about no key: callers name those counters, and must not crowd out those of keys.
        ``changed`` is told of allowances that are not as this process knew them.
        """
        self._snapshots = snapshots
        self._limiter = limiter
        self._checks = checks
        self._rates = rates
        self._clock = clock
        self._changed = changed

    async def gauges(self, unit: GaugeUnit, caller: Principal, key_id: str) -> Gauges:
        """Say where the limits of a key stand; raise ``NotFoundError`` when the caller may not know of it."""
        key = await self._key(caller, key_id)
        limits = limits_of(key)
        metered = metered_of(key)
        limited = None if metered is None else await self._limiter.decide(metered, cost=0, peek=True)
        plan = await unit.plans.get(key.workspace_id, key.plan_id) if key.plan_id else None
        degraded = limited is not None and limited.degraded
        states = {} if limited is None else {state.name: state for state in limited.states}
        if metered is not None and degraded:
            states = {name: state for name, state in states.items() if name not in _names(metered.rates)}
        return Gauges(
            tuple([Gauge(limit, _source(key, limit.name), states.get(limit.name)) for limit in limits]),
            "" if plan is None else plan.id,
            "" if plan is None else plan.name,
            degraded,
        )

    async def reset(
        self, unit: AllowanceUnit, caller: Principal, key_id: str, *, names: Sequence[str], reason: str
    ) -> list[str]:
        """Forget what was spent of the named limits, or of all that are counted on the key itself; return their names.

        In Redis and in this process at once; a quota's blocks that processes hold may still be spent.
        """
        bounds = Bounds()
        bounds.text("reason", reason, at_most=REASON_CHARACTERS)
        bounds.raise_if_any()
        key = await self._key(caller, key_id)
        limits = limits_of(key)
        known = {limit.name for limit in limits}
        if unknown := sorted(set(names) - known):
            raise invalid("names", f"no limit of this key is named {', '.join(unknown)[:200]}")
        chosen = set(names) or {limit.name for limit in limits if limit.on is On.KEY}
        metered = metered_of(key) or Metered((), (), order=())
        reset = [allowance for allowance in metered.allowances if allowance.name in chosen]
        for allowance in sorted(reset, key=lambda it: it.counter):  # in one order, so that no two units lock crosswise
            await allowances.reset(unit, allowance, self._clock.now_ms())
        self._changed(reset)
        told = [limit.name for limit in limits if limit.name in chosen]
        if told:
            unit.record(
                Change(
                    key.workspace_id,
                    Action.LIMITS_RESET,
                    key.key_id,
                    touches=(),
                    environment=key.environment,
                    owner_id=key.owner_id,
                    changes={"names": (None, told)},
                    reason=reason,
                )
            )
        await self._forget([rate.counter for rate in metered.rates if rate.name in chosen])
        return told

    async def adjust(
        self, unit: AllowanceUnit, caller: Principal, key_id: str, *, name: str, delta: int, reason: str
    ) -> int:
        """Add ``delta`` to the credits called ``name`` that a key spends, and return the balance."""
        key = await self._key(caller, key_id)
        metered = metered_of(key)
        found = None if metered is None else _allowance_named(metered, name)
        if found is None:
            raise invalid("name", "must name a limit of kind credits that applies to the key")
        now_ms = self._clock.now_ms()
        balance = await allowances.adjust(unit, found, delta, now_ms, target=key.key_id, reason=reason)
        self._changed([found])
        return balance

    async def check(self, caller: Principal, asked: Check) -> Limited:
        """Decide limits on a subject of the platform's own; nothing is recorded in usage."""
        asked.demand()
        caller.demand_environment(asked.environment)
        # An owner's id cannot begin with "!", so no subject meets the counters of an owner's keys.
        lead = f"{{{caller.workspace_id}/{asked.environment}/!{asked.subject}}}"
        rates = asked.rates(lead)
        metered = Metered(rates, (), order=range(len(rates)), on_outage=asked.on_outage)
        return await self._checks.decide(metered, cost=asked.cost, peek=asked.peek)

    async def _key(self, caller: Principal, key_id: str) -> KeySnapshot:
        key = await self._snapshots.by_key(key_id)
        hidden = key is None or key.workspace_id != caller.workspace_id
        if key is None or hidden or caller.environment not in {Environment.ALL, key.environment}:
            raise NotFoundError("key", key_id)
        return key

    async def _forget(self, counters: Sequence[str]) -> None:
        if not counters:
            return
        try:
            await self._rates.reset(counters)
        except LimiterAwayError as away:
            raise UnavailableError("The limiter's store is away; nothing was reset.", internal=str(away)) from away


def _source(key: KeySnapshot, name: str) -> str:
    if name in {limit.name for limit in key.key_limits}:
        return "key"
    return "owner" if name in {limit.name for limit in key.owner_limits} else "plan"


def _names(rates: Sequence[Rate]) -> set[str]:
    return {rate.name for rate in rates}


def _allowance_named(metered: Metered, name: str) -> Allowance | None:
    return next((allowance for allowance in metered.allowances if allowance.name == name), None)
