"""Several processes over one store, whatever happens to them: never over, and nothing handed back twice (P4)."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from keystead.kernel.errors import InvalidRequestError, UnavailableError
from keystead.kernel.limit import Period
from keystead.limits.allowances import adjust, look, reset
from keystead.limits.model import Decision
from keystead.limits.periods import span_of
from tests.allowances import Line, Shop, credits_of, process, quota, spend

PROCESSES = 3
DAY_MS = 86_400_000
EVERY_MS = 7 * 3_600_000
REFILL = 10
BALANCE = 40
MOST = 40
DRAINS_AT_MOST = 40

numbers = st.integers(0, PROCESSES - 1)
costs = st.integers(0, 12)


class Processes(RuleBasedStateMachine):
    """What was admitted is compared with what the store was ever allowed to hand out."""

    def __init__(self) -> None:
        """Start every process."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.shop = Shop()
        self.balance = credits_of(BALANCE, REFILL, EVERY_MS)
        self.processes = [process(self.shop) for _ in range(PROCESSES)]
        self.answers: list[tuple[int, int, Decision]] = []
        self.limit = 0
        self.allowed: dict[int, int] = defaultdict(int)
        self.highest = 0
        self.spent: dict[int, int] = defaultdict(int)
        self.paid = 0
        self.adjusted = 0
        self.first_use_ms: int | None = None
        self.lossless = True

    @initialize(limit=st.integers(0, MOST))
    def begin(self, limit: int) -> None:
        """Choose the quota's first number."""
        self.limit = self.highest = limit

    @property
    def period(self) -> int:
        """The period that is now, by its beginning."""
        return span_of(quota(1, Period.DAY).kind, self.shop.now_ms).begins_at_ms

    @property
    def earned(self) -> int:
        """The credits there ever were."""
        refills = 0 if self.first_use_ms is None else (self.shop.now_ms - self.first_use_ms) // EVERY_MS
        return BALANCE + refills * REFILL + self.adjusted

    @rule(number=numbers, cost=costs, times=st.integers(1, 6))
    def call(self, number: int, cost: int, times: int) -> None:
        """Let a process take, several times at once."""
        period = self.period
        self.first_use_ms = self.shop.now_ms if self.first_use_ms is None else self.first_use_ms
        self.highest = max(self.highest, self.limit)
        limits = (quota(self.limit, Period.DAY), self.balance)

        async def calls() -> list[Decision | BaseException]:
            blocks = self.processes[number][0]
            return await asyncio.gather(
                *[spend(blocks, *limits, cost=cost) for _ in range(times)], return_exceptions=True
            )

        for answer in self.loop.run_until_complete(calls()):
            if isinstance(answer, BaseException):
                assert isinstance(answer, UnavailableError)
            elif answer.admitted:
                assert self.limit > 0
                self.spent[period] += cost
                self.paid += cost
                self.answers.append((period, cost, answer))

    @rule(number=numbers, cost=st.integers(4, 9))
    def drain(self, number: int, cost: int) -> None:
        """Let a process take until it is denied, or finds the database away."""
        for _ in range(DRAINS_AT_MOST):
            before = self.paid
            self.call(number, cost, 1)
            if self.paid == before:
                return

    @rule(number=numbers)
    def put_back(self, number: int) -> None:
        """Deny a call that was admitted, at any time after, by whoever admitted it."""
        if self.answers:
            period, cost, answer = self.answers.pop(number % len(self.answers))
            self.processes[0][0].put_back(answer)  # the receipt knows the block, whose ever it is
            self.spent[period] -= cost
            self.paid -= cost
            self.lossless = False  # the block may be gone

    @rule(number=numbers)
    def kill(self, number: int) -> None:
        """End a process at once."""
        self.processes[number] = process(self.shop)
        self.lossless = False

    @rule(number=numbers)
    def stop(self, number: int) -> None:
        """End a process in good order, and start it again."""
        blocks, line = self.processes[number]
        self.loop.run_until_complete(blocks.release_all())
        self.lossless = self.lossless and not line.away and not line.loses_answers
        self.processes[number] = process(self.shop)

    @rule(number=numbers)
    def turn(self, number: int) -> None:
        """Let a process give back what is idle."""
        try:
            self.loop.run_until_complete(self.processes[number][0].turn())
        except UnavailableError:
            assert self.troubled(self.processes[number][1])

    @staticmethod
    def troubled(line: Line) -> bool:
        """Say whether the database is away for a process."""
        return line.away or line.loses_answers

    @rule(number=numbers, away=st.booleans(), loses_answers=st.booleans())
    def connection(self, number: int, *, away: bool, loses_answers: bool) -> None:
        """Cut a process from the database, or cut its answers off, or mend it."""
        line = self.processes[number][1]
        line.away, line.loses_answers = away, loses_answers
        self.lossless = self.lossless and not loses_answers

    @rule(milliseconds=st.sampled_from((100, 400, 600, EVERY_MS, DAY_MS // 2, DAY_MS)))
    def wait(self, milliseconds: int) -> None:
        """Let time pass."""
        before = self.period
        self.shop.clock.advance(milliseconds)
        if self.period != before:
            self.highest = 0

    @rule(limit=st.integers(0, MOST))
    def change_number(self, limit: int) -> None:
        """Change the plan."""
        self.limit = limit

    @rule(delta=st.integers(-60, 60))
    def adjust(self, delta: int) -> None:
        """Add credits or take some away; what is refused leaves no trace, so it is no first use either."""

        async def change() -> None:
            async with self.shop.unit() as unit:
                await adjust(unit, self.balance, delta, self.shop.now_ms, target="key_1")

        try:
            self.loop.run_until_complete(change())
        except InvalidRequestError:
            assert delta < 0
        else:
            self.adjusted += delta
            self.first_use_ms = self.shop.now_ms if self.first_use_ms is None else self.first_use_ms

    @rule()
    def reset(self) -> None:
        """Forget what was taken of the quota: as much as was allowed before is allowed again."""
        self.allowed[self.period] += self.highest
        self.highest = self.limit
        self.lossless = False

        async def change() -> None:
            async with self.shop.unit() as unit:
                await reset(unit, quota(self.limit, Period.DAY), self.shop.now_ms)

        self.loop.run_until_complete(change())

    @invariant()
    def never_over(self) -> None:
        """No period admits more than its limit, and nobody pays with credits that there never were."""
        assert self.spent[self.period] <= self.allowed[self.period] + self.highest
        assert self.paid <= self.earned

    @invariant()
    def nothing_is_handed_back_twice(self) -> None:
        """What is left to be taken and what was spent are never more than there was."""
        assert self.left_of_credits() + self.paid <= self.earned
        row = self.shop.row(quota(1, Period.DAY))
        if row is not None and not row.resets:
            assert row.amount >= self.spent[self.period]

    def left_of_credits(self) -> int:
        """Return the balance, with the refills that are due."""

        async def ask() -> int:
            async with self.shop.units.read(None) as unit:
                return (await look(unit, self.balance, self.shop.now_ms)).left

        return BALANCE if self.first_use_ms is None else self.loop.run_until_complete(ask())

    def teardown(self) -> None:
        """After clean stops nothing is missing, unless something was lost on the way."""
        for blocks, line in self.processes:
            line.away = False
            self.loop.run_until_complete(blocks.release_all())
        self.never_over()
        self.nothing_is_handed_back_twice()
        if self.lossless and self.shop.store.committed.allowances:
            assert self.left_of_credits() + self.paid == self.earned
            row = self.shop.row(quota(1, Period.DAY))
            assert (row.amount if row else 0) == self.spent[self.period]
        self.loop.close()


def test_never_over_whatever_happens() -> None:
    """Calls, kills, stops, cuts, changes, resets and time, in any order."""
    run_state_machine_as_test(Processes, settings=settings(max_examples=40, stateful_step_count=40))
