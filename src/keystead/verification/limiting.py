"""Limits in the way of a verification: everything that applies is spent, or nothing is.

Allowances come first, from blocks that this process holds; then the rates decide in one step; if they deny, what was
taken is put back. While the store of rates is away, this module and no adapter does what the plan chose (P10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from keystead.kernel.limit import OutagePolicy
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import NEVER_US, Decision, Level, Metered
from keystead.limits.ports import AllowanceSpender, FallbackRates, RateStore

AWAY_WAIT_US = 1_000_000
"""How long a call that was denied for the store's absence is told to wait."""
_LONGEST = float("inf")


class LimitState(NamedTuple):
    """Where one limit stands after the call; ``window_s`` is its length in seconds rounded up, 0 for none."""

    name: str
    limit: int
    window_s: int
    remaining: int
    reset_after_us: int
    wait_us: int


class Limited:
    """What the limits said. ``states`` leaves out those that nobody knows; ``binding`` is empty without any.

    ``retry_after_us`` is 0 when the call was admitted and ``NEVER_US`` when waiting does not help. ``by_rate`` says
    whether the binding limit is a bucket or a window, rather than a quota or credits.
    """

    __slots__ = ("admitted", "binding", "by_rate", "degraded", "retry_after_us", "states", "taken")

    def __init__(
        self, states: tuple[LimitState, ...], binding: str = "", *, by_rate: bool = True, degraded: bool = False
    ) -> None:
        """Admit."""
        self.admitted = True
        self.states = states
        self.binding = binding
        self.by_rate = by_rate
        self.degraded = degraded
        self.retry_after_us = 0
        self.taken: Decision | None = None
        """What was taken of allowances, for as long as it can be put back."""


class LimitMeasures:
    """What this process's limiter counted since it started."""

    __slots__ = ("admitted", "allowed_away", "denied", "denied_away", "local_away")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.admitted = 0
        """Calls that their limits admitted."""
        self.denied = 0
        """Calls that a limit denied."""
        self.denied_away = 0
        """Calls denied because the store of rates was away (``deny``)."""
        self.allowed_away = 0
        """Calls admitted although it was away (``allow``)."""
        self.local_away = 0
        """Calls that this process counted for itself while it was away (``local``)."""


