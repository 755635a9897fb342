"""The metrics of sinks, by what they carry to; lag and what was set aside are of the whole deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from keystead.adapters.prometheus.collector import Metric, Reading
from keystead.bootstrap.watched import Watched
from keystead.sinks.model import Kind, Summary
from keystead.worker.sinks import SinkMeasures


def _of(read: Callable[[SinkMeasures], Mapping[Kind, float]]) -> Callable[[Watched], Reading]:
    """Read something of what is carried, for every kind; nothing when the server carries to no sinks."""

    def of_all(watched: Watched) -> Reading:
        if watched.sinks is None:
            return None
        found = read(watched.sinks.measures)
        return {str(kind): found.get(kind, 0) for kind in Kind}

    return of_all


def _summary(read: Callable[[Summary], float]) -> Callable[[Watched], Reading]:
    return _of(lambda measures: {kind: read(summary) for kind, summary in measures.summary.items()})


SINKS: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_sink_lag_seconds",
        "gauge",
        "How long the oldest event waits that a sink has not carried yet, paused ones among them; of the whole "
        "deployment, as it was seen in the last seconds.",
        _summary(lambda it: it.lag_ms / 1_000),
        ("kind",),
    ),
    Metric(
        "keystead_sink_dead_letters",
        "gauge",
        "Events that destinations refuse whenever they are asked; of the whole deployment.",
        _summary(lambda it: it.dead_letters),
        ("kind",),
    ),
    Metric(
        "keystead_sink_delivered_total",
        "counter",
        "Events and checkpoints that this process has carried.",
        _of(lambda it: it.delivered),
        ("kind",),
    ),
    Metric(
        "keystead_sink_failures_total",
        "counter",
        "Batches that a destination did not take, or not as they were.",
        _of(lambda it: it.failures),
        ("kind",),
    ),
)
