"""Fakes of what limits are counted in, so that tests say what it answers, when, and whether it answers at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Allowance, Decision, Level, Metered
from keystead.verification.limiting import Limiter

Asked = tuple[int, bool]
"""A cost, and whether it was a peek."""


class FakeRates:
    """A ``RateStore`` with ``left`` in every rate: at once, or (``waits``) only to those who await."""

    def __init__(self, left: int = 1_000_000) -> None:
        """Begin with ``left`` everywhere."""
        self.left = left
        self.waits = False
        self.away = False
        self.hold: asyncio.Event | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked: list[Asked] = []
        self.forgotten: list[str] = []

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision | None:
        """Decide, unless it waits."""
        return None if self.waits else self._decide(metered, cost, peek=peek)

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Decide, when it is not held; ``meanwhile`` is done first."""
        if self.hold is not None:
            await self.hold.wait()
        self.meanwhile()
        return self._decide(metered, cost, peek=peek)

    async def reset(self, counters: Sequence[str]) -> None:
        """Note what is forgotten."""
        if self.away:
            raise LimiterAwayError("away")
        self.forgotten += counters

    def clear(self) -> None:
        """Note that everything is forgotten."""
        self.forgotten.append("*")

    def _decide(self, metered: Metered, cost: int, *, peek: bool) -> Decision:
        if self.away:
            raise LimiterAwayError("away")
        self.asked.append((cost, peek))
        admitted = cost <= self.left
        if admitted and not peek:
            self.left -= cost
        level = Level(self.left, 7_000_000, 0 if admitted else 3_000_000)
        return Decision(admitted, (level,) * len(metered.rates))


class FakeAllowances:
    """An ``AllowanceSpender`` with ``left`` in every allowance.

    While it is ``cold`` it must be awaited first; while ``unseen`` it cannot be looked at without being spent.
    """

    def __init__(self, left: int = 1_000_000) -> None:
        """Begin with ``left`` everywhere."""
        self.left = left
        self.cold = self.unseen = False
        self.wait_us = 9_000_000

    def take_now(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision | None:
        """Take, unless it is cold."""
        return None if self.cold or (peek and self.unseen) else self._take(allowances, cost, peek=peek)

    async def take(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision:
        """Fetch and take."""
        self.cold = False
        return self._take(allowances, cost, peek=peek)

    def put_back(self, taken: Decision) -> None:
        """Put back."""
        assert isinstance(taken.receipt, int)
        self.left += taken.receipt

    def _take(self, allowances: Sequence[Allowance], cost: int, *, peek: bool) -> Decision:
        admitted = cost <= self.left
        if admitted and not peek:
            self.left -= cost
        level = Level(self.left, 60_000_000, 0 if admitted else self.wait_us)
        return Decision(admitted, (level,) * len(allowances), receipt=cost)


class FakeLimiter:
    """A limiter over fakes; ``local`` counts while ``rates`` is away, with half of every limit."""

    def __init__(self) -> None:
        """Begin with plenty of everything."""
        self.rates = FakeRates()
        self.local = FakeRates()
        self.allowances = FakeAllowances()
        self.shared: list[Metered] = []
        self.limiter = Limiter(self.rates, self.allowances, local=self.local, share=self._share)

    def _share(self, metered: Metered) -> Metered:
        self.shared.append(metered)
        return metered
