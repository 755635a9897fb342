"""The metrics of what is refused: calls by reason, and how counts get into the event log."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.adapters.prometheus.collector import Metric
from keystead.bootstrap.watched import Watched
from keystead.keys.errors import RefusedFor

REFUSED: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_calls_refused_total",
        "counter",
        "Calls whose caller was not authenticated or lacked a right, by the reason that the event log tells.",
        lambda it: {str(reason): it.core.refused_calls.by_reason[reason] for reason in RefusedFor},
        ("reason",),
    ),
    Metric(
        "keystead_refusals_staged_total",
        "counter",
        "Refused calls and failed authentications that this process has carried to the database, to be told there.",
        lambda it: None if it.stager is None else it.stager.staged,
    ),
    Metric(
        "keystead_refusals_told_total",
        "counter",
        "Groups of refusals that this process has turned into events.",
        lambda it: None if it.teller is None else it.teller.told,
    ),
    Metric(
        "keystead_refusals_dropped_total",
        "counter",
        "Refusals that were answered and not counted, since there was no room.",
        lambda it: None if it.core.counting is None else it.core.counting.refusals.dropped,
    ),
    Metric(
        "keystead_failed_attempts_alerts_total",
        "counter",
        "Events that this process has made of an address or a key that passed failed_attempts_alert.",
        lambda it: it.core.refusals.alerts,
    ),
)
