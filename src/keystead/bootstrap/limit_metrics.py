"""The metrics of limits: what was decided, whether Redis is there, and what allowances cost the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keystead.adapters.prometheus.collector import Metric, Reading
from keystead.adapters.redis.measures import RedisMeasures
from keystead.bootstrap.watched import Watched, of
from keystead.limits.breaker import BreakerState, BreakingRates
from keystead.verification.limiting import LimitMeasures


def _decided(read: Callable[[LimitMeasures], Reading]) -> Callable[[Watched], Reading]:
    return lambda watched: read(watched.core.limiting.limiter.measures)


def _redis(watched: Watched) -> RedisMeasures | None:
    redis = watched.core.limiting.redis
    return None if redis is None else redis.measures


def _breaker(watched: Watched) -> BreakingRates | None:
    return watched.core.limiting.breaker


LIMITS: Sequence[Metric[Watched]] = (
    Metric(
        "keystead_limits_decided_total",
        "counter",
        "Calls that their limits were asked about, peeks among them.",
        _decided(lambda it: {"admitted": it.admitted, "denied": it.denied}),
        ("result",),
    ),
    Metric(
        "keystead_limits_away_total",
        "counter",
        "Calls decided while the store of buckets and windows did not answer, by what their plan chose, and marked as "
        "degraded.",
        _decided(lambda it: {"deny": it.denied_away, "allow": it.allowed_away, "local": it.local_away}),
        ("policy",),
    ),
    Metric(
        "keystead_limits_counters",
        "gauge",
        "Buckets and windows that are counted in this process.",
        lambda it: sum(store.held for store in it.core.limiting.stores),
    ),
    Metric(
        "keystead_limits_full_total",
        "counter",
        "Calls that found this process full of buckets and windows in use (limit_counters).",
        lambda it: sum(store.refused for store in it.core.limiting.stores),
    ),
    Metric(
        "keystead_redis_connected",
        "gauge",
        "1 while there is a connection to Redis.",
        of(_redis, lambda it: float(it.connected)),
    ),
    Metric(
        "keystead_redis_connections_total",
        "counter",
        "Connections to Redis that were made.",
        of(_redis, lambda it: it.connections),
    ),
    Metric(
        "keystead_redis_decisions_total",
        "counter",
        "Decisions that Redis gave.",
        of(_redis, lambda it: it.decisions),
    ),
    Metric(
        "keystead_redis_writes_total",
        "counter",
        "Writes to Redis, each with everything that was asked in one turn of the event loop.",
        of(_redis, lambda it: it.batches),
    ),
    Metric(
        "keystead_redis_failures_total",
        "counter",
        "Questions that got no answer in time, an error, or no connection to be asked on.",
        of(_redis, lambda it: {"timeout": it.timeouts, "error": it.errors, "refused": it.refused}),
        ("result",),
    ),
    Metric(
        "keystead_redis_duration_seconds",
        "histogram",
        "From a question's write to its answer.",
        of(_redis, lambda it: it.latency),
    ),
    Metric(
        "keystead_limits_breaker_open",
        "gauge",
        "1 while calls do not ask Redis, since it failed a moment ago.",
        of(_breaker, lambda it: float(it.state is not BreakerState.CLOSED)),
    ),
    Metric(
        "keystead_limits_breaker_openings_total",
        "counter",
        "Outages of Redis that this process has seen.",
        of(_breaker, lambda it: it.openings),
    ),
    Metric(
        "keystead_allowance_trips_total",
        "counter",
        "Times that blocks of quotas and credits were fetched from the database or given back.",
        lambda it: it.core.limiting.blocks.measures.trips,
    ),
    Metric(
        "keystead_allowance_failures_total",
        "counter",
        "Those of them that failed.",
        lambda it: it.core.limiting.blocks.measures.failures,
    ),
    Metric(
        "keystead_allowance_units_total",
        "counter",
        "Units of quotas and credits that this process took from the database and gave back to it.",
        lambda it: {
            "taken": it.core.limiting.blocks.measures.taken,
            "given_back": it.core.limiting.blocks.measures.given_back,
        },
        ("result",),
    ),
)
