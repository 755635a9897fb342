"""The loops of a server, by what they see to; each has a clock of its own.

What must be true before the first call is answered is done once before its loop begins: the log is read, so that this
process may vouch for keys, and what earlier processes left in their journals is being counted.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from functools import partial

from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.adapters.sql.allowances import SqlAllowanceShelf
from keystead.adapters.sql.log_shelf import SqlLogShelf
from keystead.adapters.sql.replies import SqlReplyKeeper
from keystead.adapters.sql.retention import SqlUsageShelf
from keystead.adapters.sql.rotations import SqlOverdueKeys
from keystead.adapters.sql.sink_places import SqlSinkPlaces
from keystead.bootstrap.core import Core
from keystead.bootstrap.feeding import start_feed
from keystead.bootstrap.watched import Watched
from keystead.config import Settings
from keystead.events.retention import LogCutter
from keystead.worker.attempts import AttemptFlusher
from keystead.worker.checkpoints import CheckpointKeeper
from keystead.worker.follower import LogFollower
from keystead.worker.housekeeping import Housekeeper
from keystead.worker.journals import JournalWatch
from keystead.worker.last_use import LastUseSaver
from keystead.worker.log_cuts import LogKeeper
from keystead.worker.loop import Loop
from keystead.worker.outcomes import OutcomeJoiner
from keystead.worker.refusals import RefusalStager, RefusalTeller
from keystead.worker.retention import AllowanceKeeper, UsageKeeper
from keystead.worker.rotations import RotationKeeper
from keystead.worker.usage import LARGE_STRETCH_CALLS, STRETCH_CALLS, UsageFlusher

_LAST_USE_INTERVAL_MS = 2_000
_ALLOWANCES_INTERVAL_MS = 10_000
_HOUSEKEEPING_INTERVAL_MS = 60_000
_ROTATIONS_INTERVAL_MS = 10_000
_CHECKPOINTS_INTERVAL_MS = 5_000
_LOG_CUTS_INTERVAL_MS = 5_000
_RETENTION_INTERVAL_MS = 300_000
_USAGE_INTERVAL_MS = 1_000
_STAGING_INTERVAL_MS = 3_000
_REFUSALS_INTERVAL_MS = 5_000
_JOURNALS_INTERVAL_MS = 15_000


async def start_loops(stack: AsyncExitStack, watched: Watched, settings: Settings) -> None:
    """Begin them all; they end with ``stack``, the last one first."""
    served = watched.core
    log = await _log_loops(stack, watched, settings)
    usage = await _usage_loops(stack, watched, settings)
    for loop in (*usage, *log, *_key_loops(served)):
        watched.loops.append(loop)
        loop.start()
        stack.push_async_callback(loop.stop)
    stack.callback(_end_counting, served)  # before the loops go round once more, so that the journal ends with them
    carrying, watched.sinks = await served.sinking.start(
        stack, served.units, served.audit, holder=served.waking.name, dead=served.waking.dead
    )
    watched.loops.extend(carrying)
    if (told := await start_feed(stack, served, settings)) is not None:
        watched.feed = told.status


async def _log_loops(stack: AsyncExitStack, watched: Watched, settings: Settings) -> list[Loop]:
    """Follow the event log, from where it stands now, and prove it."""
    served = watched.core
    waking = served.waking
    watched.follower = follower = LogFollower(
        log=served.log,
        touches=served.touches,
        lease=served.lease,
        clock=served.clock,
        dated_until_ms=waking.dated_until_ms,
        on_applied=waking.keeper.applied,
        on_placed=partial(_placed, served),
    )
    stack.push_async_callback(follower.close)
    following = await waking.start(stack, follower.turn, interval_ms=settings.poll_interval_ms)
    watched.checkpoints = checkpoints = CheckpointKeeper(served.checkpointer, served.checkpoints, served.clock)
    watched.teller = teller = RefusalTeller(served.refusals, served.clock)
    shelf = SqlLogShelf(served.database, SqlSinkPlaces(served.database).least_next_index)
    watched.cuts = cuts = LogKeeper(LogCutter(shelf, served.units, served.clock), shelf, served.clock)
    return [
        *following,
        Loop("sign checkpoints", checkpoints.turn, interval_ms=_CHECKPOINTS_INTERVAL_MS),
        Loop("forget old events", cuts.turn, interval_ms=_LOG_CUTS_INTERVAL_MS),
        Loop("tell refusals", teller.turn, interval_ms=_REFUSALS_INTERVAL_MS),
    ]


def _placed(served: Core) -> None:
    """Let those know at once who read the log in its order: other processes, and what carries to sinks."""
    served.waking.placed()
    served.sinking.placed()


async def _usage_loops(stack: AsyncExitStack, watched: Watched, settings: Settings) -> list[Loop]:
    """Count what was answered, how it ended, and forget what is old."""
    served = watched.core
    shelves = UsageKeeper(SqlUsageShelf(served.database), served.retention, served.clock)
    await shelves.begin()
    flushers = _flushers(stack, watched, LARGE_STRETCH_CALLS if settings.usage_store else STRETCH_CALLS)
    watched.joiner = joiner = OutcomeJoiner(served.outcomes, served.clock)
    watched.journals = JournalWatch(served.usage)
    attempts, stager, flusher = flushers
    await flusher.turn()
    return [
        Loop("count usage", partial(_count, attempts, flusher), interval_ms=_USAGE_INTERVAL_MS, once_more=True),
        # It ends before the one above, which lets no journal go whose refusals wait.
        Loop("stage refusals", stager.turn, interval_ms=_STAGING_INTERVAL_MS, once_more=True),
        Loop("join outcomes", joiner.turn, interval_ms=_USAGE_INTERVAL_MS),
        Loop("watch journals", watched.journals.turn, interval_ms=_JOURNALS_INTERVAL_MS),
        Loop("forget old usage", shelves.turn, interval_ms=_RETENTION_INTERVAL_MS),
    ]


def _key_loops(served: Core) -> list[Loop]:
    """Look after keys, their limits, and replies that are remembered."""
    saver = LastUseSaver(served.uses, served.last_uses)
    quotas = AllowanceKeeper(SqlAllowanceShelf(served.database), served.clock)
    keeper = Housekeeper(SqlReplyKeeper(served.database), served.clock)
    rotations = RotationKeeper(SqlOverdueKeys(served.database), served.units, served.clock)
    return [
        Loop("save last uses", saver.turn, interval_ms=_LAST_USE_INTERVAL_MS, once_more=True),
        Loop("forget old quotas", quotas.turn, interval_ms=_RETENTION_INTERVAL_MS),
        Loop("give back allowances", served.limiting.blocks.turn, interval_ms=_ALLOWANCES_INTERVAL_MS),
        Loop("housekeeping", keeper.turn, interval_ms=_HOUSEKEEPING_INTERVAL_MS),
        Loop("see to old secrets", rotations.turn, interval_ms=_ROTATIONS_INTERVAL_MS),
    ]


def _end_counting(served: Core) -> None:
    """Give no more verdicts: a journal that is counted to its end is closed, and nobody waits for this process."""
    if served.counting is not None:
        served.counting.close()


def _flushers(
    stack: AsyncExitStack, watched: Watched, stretch_calls: int
) -> tuple[AttemptFlusher, RefusalStager, UsageFlusher]:
    served = watched.core
    counting = served.counting
    if counting is None:
        message = "a server needs a journal"
        raise ValueError(message)
    watched.pages = pages = MappedPages(counting.attempts, served.clock)
    watched.refusals = refusals = MappedPages(counting.refusals, served.clock)
    watched.stretches = MappedStretches(counting.journal, served.clock, pages, refusals)
    stack.callback(watched.stretches.let_go)
    watched.attempts = AttemptFlusher(pages, served.attempt_store)
    watched.flusher = UsageFlusher(
        watched.stretches, served.usage, served.clock, stretch_calls=stretch_calls, node=socket.gethostname()
    )
    watched.stager = RefusalStager(refusals, served.refusals)
    return watched.attempts, watched.stager, watched.flusher


async def _count(attempts: AttemptFlusher, flusher: UsageFlusher) -> None:
    """Count attempts first, so that usage is complete up to now; what one cannot do does not keep the other."""
    try:
        await attempts.turn()
    finally:
        await flusher.turn()
