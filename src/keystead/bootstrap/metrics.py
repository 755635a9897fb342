"""Every metric there is, one row each, and how it is read from the parts of a running server.

A new metric is a new row here. Labels have few values, known beforehand; no row may read an id, an address or anything
that a caller wrote. ``docs/reference/metrics.md`` is made from this table, and the dashboard and the alerts in
``deploy/`` are checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keystead import __version__
from keystead.adapters.prometheus.collector import Metric
from keystead.bootstrap.limit_metrics import LIMITS
from keystead.bootstrap.refusal_metrics import REFUSED
from keystead.bootstrap.sink_metrics import SINKS
from keystead.bootstrap.waking_metrics import WAKING
from keystead.bootstrap.watched import (
    Watched,
    attempts,
    feed,
    feed_failing_s,
    flusher,
    follower,
    joiner,
    journal,
    journals,
    lanes,
    lease_s,
    of,
    reader_lags,
    stretches,
    verdicts,
)
from keystead.transport.refusals import COUNTS as REFUSALS

_GENERAL: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_build_info",
        "gauge",
        "Always 1; the version is its label.",
        lambda _: {__version__: 1.0},
        ("version",),
    ),
    Metric(
        "keystead_loop_lag_seconds",
        "gauge",
        "Since each loop began its last step that came to a good end.",
        lambda it: {loop.name: loop.behind_s for loop in it.loops},
        ("loop",),
    ),
    Metric(
        "keystead_loop_interval_seconds",
        "gauge",
        "How long each loop waits between two steps.",
        lambda it: {loop.name: loop.interval_s for loop in it.loops},
        ("loop",),
    ),
    Metric(
        "keystead_reader_lag_seconds",
        "gauge",
        "How old the newest thing is that each reader is sure to have missed nothing before.",
        reader_lags,
        ("reader",),
    ),
)

_CALLS: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_rpc_duration_seconds",
        "histogram",
        "How long calls took from being decoded to being answered; warm VerifyKey calls that came in together share "
        "the time of their batch.",
        lambda it: dict(it.calls.durations),
        ("method", "ending"),
    ),
    Metric(
        "keystead_rpcs_running", "gauge", "Calls under way that had to wait for something.", lambda it: it.calls.running
    ),
    Metric(
        "keystead_streams_open",
        "gauge",
        "Streams that are open.",
        lambda it: dict(it.calls.streams_open),
        ("method",),
    ),
    Metric(
        "keystead_streams_ended_total",
        "counter",
        "Streams that ended, and how.",
        lambda it: dict(it.calls.streams_ended),
        ("method", "ending"),
    ),
    Metric(
        "keystead_refusals_total",
        "counter",
        "Calls that got an error in place of an answer, by the error's code.",
        lambda _: dict(REFUSALS),
        ("code",),
    ),
)

_VERIFICATION: Sequence[Metric[Watched]] = (
    Metric("keystead_verdicts_total", "counter", "Verdicts that were given, peeks among them.", verdicts, ("code",)),
    Metric(
        "keystead_verdicts_degraded_total",
        "counter",
        "Verdicts that nobody could vouch for, given because serve_stale is set.",
        lambda it: it.core.verification.measures.degraded,
    ),
    Metric(
        "keystead_verification_duration_seconds",
        "histogram",
        "How long verdicts took: warm is a sample of one in sixteen about secrets in memory, cold is every one about a "
        "secret that was looked for in the database.",
        lambda it: {"warm": it.core.verification.measures.warm, "cold": it.core.verification.measures.cold},
        ("way",),
    ),
    Metric(
        "keystead_cache_hits_total",
        "counter",
        "Verifications whose secret was in memory.",
        lambda it: it.core.verification.measures.hits,
    ),
    Metric(
        "keystead_cache_misses_total",
        "counter",
        "Verifications whose secret was not in memory, forged ones among them.",
        lambda it: it.core.verification.measures.misses,
    ),
    Metric("keystead_cache_secrets", "gauge", "Proven secrets in memory.", lambda it: it.core.resolver.held.secrets),
    Metric(
        "keystead_cache_evictions_total",
        "counter",
        "Proven secrets that had to make room for others.",
        lambda it: it.core.resolver.held.evicted,
    ),
    Metric(
        "keystead_cache_refused_prefixes",
        "gauge",
        "Prefixes that are known to be refused without asking the database.",
        lambda it: it.core.resolver.held.refused,
    ),
    Metric(
        "keystead_cache_searches_running",
        "gauge",
        "Secrets that are being looked for in the database.",
        lambda it: it.core.resolver.held.flights,
    ),
    Metric(
        "keystead_bcrypt_waiting_calls",
        "gauge",
        "Calls that wait for a thread of a bcrypt lane.",
        lanes(lambda pool: pool.waiting),
        ("lane",),
    ),
    Metric(
        "keystead_bcrypt_shed_total",
        "counter",
        "Calls that were refused because a bcrypt lane was full.",
        lanes(lambda pool: pool.shed),
        ("lane",),
    ),
    Metric(
        "keystead_bcrypt_duration_seconds",
        "histogram",
        "How long one hash took on its thread.",
        lanes(lambda pool: pool.took),
        ("lane",),
    ),
    Metric(
        "keystead_bcrypt_wait_seconds",
        "histogram",
        "How long calls waited for a thread of a bcrypt lane.",
        lanes(lambda pool: pool.waited),
        ("lane",),
    ),
)

_LOG: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_lease_remaining_seconds",
        "gauge",
        "For how long this process may still vouch for what it has in memory, if it does not hear from the database.",
        lease_s,
    ),
    Metric(
        "keystead_lease_bound_seconds",
        "gauge",
        "How long a lease lasts that was just renewed (staleness_bound_ms).",
        lambda it: it.core.lease.bound_ms / 1_000,
    ),
    Metric(
        "keystead_log_applied_seq",
        "gauge",
        "The place in the event log up to which this process has read it.",
        of(follower, lambda it: it.applied_seq),
    ),
    Metric(
        "keystead_log_events_total",
        "counter",
        "Events that this process has read in their places.",
        of(follower, lambda it: it.events_read),
    ),
    Metric(
        "keystead_log_unplaced_events",
        "gauge",
        "Events without a place in the log yet, when it was last read.",
        of(follower, lambda it: it.unplaced),
    ),
    Metric(
        "keystead_log_rewritten_workspaces",
        "gauge",
        "Workspaces whose log was not the one that was signed when this process last looked: somebody touched it.",
        lambda it: None if it.checkpoints is None else it.checkpoints.rewritten,
    ),
    Metric(
        "keystead_log_forgotten_total",
        "counter",
        "Events that this process has deleted because their workspace's retention was over; their hashes stay.",
        lambda it: None if it.cuts is None else it.cuts.events_forgotten,
    ),
)

_USAGE: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_journal_waiting_bytes",
        "gauge",
        "Verdicts of this process that are written down and not counted yet.",
        of(journal, lambda it: it.waiting_bytes),
    ),
    Metric(
        "keystead_journal_reserved_bytes",
        "gauge",
        "Room on the disk that this process's journal takes.",
        of(journal, lambda it: it.reserved_bytes),
    ),
    Metric(
        "keystead_journal_reserved_max_bytes",
        "gauge",
        "Room on the disk that it may take before journal_when_full is what happens.",
        of(journal, lambda it: it.reserved_bytes_max),
    ),
    Metric(
        "keystead_journal_dropped_total",
        "counter",
        "Verdicts that were given and not written down, since the journal was full.",
        of(journal, lambda it: it.dropped),
    ),
    Metric(
        "keystead_journal_damaged_total",
        "counter",
        "Gaps, verdicts without a subject and segments in journals that could not be read.",
        of(stretches, lambda it: it.damaged),
    ),
    Metric(
        "keystead_journals",
        "gauge",
        "Journals in the data directory that are not counted to their end: this process's, and those of dead ones.",
        of(flusher, lambda it: it.journals),
    ),
    Metric(
        "keystead_deployment_open_journals",
        "gauge",
        "Journals of all nodes that usage waits for; every node tells the same.",
        of(journals, lambda it: it.open),
    ),
    Metric(
        "keystead_deployment_lost_journals",
        "gauge",
        "Journals of all nodes that were declared lost and did not come back; every node tells the same.",
        of(journals, lambda it: it.lost),
    ),
    Metric(
        "keystead_deployment_journal_silent_seconds",
        "gauge",
        "For how long nobody has reported the open journal of all nodes that was reported longest ago; while it grows, "
        "usage is complete for nobody.",
        of(journals, lambda it: it.silent_ms / 1_000),
    ),
    Metric(
        "keystead_usage_counted_calls_total",
        "counter",
        "Verdicts that this process has carried from journals to where they are counted.",
        of(flusher, lambda it: it.calls_counted),
    ),
    Metric(
        "keystead_usage_flush_duration_seconds",
        "histogram",
        "How long it took to count a stretch of at most 5,000 verdicts.",
        of(flusher, lambda it: it.took),
    ),
    Metric(
        "keystead_attempts_counted_total",
        "counter",
        "Verdicts about no key that this process has carried to where they are counted.",
        of(attempts, lambda it: it.attempts_counted),
    ),
    Metric(
        "keystead_attempts_dropped_total",
        "counter",
        "Verdicts about no key that were given and not counted, since there was no room.",
        lambda it: None if it.core.counting is None else it.core.counting.attempts.dropped,
    ),
    Metric(
        "keystead_outcomes_total",
        "counter",
        "Reported outcomes that this process has settled: joined to their calls, repeated, or dropped after an hour "
        "without their call.",
        of(joiner, lambda it: {"joined": it.joined, "repeated": it.repeated, "dropped": it.dropped}),
        ("result",),
    ),
    Metric(
        "keystead_entitlements_sending",
        "gauge",
        "1 on the one node that sends to the Entitlements service.",
        of(feed, lambda it: float(it.sending)),
    ),
    Metric(
        "keystead_entitlements_pending_events",
        "gauge",
        "Events that the Entitlements service has not acknowledged; the node that sends knows.",
        of(feed, lambda it: it.pending_events),
    ),
    Metric(
        "keystead_entitlements_acknowledged_total",
        "counter",
        "Events that the Entitlements service has acknowledged to this process.",
        of(feed, lambda it: it.acknowledged_events),
    ),
    Metric(
        "keystead_entitlements_failed_batches_total",
        "counter",
        "Batches that the Entitlements service did not take.",
        of(feed, lambda it: it.failed_batches),
    ),
    Metric(
        "keystead_entitlements_refused_total",
        "counter",
        "Events that the Entitlements service will not take, however often they are sent.",
        of(feed, lambda it: it.refused_events),
    ),
    Metric(
        "keystead_entitlements_failing_seconds",
        "gauge",
        "For how long every batch has failed; 0 while they arrive.",
        feed_failing_s,
    ),
)

GROUPS: Mapping[str, Sequence[Metric[Watched]]] = {
    "General": _GENERAL,
    "Calls": _CALLS,
    "Verification": _VERIFICATION,
    "Limits": LIMITS,
    "The event log": _LOG,
    "Revocation": WAKING,
    "Refusals": REFUSED,
    "Sinks": SINKS,
    "Usage": _USAGE,
}
METRICS: Sequence[Metric[Watched]] = tuple(metric for group in GROUPS.values() for metric in group)
"""Every metric, in the order of its page."""