class Limiter:
    """Decides all limits of one call."""

    def __init__(
        self,
        rates: RateStore,
        allowances: AllowanceSpender,
        *,
        local: FallbackRates,
        share: Callable[[Metered], Metered],
        measures: LimitMeasures | None = None,
    ) -> None:
        """Ask ``rates`` and ``allowances``; while ``rates`` is away, ``local`` may count this process's ``share``.

        ``local`` is cleared when ``rates`` is back, so that it begins empty in every outage.
        """
        self._rates = rates
        self._allowances = allowances
        self._local = local
        self._share = share
        self._counts_here = False
        self.measures = measures or LimitMeasures()

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Limited | None:
        """Decide without awaiting; None when something must be asked, and ``decide`` is the way. Nothing is spent then.

        A ``peek`` spends nothing.
        """
        taken = None
        if metered.allowances:
            taken = self._allowances.take_now(metered.allowances, cost=cost, peek=peek)
            if taken is None:
                return None
        decided = None
        if metered.rates:
            only_looking = peek or (taken is not None and not taken.admitted)
            try:
                decided = self._rates.decide_now(metered, cost=cost, peek=only_looking)
                if decided is not None:
                    self._is_back()
            except LimiterAwayError:
                decided = self._away(metered, cost=cost, peek=only_looking)
            if decided is None:
                if taken is not None and not only_looking:
                    self._allowances.put_back(taken)
                return None
        return self._concluded(metered, decided, taken, cost=cost, peek=peek)

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Limited:
        """Decide; raise ``UnavailableError`` when the database has to lend a block of an allowance and cannot."""
        taken = None
        if metered.allowances:
            taken = await self._allowances.take(metered.allowances, cost=cost, peek=peek)
        decided = None
        if metered.rates:
            only_looking = peek or (taken is not None and not taken.admitted)
            try:
                decided = await self._rates.decide(metered, cost=cost, peek=only_looking)
                self._is_back()
            except LimiterAwayError:
                decided = self._away(metered, cost=cost, peek=only_looking)
            except BaseException:  # the caller left: what it took of its allowances is not lost with it
                if taken is not None and not only_looking:
                    self._allowances.put_back(taken)
                raise
        return self._concluded(metered, decided, taken, cost=cost, peek=peek)

    def put_back(self, limited: Limited) -> None:
        """Put back what an admitted call took of its allowances, once: it is not answered after all.

        What it spent of rates stays spent.
        """
        if limited.taken is not None:
            self._allowances.put_back(limited.taken)
            limited.taken = None

    def _away(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Do what the plan chose for an outage."""
        measures = self.measures
        if metered.on_outage is OutagePolicy.ALLOW:
            measures.allowed_away += 1
            return Decision(admitted=True, levels=(), degraded=True)
        if metered.on_outage is OutagePolicy.LOCAL:
            measures.local_away += 1
            self._counts_here = True
            try:
                counted = self._local.decide_now(self._share(metered), cost=cost, peek=peek)
            except LimiterAwayError:
                counted = None
            if counted is not None:
                return Decision(counted.admitted, counted.levels, degraded=True)
        measures.denied_away += 1
        return Decision(admitted=False, levels=(), degraded=True)

    def _is_back(self) -> None:
        if self._counts_here:
            self._counts_here = False
            self._local.clear()

    def _concluded(
        self, metered: Metered, decided: Decision | None, taken: Decision | None, *, cost: int, peek: bool
    ) -> Limited:
        """Put the halves together, and put back what was taken in vain."""
        by_rates = decided is None or decided.admitted
        by_allowances = taken is None or taken.admitted
        if taken is not None and by_allowances and not by_rates and not peek:
            self._allowances.put_back(taken)
            taken = self._allowances.take_now(metered.allowances, cost=cost, peek=True) or taken
        limited = _limited(metered, decided, taken, admitted=by_rates and by_allowances)
        if limited.admitted:
            self.measures.admitted += 1
            limited.taken = None if peek else taken
        else:
            self.measures.denied += 1
        return limited


def _limited(metered: Metered, decided: Decision | None, taken: Decision | None, *, admitted: bool) -> Limited:
    """Tell the levels in the order of answers, and which limit binds: the longest wait, or the least that is left."""
    heads: Sequence[tuple[str, int, int]] = metered.heads
    levels: Sequence[Level] = () if decided is None else decided.levels
    if taken is not None:
        heads, levels = _in_order(metered, levels, taken.levels)
    states = tuple(map(_state, heads, levels))
    degraded = decided is not None and decided.degraded
    if not admitted and decided is not None and not decided.admitted and not decided.levels:
        limited = Limited(states, metered.rates[0].name, degraded=degraded)
        limited.admitted = False
        limited.retry_after_us = AWAY_WAIT_US
        return limited
    if not states:
        return Limited(states, degraded=degraded)
    if admitted:
        binding = states[0] if len(states) == 1 else min(states, key=_remaining)
        limited = Limited(states, binding.name, degraded=degraded)
    else:
        binding = max(states, key=_wait)
        limited = Limited(states, binding.name, degraded=degraded)
        limited.admitted = False
        limited.retry_after_us = binding.wait_us
    limited.by_rate = taken is None or any(rate.name == binding.name for rate in metered.rates)
    return limited


def _in_order(
    metered: Metered, rates: Sequence[Level], allowances: Sequence[Level]
) -> tuple[list[tuple[str, int, int]], list[Level]]:
    """Put the levels that are known into the order of answers, each with its head."""
    known: list[Level | None] = [None] * len(metered.rates)
    known[: len(rates)] = rates
    known += allowances
    pairs = [(metered.heads[place], level) for place in metered.order if (level := known[place]) is not None]
    return [head for head, _ in pairs], [level for _, level in pairs]


def _state(head: tuple[str, int, int], level: Level) -> LimitState:
    return _STATE(head + level)


def _remaining(state: LimitState) -> int:
    return state.remaining


def _wait(state: LimitState) -> float:
    return _LONGEST if state.wait_us == NEVER_US else state.wait_us


_STATE = LimitState._make
