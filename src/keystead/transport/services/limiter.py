"""The handlers of ``LimitService``."""

from __future__ import annotations

from keystead.gen.v1 import limiter_pb2
from keystead.kernel.errors import invalid
from keystead.keys.principal import Principal
from keystead.tenants.model import Environment
from keystead.transport.context import Context
from keystead.transport.services import conversions, levels, tiers
from keystead.verification.gauges import Check, Gauge, LimitGauges

_SOURCES = {
    "plan": limiter_pb2.LimitGauge.PLAN,
    "owner": limiter_pb2.LimitGauge.OWNER,
    "key": limiter_pb2.LimitGauge.KEY,
}


class LimitHandlers:
    """Serves what is about the limits of a key."""

    def __init__(self, gauges: LimitGauges) -> None:
        """Call ``gauges``."""
        self._gauges = gauges

    async def get_limits(
        self, context: Context, request: limiter_pb2.GetLimitsRequest
    ) -> limiter_pb2.GetLimitsResponse:
        """Say where the limits of a key stand."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        found = await self._gauges.gauges(context.unit, context.caller, key_id)
        return limiter_pb2.GetLimitsResponse(
            limits=[_gauge_message(gauge) for gauge in found.gauges],
            plan_id=found.plan_id,
            plan_name=found.plan_name,
            degraded=found.degraded,
        )

    async def reset_limits(
        self, context: Context, request: limiter_pb2.ResetLimitsRequest
    ) -> limiter_pb2.ResetLimitsResponse:
        """Forget what was spent."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        names = await self._gauges.reset(
            context.unit, context.caller, key_id, names=request.names, reason=request.reason
        )
        return limiter_pb2.ResetLimitsResponse(names=names)

    async def adjust_credits(
        self, context: Context, request: limiter_pb2.AdjustCreditsRequest
    ) -> limiter_pb2.AdjustCreditsResponse:
        """Change a balance."""
        key_id = conversions.demand_id("key_id", request.key_id, "key")
        balance = await self._gauges.adjust(
            context.unit, context.caller, key_id, name=request.name, delta=request.delta, reason=request.reason
        )
        return limiter_pb2.AdjustCreditsResponse(balance=balance)


class CheckHandlers:
    """Serves limits without a key; needs no unit of work."""

    def __init__(self, gauges: LimitGauges) -> None:
        """Call ``gauges``."""
        self._gauges = gauges

    async def check_limit(
        self, caller: Principal, request: limiter_pb2.CheckLimitRequest, headers: dict[str, str] | None = None
    ) -> limiter_pb2.CheckLimitResponse:
        """Decide limits on a subject of the platform's own; where they stand is added to ``headers``."""
        for index, limit in enumerate(request.limits):
            if limit.on:
                raise invalid(f"limits[{index}].on", "must be absent: these are counted on the subject")
        asked = Check(
            subject=request.subject,
            environment=_environment_of(caller, request.environment),
            limits=tiers.limits_of("limits", request.limits),
            cost=request.cost if request.HasField("cost") else 1,
            peek=request.peek,
            on_outage=tiers.outage_policy("on_limiter_outage", request.on_limiter_outage),
        )
        limited = await self._gauges.check(caller, asked)
        if headers is not None:
            headers.update(levels.limit_headers(limited))
        reply = limiter_pb2.CheckLimitResponse(
            allowed=limited.admitted,
            binding_limit=limited.binding,
            degraded=limited.degraded,
        )
        levels.tell_states(reply.limits, limited.states)
        if limited.retry_after_us > 0:
            reply.retry_after.FromMicroseconds(limited.retry_after_us)
        return reply


def _environment_of(caller: Principal, number: int) -> Environment:
    chosen = conversions.chosen("environment", number, conversions.ENVIRONMENTS) or caller.environment
    if chosen is Environment.ALL:
        raise invalid("environment", "must be LIVE or TEST")
    return chosen


def _gauge_message(gauge: Gauge) -> limiter_pb2.LimitGauge:
    message = limiter_pb2.LimitGauge(limit=tiers.limit_message(gauge.limit), source=_SOURCES[gauge.source])
    if gauge.state is not None:
        levels.tell_state(message.state, gauge.state)
    return message
