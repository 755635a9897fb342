"""Feeds the Entitlements service: closed hours become events in the ledger, and events go out until acknowledged.

Nothing is remembered here that matters: what was told and what was acknowledged stands in the ledger, so a turn that
was cut off anywhere, by a crash or a timeout, is made up for by the next, with the same events and the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.usage.feed_ports import Completeness, Delivery, EventReceiver, Ledger, Reception
from keystead.usage.meters import WINDOW_MS, KnownMeter, LedgerEntry, closed_to, entries_of

BATCH_EVENTS = 500
LATE_WINDOWS = 48
_BATCHES_PER_TURN = 50
_TURN_MS = 5_000
_GAPS_AT_ONCE = 5_000
_RECORDED_AT_ONCE = 1_000
_WINDOWS_AT_ONCE = 24
_STEPS_PER_TURN = 50
# All late windows are looked at within four minutes, a few of them at a time.
_LATE_WINDOWS_AT_ONCE = 4
_LATE_INTERVAL_MS = 20_000
_FIRST_WAIT_MS = 1_000
_REFUSED_WAIT_MS = 3_600_000
_LEASE_MARGIN_MS = 2_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class FeedStatus:
    """What an operator wants to see of the feed; ``told_to_ms`` is the least of its meters, 0 before the first turn.

    ``failing_since_ms`` is when the first of the present row of batches failed; None while they arrive.
    """

    sending: bool = False
    pending_events: int = 0
    told_to_ms: int = 0
    acknowledged_events: int = 0
    failed_batches: int = 0
    refused_events: int = 0
    failing_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FeedBounds:
    """How long an answer may take, and how long a failed batch waits at most, in milliseconds."""

    timeout_ms: int = 10_000
    retry_max_ms: int = 300_000


class EntitlementsFeed:
    """Runs every two seconds; of all nodes only the one that holds the sender's place works."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        usage: Completeness,
        receiver: EventReceiver,
        clock: Clock,
        holder: str,
        meters: Sequence[str],
        bounds: FeedBounds | None = None,
    ) -> None:
        """Tell ``receiver`` of ``meters``, by name; ``holder`` is this process's own name."""
        self._ledger = ledger
        self._usage = usage
        self._receiver = receiver
        self._clock = clock
        self._holder = holder
        self._names = frozenset(meters)
        self._bounds = bounds or FeedBounds()
        # Renewed at half of it, so that whoever begins to wait for an answer holds the place until it must be there.
        self._lease_ms = 2 * (self._bounds.timeout_ms + _LEASE_MARGIN_MS)
        self._held_until_ms = 0
        self._late_slice = 0
        self._late_due_ms = 0
        self._wait_ms = 0
        self._send_due_ms = 0
        self._batch = BATCH_EVENTS
        self.status = FeedStatus()

    async def turn(self) -> None:
        """Tell what is new or late, and send what waits, for about as long as one answer may take."""
        self.status.sending = await self._hold()
        if not self.status.sending:
            return
        complete_until_ms = await self._usage.complete_until()
        if complete_until_ms is not None:
            await self._tell(closed_to(complete_until_ms))
        await self._send()
        self.status.pending_events = await self._ledger.count_pending(None)

    async def stop(self) -> None:
        """Give the sender's place to another node at once; when that cannot be, it is free after the lease."""
        with suppress(UnavailableError):
            await self._ledger.let_go(self._holder)

    async def _hold(self) -> bool:
        """Keep the sender's place, renewed when half of its time is over."""
        now_ms = self._clock.now_ms()
        if self._held_until_ms - now_ms > self._lease_ms // 2:
            return True
        until_ms = now_ms + self._lease_ms
        held = await self._ledger.hold(self._holder, now_ms=now_ms, until_ms=until_ms)
        self._held_until_ms = until_ms if held else 0
        return held

    async def _tell(self, closed_ms: int) -> None:
        known = [meter for meter in await self._ledger.meters() if meter.name in self._names]
        for meter in known:
            await self._tell_new(meter, closed_ms)
            await self._tell_again(meter)
        await self._tell_late(known)
        self.status.told_to_ms = min((meter.told_to_ms for meter in known), default=0)

    async def _tell_new(self, meter: KnownMeter, closed_ms: int) -> None:
        """Tell windows that are over; a step that is repeated finds them told and does nothing."""
        begin_ms = meter.told_to_ms
        for _ in range(_STEPS_PER_TURN):
            end_ms = min(begin_ms + _WINDOWS_AT_ONCE * WINDOW_MS, closed_ms)
            if begin_ms >= end_ms or not await self._tell_span(meter, begin_ms, end_ms):
                return
            await self._ledger.told(meter.name, to_ms=end_ms)
            begin_ms = end_ms

    async def _tell_again(self, meter: KnownMeter) -> None:
        """Look once more at the windows that a comparison found short, one slice a turn."""
        if meter.again_from_ms is None:
            return
        end_ms = min(meter.again_from_ms + _WINDOWS_AT_ONCE * WINDOW_MS, meter.told_to_ms)
        if await self._tell_span(meter, meter.again_from_ms, end_ms):
            await self._ledger.looked_again(meter, to_ms=end_ms if end_ms < meter.told_to_ms else None)

    async def _tell_late(self, known: Sequence[KnownMeter]) -> None:
        """Look at a few of the windows told lately for usage that was counted since: the newest first, then in turn."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._late_due_ms:
            return
        self._late_due_ms = now_ms + _LATE_INTERVAL_MS
        for meter in known:
            end_ms = meter.told_to_ms - self._late_slice * WINDOW_MS
            begin_ms = max(meter.since_ms, end_ms - _LATE_WINDOWS_AT_ONCE * WINDOW_MS)
            if begin_ms < end_ms:
                await self._tell_span(meter, begin_ms, end_ms)
        self._late_slice = (self._late_slice + _LATE_WINDOWS_AT_ONCE) % LATE_WINDOWS

    async def _tell_span(self, meter: KnownMeter, from_ms: int, to_ms: int) -> bool:
        """Write events for all gaps of a span, window by window, for a question about many may take too long.

        False when a window has more gaps than a turn may write.
        """
        for begin_ms in range(from_ms, to_ms, WINDOW_MS):
            if not await self._tell_window(meter, begin_ms):
                return False
        return True

    async def _tell_window(self, meter: KnownMeter, begin_ms: int) -> bool:
        for _ in range(_STEPS_PER_TURN):
            gaps = await self._ledger.gaps(meter, from_ms=begin_ms, to_ms=begin_ms + WINDOW_MS, limit=_GAPS_AT_ONCE)
            for start in range(0, len(gaps), _RECORDED_AT_ONCE):
                entries = entries_of(meter.name, gaps[start : start + _RECORDED_AT_ONCE])
                await self._ledger.record(entries, at_ms=self._clock.now_ms())
            if late := sum(gap.revisions > 0 for gap in gaps):
                _log.info("usage came late; it is told as further events", meter=meter.name, events=late)
            if len(gaps) < _GAPS_AT_ONCE:
                return True
        return False

    async def _send(self) -> None:
        began_ms = self._clock.monotonic_ms()
        for _ in range(_BATCHES_PER_TURN):
            now_ms = self._clock.monotonic_ms()
            if now_ms < self._send_due_ms or now_ms - began_ms > _TURN_MS or not await self._hold():
                return
            batch = await self._ledger.pending(now_ms=self._clock.now_ms(), limit=self._batch)
            if not batch:
                return
            await self._take(batch, await self._receiver.send(batch))

    async def _take(self, batch: Sequence[LedgerEntry], delivery: Delivery) -> None:
        """Act on the answer to a batch."""
        if delivery.reception is Reception.ACCEPTED:
            await self._ledger.acknowledge([entry.id for entry in batch], at_ms=self._clock.now_ms())
            self._arrived(len(batch))
        elif delivery.reception is Reception.FAILED:
            self._failed(len(batch), delivery)
        elif len(batch) > 1:
            self._batch = len(batch) // 2  # one of them may be at fault: find it, and let the others through
        else:
            await self._put_off(batch[0], delivery)

    def _arrived(self, events: int) -> None:
        if self.status.failing_since_ms is not None:
            _log.info("the entitlements service takes events again")
        self.status.failing_since_ms = None
        self.status.acknowledged_events += events
        self._wait_ms = 0
        self._batch = min(self._batch * 2, BATCH_EVENTS)

    def _failed(self, events: int, delivery: Delivery) -> None:
        """Wait twice as long as before, or as long as the receiver says, within the bound."""
        self.status.failed_batches += 1
        if self.status.failing_since_ms is None:
            self.status.failing_since_ms = self._clock.now_ms()
            _log.warning("the entitlements service took no events", reason=delivery.reason, events=events)
        self._wait_ms = max(_FIRST_WAIT_MS, self._wait_ms * 2, delivery.retry_after_ms or 0)
        self._wait_ms = min(self._wait_ms, self._bounds.retry_max_ms)
        self._send_due_ms = self._clock.monotonic_ms() + self._wait_ms

    async def _put_off(self, entry: LedgerEntry, delivery: Delivery) -> None:
        """Try an event that the receiver refused again in an hour: somebody must look, and it is not lost."""
        _log.error(
            "the entitlements service refused an event; it stays pending",
            event_id=entry.id,
            meter=entry.meter,
            owner=entry.owner_id,
            workspace=entry.workspace_id,
            reason=delivery.reason,
        )
        self.status.refused_events += 1
        await self._ledger.postpone([entry.id], until_ms=self._clock.now_ms() + _REFUSED_WAIT_MS)
