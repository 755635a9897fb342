"""This process's blocks of quotas and credits: what may be spent here without asking anybody.

Whatever is spent here was taken from the database before, so nothing is spent twice: not when this process is killed,
not when the database is away. Calls that find too little share one trip for it. An allowance that is used up is
remembered, so those who are denied cost no trip each; but never for longer than ``BELIEVED_MS``, since credits may be
added, a quota reset, or a block given back anywhere.

A block belongs to one period between two resets, and to one number of its limit: with the end of either it is dropped,
and a limit that was lowered hands out nothing that the higher one had lent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from keystead.kernel.change import Actor, ActorType, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.kernel.limit import COUNT_MAX, Quota
from keystead.limits.allowances import give_back, look, take
from keystead.limits.held import Held, Key, key_of, level_of, nothing_of
from keystead.limits.model import Allowance, Decision, Taken
from keystead.limits.ports import AllowanceUnits

ORIGIN = Origin(Actor(ActorType.SYSTEM, "limiter"))
BELIEVED_MS = 500
"""For how long what the database said is believed; half of what a change may take to be heard of everywhere (P3)."""
COUNTERS_MAX = 100_000
TRIPS_MAX = 4
"""Trips to the database at once; more would wait for its connections, and keep others from them."""
FLIGHTS_MAX = 2_000
RETURNED_AT_ONCE = 100
AWAY_MS = 250
"""After a trip failed, others fail at once for so long instead of waiting as long as it did."""
_ROUNDS_MAX = 20

_BUSY = "More is asked of this limit than can be counted right now; try again."
_AWAY = "The database cannot answer right now; try again."
_CLOSING = "This server is stopping; try another."


class BlockMeasures:
    """What a process did since it started: trips to take or give back, how many failed, units taken and given back."""

    __slots__ = ("failures", "given_back", "taken", "trips")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.trips = 0
        self.failures = 0
        self.taken = 0
        self.given_back = 0


class _Flight:
    """One trip and the calls that wait for it: what they want together, and the least that helps one of them."""

    __slots__ = ("departed", "least", "task", "wanted")

    def __init__(self) -> None:
        self.wanted = 0
        self.least = 0
        self.departed = False
        self.task: asyncio.Task[None]

    def board(self, cost: int) -> None:
        if not self.departed:
            self.wanted += cost
            self.least = min(self.least or cost, cost)


class _Receipt(NamedTuple):
    """From which blocks a call took how much each."""

    blocks: tuple[Held, ...]
    cost: int


class Blocks:
    """The ``AllowanceSpender`` of one process."""

    def __init__(self, units: AllowanceUnits, clock: Clock, *, counters_max: int = COUNTERS_MAX) -> None:
        """Take blocks through ``units``; hold those of at most ``counters_max`` counters."""
        self._units = units
        self._clock = clock
        self._counters_max = counters_max
        self._held: dict[Key, Held] = {}
        self._leaving: list[Held] = []
        self._flights: dict[Key, _Flight] = {}
        self._trips = asyncio.Semaphore(TRIPS_MAX)
        self._away_until_ms = 0
        self._closed = False
        self.measures = BlockMeasures()

    def __len__(self) -> int:
        """Return how many counters are held."""
        return len(self._held)

    def take_now(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision | None:
        """Take ``cost`` of every allowance, or nothing; None when the database must be asked first."""
        return self._decide(allowances, cost, peek=peek, trusting=False)

    async def take(self, allowances: Sequence[Allowance], *, cost: int, peek: bool) -> Decision:
        """Take as ``take_now`` does, asking the database where needed; raise ``UnavailableError`` when it is away."""
        for asked in range(_ROUNDS_MAX):
            decision = self._decide(allowances, cost, peek=peek, trusting=asked > 0)
            if decision is not None:
                return decision
            try:
                await self._ask(allowances, cost, peek=peek, trusting=asked > 0)
            except UnavailableError:
                known = self._decide(allowances, cost, peek=True, trusting=True) if peek else None
                if known is None or not known.admitted:
                    raise
                return known
        raise UnavailableError(
            _BUSY, internal="what was fetched was always taken by others", retry_after_ms=BELIEVED_MS
        )

    def put_back(self, taken: Decision) -> None:
        """Undo a take that was admitted; a block that was dropped since keeps what is put back to itself."""
        receipt = taken.receipt
        if isinstance(receipt, _Receipt):
            for held in receipt.blocks:
                held.unspent += receipt.cost

    def ask_again(self, allowances: Sequence[Allowance]) -> None:
        """Believe no more what is known of these, since this process itself has just changed it."""
        for allowance in allowances:
            held = self._held.get(key_of(allowance))
            if held is not None:
                held.seen_ms -= BELIEVED_MS

    async def turn(self) -> None:
        """Give back what nobody used since the last turn; raise ``UnavailableError`` when that cannot be now."""
        for held in list(self._held.values()):
            if held.used:
                held.used = False
            else:
                self._leave(held)
        await self._give_back()

    async def release_all(self) -> int:
        """Give everything back and take no more; return how many units were. What cannot be given back stays spent."""
        self._closed = True
        await asyncio.gather(*[flight.task for flight in self._flights.values()], return_exceptions=True)
        for held in list(self._held.values()):
            self._leave(held)
        before = self.measures.given_back
        with suppress(UnavailableError):
            await self._give_back()
        return self.measures.given_back - before

    def _decide(self, allowances: Sequence[Allowance], cost: int, *, peek: bool, trusting: bool) -> Decision | None:
        now_ms = self._clock.now_ms()
        blocks = []
        enough = not peek
        for allowance in allowances:
            held = self._find(allowance, now_ms)
            if held is None:
                return None
            enough = enough and held.unspent >= cost
            blocks.append(held)
        if enough:
            for held in blocks:
                held.unspent -= cost
            return Decision(
                True,
                tuple([level_of(held, now_ms) for held in blocks]),
                receipt=_Receipt(tuple(blocks), cost),
            )
        denied = False
        for held in blocks:
            known = trusting or self._believed(held, now_ms)
            denied = denied or held.closed or (known and not held.passes(cost))
        if not denied and any(self._must_ask(held, cost, now_ms, peek=peek, trusting=trusting) for held in blocks):
            return None
        return Decision(not denied, tuple([level_of(held, now_ms, cost) for held in blocks]))

    def _find(self, allowance: Allowance, now_ms: int) -> Held | None:
        """Return what is held of the period that is now, if anything is."""
        key = key_of(allowance)
        held = self._held.get(key)
        if held is not None and held.begins_at_ms <= now_ms < held.ends_at_ms:
            held.used = True
            return held
        kind = allowance.kind
        if isinstance(kind, Quota) and not kind.limit and not kind.soft:
            return self._keep(nothing_of(key, allowance, now_ms))
        return None

    def _believed(self, held: Held, now_ms: int) -> bool:
        if held.refills_at_ms and now_ms >= held.refills_at_ms:
            return False
        return self._clock.monotonic_ms() - held.seen_ms < BELIEVED_MS

    def _must_ask(self, held: Held, cost: int, now_ms: int, *, peek: bool, trusting: bool) -> bool:
        """Say whether the database must be asked before a call can be admitted; it is not known to be denied."""
        if held.unspent >= cost and not peek:
            return False
        return not (peek and (trusting or self._believed(held, now_ms)))

    async def _ask(self, allowances: Sequence[Allowance], cost: int, *, peek: bool, trusting: bool) -> None:
        """Fetch what is missing of each allowance, all at once."""
        now_ms = self._clock.now_ms()
        flights = []
        for allowance in allowances:
            held = self._find(allowance, now_ms)
            if held is None or self._must_ask(held, cost, now_ms, peek=peek, trusting=trusting):
                flights.append(self._board(allowance, 0 if peek else max(1, cost)))
        for flight in flights:
            await asyncio.shield(flight.task)

    def _board(self, allowance: Allowance, cost: int) -> _Flight:
        key = key_of(allowance)
        flight = self._flights.get(key)
        if flight is None:
            if self._closed or len(self._flights) >= FLIGHTS_MAX:
                raise UnavailableError(_CLOSING if self._closed else _BUSY, retry_after_ms=BELIEVED_MS)
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._fly(key, allowance, flight))
            flight.task.add_done_callback(lambda done: self._landed(key, done))
        if cost:
            flight.board(cost)
        return flight

    def _landed(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # marks it as seen when every caller has gone

    async def _fly(self, key: Key, allowance: Allowance, flight: _Flight) -> None:
        async with self._trips:
            seen_ms = self._clock.monotonic_ms()
            if seen_ms < self._away_until_ms:
                raise UnavailableError(_AWAY, internal="a trip has just failed", retry_after_ms=AWAY_MS)
            flight.departed = True
            self.measures.trips += 1
            try:
                taken = await self._trip(allowance, flight, self._held.get(key))
            except UnavailableError:
                self.measures.failures += 1
                self._away_until_ms = self._clock.monotonic_ms() + AWAY_MS
                raise
            self._arrive(key, allowance, taken, seen_ms)

    async def _trip(self, allowance: Allowance, flight: _Flight, held: Held | None) -> Taken:
        """Take what the flight's calls want; only look first where nothing was left, so that denials write nothing."""
        at_ms = self._clock.now_ms()
        if held is not None and not held.begins_at_ms <= at_ms < held.ends_at_ms:
            held = None
        unspent = 0 if held is None else held.unspent
        wanted, least = max(0, flight.wanted - unspent), max(1, flight.least - unspent)
        if not wanted or (held is not None and not held.soft and held.left < least):
            async with self._units.read(None) as reading:
                looked = await look(reading, allowance, at_ms)
            if not wanted or looked.left < least:
                return looked
        async with self._units.begin(None, ORIGIN) as unit:
            return await take(unit, allowance, wanted, at_ms, least=least)

    def _arrive(self, key: Key, allowance: Allowance, taken: Taken, seen_ms: int) -> None:
        """Keep what was brought; what is held of another period, or from before a reset, is dropped."""
        held = self._held.get(key)
        if held is None or held.place != (taken.begins_at_ms, taken.resets):
            held = self._keep(Held(key, allowance, taken))
        held.unspent += taken.granted
        held.left = taken.left
        held.refills_at_ms = taken.refills_at_ms
        held.seen_ms = seen_ms
        held.allowance = allowance
        self.measures.taken += taken.granted

    def _keep(self, held: Held) -> Held:
        """Hold one more, in the place of what is held under its key; who was not used lately makes room."""
        self._held.pop(held.key, None)
        while len(self._held) >= self._counters_max:
            oldest = next(iter(self._held.values()))
            if oldest.used:
                del self._held[oldest.key]
                self._held[oldest.key] = oldest
                oldest.used = False
            else:
                self._leave(oldest)
        self._held[held.key] = held
        return held

    def _leave(self, held: Held) -> None:
        del self._held[held.key]
        if held.unspent > 0 and len(self._leaving) < self._counters_max:
            self._leaving.append(held)

    async def _give_back(self) -> None:
        """Give back what leaves, in the order of counters, so that no two processes wait for each other."""
        while self._leaving:
            batch = sorted(self._leaving[:RETURNED_AT_ONCE], key=lambda held: (held.key[0], held.begins_at_ms))
            del self._leaving[:RETURNED_AT_ONCE]
            amounts = [held.unspent for held in batch]
            for held in batch:
                held.unspent = 0
            committing = False
            self.measures.trips += 1
            try:
                async with self._units.begin(None, ORIGIN) as unit:
                    at_ms, given = self._clock.now_ms(), 0
                    for held, amount in zip(batch, amounts, strict=True):
                        block = Taken(0, 0, held.begins_at_ms, held.ends_at_ms, held.resets)
                        given += amount * await give_back(unit, held.allowance, block, amount, at_ms)
                    committing = True
            except BaseException:
                self.measures.failures += 1
                if not committing:  # once it is being committed nobody knows, and it stays spent
                    self._stay(batch, amounts)
                raise
            self.measures.given_back += given

    def _stay(self, batch: list[Held], amounts: list[int]) -> None:
        """Hold again what could not be given back, and all that was to follow it."""
        for held, amount in zip(batch, amounts, strict=True):
            held.unspent += amount
        staying, self._leaving = [*batch, *self._leaving], []
        for held in staying:
            current = self._held.get(held.key)
            if current is None:
                self._keep(held)
            elif current.place == held.place:
                current.unspent += min(held.unspent, COUNT_MAX)
