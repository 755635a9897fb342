"""Outcomes whose calls are in ClickHouse: they wait in the database, and are joined batch by batch, exactly once.

The batch is the one idea. The database has transactions and ClickHouse has none, so what is to be added is first
written down in the database, whole, then inserted with its name as token and mark, and then struck out there together
with the outcomes that it settles. Whatever is killed in between, the batch is still written down, and whoever goes on
sends each table what it lacks.

There is one batch at a time. Its number moves on whenever one is written down, taken over or struck out, and each of
those demands the number that was read before anything was looked up; so a joiner that fell asleep in the middle finds
the number moved on and changes nothing. Waiting outcomes stay in the database because that is what makes keeping a
report durable, and settling it with its batch one step; joins are bounded by one batch at a time, which is some
thousands of outcomes a second.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from keystead.adapters.clickhouse.connection import ClickHouse, Row
from keystead.adapters.clickhouse.endings import CallName, called, ended, parcel_of
from keystead.adapters.clickhouse.parcels import insert_lacking, insert_whole
from keystead.adapters.clickhouse.schema import ENDED_CALL_TYPES
from keystead.adapters.endings import Batch, Ending, Waiting
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.outcome_batches import Place, SqlOutcomeBatches
from keystead.adapters.sql.outcomes import SqlOutcomes
from keystead.kernel.walls import TenantScope
from keystead.usage.model import OUTCOME_WAITS_MAX_MS, Joined, Outcome

LEASE_MS = 60_000
"""So long nobody else touches a batch: longer than an insert can take, also one whose process is gone.

An engine inside the process ends with it, so there nobody has to wait.
"""

WINDOW_ROWS = 1_000
WINDOWS_MAX = 5
"""How many that wait are looked at in one piece, and how many pieces in one step."""


class ClickHouseOutcomes:
    """The ``OutcomeStore`` of one ClickHouse and one database."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        database: Database,
        *,
        window_rows: int = WINDOW_ROWS,
        windows_max: int = WINDOWS_MAX,
        lease_ms: int = LEASE_MS,
    ) -> None:
        """Keep in ``database`` and join in ``clickhouse``."""
        self._lease_ms = lease_ms
        self._clickhouse = clickhouse
        self._kept = SqlOutcomes(database)
        self._batches = SqlOutcomeBatches(database)
        self._window_rows = window_rows
        self._windows_max = windows_max
        self._passed: tuple[int, str, str, str] | None = None
        # The batch that this process itself wrote down and could not finish: it need not wait for its own lease.
        self._mine = ""

    async def keep(self, scope: TenantScope, outcomes: Sequence[Outcome], *, at_ms: int) -> None:
        """Keep what was reported until it is joined, durably; of several reports about one call the first counts."""
        await self._kept.keep(scope, outcomes, at_ms=at_ms)

    async def join(self, *, at_most: int, now_ms: int) -> Joined:
        """Join so many waiting outcomes to their calls, the longest waiting first; drop what waited for an hour.

        Nothing while another process joins. A batch that a dead process left is gone on with first, after its lease.
        """
        place = await self._batches.place()
        if place.batch is not None:
            return await self._go_on(place, place.batch, now_ms)
        batch = await self._look(at_most=at_most, overdue_ms=now_ms - OUTCOME_WAITS_MAX_MS)
        if not batch.settled:
            return Joined()
        if not batch.endings:
            return await self._settle(place.number, batch)
        self._mine = batch.id
        if not await self._batches.write_down(batch, number=place.number, held_until_ms=now_ms + self._lease_ms):
            return Joined()
        await self._clickhouse.writer.run(lambda lane: insert_whole(lane, parcel_of(batch)))
        return await self._settle(place.number + 1, batch)

    async def _go_on(self, place: Place, batch: Batch, now_ms: int) -> Joined:
        """Finish a batch that was written down before, once its lease is over unless it is this process's own."""
        if self._mine != batch.id and place.held_until_ms > now_ms:
            return Joined()
        if not await self._batches.take_over(number=place.number, held_until_ms=now_ms + self._lease_ms):
            return Joined()
        await self._clickhouse.writer.run(lambda lane: insert_lacking(lane, parcel_of(batch)))
        return await self._settle(place.number + 1, batch)

    async def _settle(self, number: int, batch: Batch) -> Joined:
        if not await self._batches.strike_out(number=number, settled=batch.settled):
            return Joined()
        joined = len(batch.endings)
        return Joined(joined, len(batch.settled) - joined - batch.dropped, batch.dropped)

    async def _look(self, *, at_most: int, overdue_ms: int) -> Batch:
        """Make the batch of what can be settled now: the first report of each call that did not end before is added."""
        candidates = await self._candidates(at_most=at_most, overdue_ms=overdue_ms)
        come = [(it, row) for it, row in candidates if row is not None]
        calls = {_call_of(it): row for it, row in come}
        endings = await self._clickhouse.reader.run(lambda lane: ended(lane, [*calls]))
        joined: dict[CallName, Ending] = {}
        settled = {it.name for it, row in candidates if row is None}
        dropped = len(settled)
        for it in await self._batches.about([name[0::2] for name in calls]):
            call = _call_of(it)
            if not (row := calls.get(call)) or it.environment not in {"", row[3]}:
                continue
            settled.add(it.name)
            if call not in endings and call not in joined:
                joined[call] = _ending(it, row)
        return Batch(f"btc_{secrets.token_hex(12)}", tuple(joined.values()), tuple(sorted(settled)), dropped)

    async def _candidates(self, *, at_most: int, overdue_ms: int) -> list[tuple[Waiting, Row | None]]:
        """Find outcomes whose calls are counted, with those, and others that waited too long.

        It looks at a bounded number of those that wait and goes on there the next time. When it finds none by the end,
        it goes on from the beginning unless it had begun there.
        """
        candidates: list[tuple[Waiting, Row | None]] = []
        unseen = self._passed is not None
        for _ in range(self._windows_max):
            window = await self._batches.waiting(after=self._passed, at_most=self._window_rows)
            found = await self._matched(window, overdue_ms)
            candidates += found[: at_most - len(candidates)]
            at_the_end = len(window) < self._window_rows
            if len(candidates) == at_most:
                self._passed = candidates[-1][0].position
                break
            self._passed = None if at_the_end else window[-1].position
            if at_the_end and (candidates or not unseen):
                break
            unseen = unseen and not at_the_end
        return candidates

    async def _matched(self, window: Sequence[Waiting], overdue_ms: int) -> list[tuple[Waiting, Row | None]]:
        names = sorted({_call_of(it) for it in window})
        calls = await self._clickhouse.reader.run(lambda lane: called(lane, names))
        found: list[tuple[Waiting, Row | None]] = []
        for it in window:
            row = calls.get(_call_of(it))
            if row is not None and it.environment in {"", row[3]}:
                found.append((it, row))
            elif it.kept_at_ms < overdue_ms:
                found.append((it, None))
        return found


def _ending(it: Waiting, row: Row) -> Ending:
    said = dict(zip(ENDED_CALL_TYPES, row, strict=True))
    said |= {"tags": tuple(said["tags"]), "http_status": it.http_status, "latency_us": it.latency_us}
    return Ending(**said)


def _call_of(it: Waiting) -> CallName:
    return it.workspace_id, it.called_at_ms, it.verification_id
