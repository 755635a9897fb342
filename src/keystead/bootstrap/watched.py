"""The parts of a running server that count something, and how it is read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from keystead.adapters.bcrypt.hashing import Pool
from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.journal import MappedJournal
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.adapters.prometheus.collector import Reading
from keystead.bootstrap.core import Core
from keystead.events.refusals import RefusalPage, Refused
from keystead.kernel.measures import Histogram
from keystead.transport.measuring import CallMeasures
from keystead.usage.journals import JournalSummary
from keystead.usage.model import Attempt, AttemptPage
from keystead.worker.attempts import AttemptFlusher
from keystead.worker.checkpoints import CheckpointKeeper
from keystead.worker.entitlements import FeedStatus
from keystead.worker.follower import LogFollower
from keystead.worker.journals import JournalWatch
from keystead.worker.log_cuts import LogKeeper
from keystead.worker.loop import Loop
from keystead.worker.outcomes import OutcomeJoiner
from keystead.worker.refusals import RefusalStager, RefusalTeller
from keystead.worker.sinks import SinkCarrier
from keystead.worker.usage import UsageFlusher


@dataclass(slots=True)
class Watched:
    """The parts of a server that count something; what this server does not run is None."""

    core: Core
    calls: CallMeasures = field(default_factory=CallMeasures)
    loops: list[Loop] = field(default_factory=list)
    follower: LogFollower | None = None
    flusher: UsageFlusher | None = None
    stretches: MappedStretches | None = None
    attempts: AttemptFlusher | None = None
    pages: MappedPages[Attempt, AttemptPage] | None = None
    joiner: OutcomeJoiner | None = None
    journals: JournalWatch | None = None
    feed: FeedStatus | None = None
    refusals: MappedPages[Refused, RefusalPage] | None = None
    stager: RefusalStager | None = None
    teller: RefusalTeller | None = None
    checkpoints: CheckpointKeeper | None = None
    cuts: LogKeeper | None = None
    sinks: SinkCarrier | None = None


Part = TypeVar("Part")


def of(part: Callable[[Watched], Part | None], read: Callable[[Part], Reading]) -> Callable[[Watched], Reading]:
    """Read something of a part; nothing when the server does not run it."""

    def of_part(watched: Watched) -> Reading:
        found = part(watched)
        return None if found is None else read(found)

    return of_part


def journal(watched: Watched) -> MappedJournal | None:
    """This process's journal."""
    return None if watched.core.counting is None else watched.core.counting.journal


def follower(watched: Watched) -> LogFollower | None:
    """The reader of the event log."""
    return watched.follower


def flusher(watched: Watched) -> UsageFlusher | None:
    """The worker that counts usage."""
    return watched.flusher


def stretches(watched: Watched) -> MappedStretches | None:
    """What waits in journals."""
    return watched.stretches


def attempts(watched: Watched) -> AttemptFlusher | None:
    """The worker that counts attempts."""
    return watched.attempts


def joiner(watched: Watched) -> OutcomeJoiner | None:
    """The worker that joins outcomes."""
    return watched.joiner


def journals(watched: Watched) -> JournalSummary | None:
    """The journals of the whole deployment, as they were seen last."""
    return watched.journals.summary if watched.journals is not None else None


def feed(watched: Watched) -> FeedStatus | None:
    """How the Entitlements feed does."""
    return watched.feed


def lanes(read: Callable[[Pool], float | Histogram]) -> Callable[[Watched], Reading]:
    """Read something of each bcrypt lane."""

    def of_all(watched: Watched) -> Reading:
        values = {str(lane): read(pool) for lane, pool in watched.core.hasher.pools.items()}
        histograms = {lane: value for lane, value in values.items() if isinstance(value, Histogram)}
        return histograms or {lane: value for lane, value in values.items() if not isinstance(value, Histogram)}

    return of_all


def verdicts(watched: Watched) -> Mapping[str, float]:
    """Verdicts by code."""
    return {str(code): count for code, count in watched.core.verification.measures.verdicts.items()}


def reader_lags(watched: Watched) -> Mapping[str, float]:
    """Tell how far behind each reader is; one that has nothing behind it yet, or is not run, is left out."""
    core, now_ms = watched.core, watched.core.clock.now_ms()
    lags_ms: dict[str, int] = {}
    if core.lease.ends_at_ms:
        lags_ms["invalidation"] = core.lease.bound_ms - (core.lease.ends_at_ms - core.clock.monotonic_ms())
    if watched.flusher is not None and watched.flusher.complete_until_ms is not None:
        lags_ms["usage"] = now_ms - watched.flusher.complete_until_ms
    if watched.pages is not None:
        lags_ms["attempts"] = now_ms - watched.pages.seen_until_ms()
    if watched.refusals is not None:
        lags_ms["refusals"] = now_ms - watched.refusals.seen_until_ms()
    if watched.feed is not None and watched.feed.sending and watched.feed.told_to_ms:
        lags_ms["entitlements"] = now_ms - watched.feed.told_to_ms
    return {reader: max(0, lag_ms) / 1_000 for reader, lag_ms in lags_ms.items()}


def lease_s(watched: Watched) -> float:
    """For how long the lease still holds."""
    lease = watched.core.lease
    return max(0, lease.ends_at_ms - watched.core.clock.monotonic_ms()) / 1_000


def feed_failing_s(watched: Watched) -> float | None:
    """For how long every batch has failed."""
    if watched.feed is None:
        return None
    since_ms = watched.feed.failing_since_ms
    return 0.0 if since_ms is None else max(0, watched.core.clock.now_ms() - since_ms) / 1_000
