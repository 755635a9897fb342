"""The ledger in memory, beside usage in memory: every sum is made anew from the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from keystead.adapters.walls import Walls
from keystead.kernel.walls import TenantScope
from keystead.usage.meters import Comparison, Counting, Gap, KnownMeter, LedgerEntry, Meter, window_of
from keystead.usage.model import VALID_NUMBER, Call

Place = tuple[str, str, str, int]


@dataclass(slots=True)
class _Event:
    """An event and what became of it."""

    entry: LedgerEntry
    due_at_ms: int
    acknowledged: bool = False


class MemoryLedger:
    """The ``Ledger`` of one process."""

    def __init__(self, calls: Callable[[], Sequence[Call]]) -> None:
        """Bill what ``calls`` returns: every call that was counted."""
        self._calls = calls
        self._meters: dict[str, KnownMeter] = {}
        self._events: dict[str, _Event] = {}
        self._sender = ("", 0)

    async def begin(self, meters: Sequence[Meter], *, since_ms: int) -> None:
        """Make meters known that are not; such a one is told from the window of ``since_ms`` on."""
        since_ms = window_of(since_ms)
        for meter in meters:
            self._meters.setdefault(meter.name, KnownMeter(meter.name, meter.meaning, since_ms, since_ms))

    async def meters(self) -> list[KnownMeter]:
        """Return all that were ever known, by name."""
        return [self._meters[name] for name in sorted(self._meters)]

    async def gaps(self, meter: KnownMeter, *, from_ms: int, to_ms: int, limit: int) -> list[Gap]:
        """Return windows of which more was used than told, the oldest first, at most ``limit``."""
        told: Counter[Place] = Counter()
        revisions: Counter[Place] = Counter()
        for event in self._events.values():
            if event.entry.meter == meter.name:
                told[_place(event.entry)] += event.entry.value
                revisions[_place(event.entry)] += 1
        found = [
            Gap(*place, used, told[place], revisions[place])
            for place, used in self._used(meter, from_ms, to_ms).items()
            if used > told[place] and place[-1] >= self._meters[meter.name].since_ms
        ]
        found.sort(key=lambda gap: (gap.begins_at_ms, gap.workspace_id, gap.environment, gap.owner_id))
        return found[:limit]

    async def record(self, entries: Sequence[LedgerEntry], *, at_ms: int) -> None:
        """Write events down, to be sent; one whose id is there already changes nothing, so two may race."""
        for entry in entries:
            self._events.setdefault(entry.id, _Event(entry, at_ms))

    async def told(self, meter: str, *, to_ms: int) -> None:
        """Note that all windows before ``to_ms`` were told; never goes back."""
        known = self._meters[meter]
        self._meters[meter] = replace(known, told_to_ms=max(known.told_to_ms, to_ms))

    async def look_again(self, meter: str, *, from_ms: int) -> None:
        """Ask for the windows from ``from_ms`` on to be looked at once more; the earliest asked for stays."""
        known = self._meters[meter]
        earliest_ms = from_ms if known.again_from_ms is None else min(from_ms, known.again_from_ms)
        self._meters[meter] = replace(known, again_from_ms=earliest_ms)

    async def looked_again(self, meter: KnownMeter, *, to_ms: int | None) -> None:
        """Note how far they were looked at, None when to the end; nothing when an earlier one was asked for since."""
        known = self._meters[meter.name]
        if known.again_from_ms == meter.again_from_ms:
            self._meters[meter.name] = replace(known, again_from_ms=to_ms)

    async def pending(self, *, now_ms: int, limit: int) -> list[LedgerEntry]:
        """Return events that are due and not acknowledged, the same ones first until they are."""
        due = [event for event in self._events.values() if not event.acknowledged and event.due_at_ms <= now_ms]
        due.sort(key=lambda event: (event.due_at_ms, event.entry.id))
        return [event.entry for event in due[:limit]]

    async def acknowledge(self, ids: Collection[str], *, at_ms: int) -> None:  # noqa: ARG002 -- the port's; nobody asks when
        """Note that the receiver has these events."""
        for identifier in ids:
            self._events[identifier].acknowledged = True

    async def postpone(self, ids: Collection[str], *, until_ms: int) -> None:
        """Let events wait that the receiver would not take, so that they hold up no others."""
        for identifier in ids:
            self._events[identifier].due_at_ms = until_ms

    async def count_pending(self, scope: TenantScope | None) -> int:
        """Return how many events are not acknowledged inside the walls; None is all of them."""
        waiting = [event.entry for event in self._events.values() if not event.acknowledged]
        return sum(_inside(Walls.around(scope), entry.workspace_id, entry.environment) for entry in waiting)

    async def hold(self, holder: str, *, now_ms: int, until_ms: int) -> bool:
        """Take or keep the one sender's place until then; False while somebody else holds it."""
        if self._sender[0] != holder and self._sender[1] > now_ms:
            return False
        self._sender = (holder, until_ms)
        return True

    async def let_go(self, holder: str) -> None:
        """Give the place back, if ``holder`` has it."""
        if self._sender[0] == holder:
            self._sender = (holder, 0)

    async def compare(
        self, scope: TenantScope, meter: KnownMeter, *, from_ms: int, to_ms: int, owner_id: str, equal: bool, limit: int
    ) -> list[Comparison]:
        """Return sums by owner and environment, in that order: those that differ, with ``equal`` all."""
        sums: dict[tuple[str, str], list[int]] = {}
        for place, used in self._used(meter, from_ms, to_ms).items():
            if _inside(Walls.around(scope), place[0], place[1]):
                sums.setdefault((place[2], place[1]), [0, 0, 0])[0] += used
        for event in self._events.values():
            it = event.entry
            meant = it.meter == meter.name and from_ms <= it.begins_at_ms < to_ms
            if meant and _inside(Walls.around(scope), it.workspace_id, it.environment):
                place_sums = sums.setdefault((it.owner_id, it.environment), [0, 0, 0])
                place_sums[1 if event.acknowledged else 2] += it.value
        compared = [Comparison(owner, where, meter.name, *sums[owner, where]) for owner, where in sorted(sums)]
        return [it for it in compared if owner_id in {"", it.owner_id} and (equal or it.used != it.acknowledged)][
            :limit
        ]

    def _used(self, known: KnownMeter, from_ms: int, to_ms: int) -> Counter[Place]:
        meter = known.meter
        used: Counter[Place] = Counter()
        for call in self._calls():
            subject = call.subject
            if (
                from_ms <= call.at_ms < to_ms
                and call.code == VALID_NUMBER
                and subject.owner_id
                and meter.operation in {"", call.operation}
                and (not meter.tag or meter.tag in call.tags)
            ):
                place = (subject.workspace_id, subject.environment, subject.owner_id, window_of(call.at_ms))
                used[place] += 1 if meter.counting is Counting.CALLS else call.cost
        return used


def _place(entry: LedgerEntry) -> Place:
    return entry.workspace_id, entry.environment, entry.owner_id, entry.begins_at_ms


def _inside(walls: Walls, workspace_id: str, environment: str) -> bool:
    return walls.admit(workspace_id) and (walls.environments is None or environment in walls.environments)
