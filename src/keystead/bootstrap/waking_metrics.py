"""The metrics of revocation: how long a change takes to get here, and whether processes can wake each other."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.adapters.prometheus.collector import Metric
from keystead.adapters.sql.waking import PostgresWaker
from keystead.bootstrap.watched import Watched, follower, of


def _waker(watched: Watched) -> PostgresWaker | None:
    return watched.core.waking.waker


WAKING: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_propagation_seconds",
        "histogram",
        "From the time of an event, by the clock of the process that made it, to its first reading by this process.",
        of(follower, lambda it: it.propagation),
    ),
    Metric(
        "keystead_wake_ups_total",
        "counter",
        "Wake-ups that this process sent to the others, many changes in one, and that it got from them.",
        of(_waker, lambda it: {"sent": it.sent, "received": it.received}),
        ("direction",),
    ),
    Metric(
        "keystead_wake_ups_connected",
        "gauge",
        "1 while this process can be woken; without that it reads the log every poll_interval_ms.",
        of(_waker, lambda it: float(it.listening)),
    ),
)
