"""The handlers of ``EntitlementService``."""

from __future__ import annotations

from dataclasses import replace

from keystead.gen.v1 import entitlements_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.keys.principal import Principal
from keystead.tenants.model import Environment, TenantScope
from keystead.transport.services import conversions
from keystead.usage.feed_ports import Ledger
from keystead.usage.meters import Comparison
from keystead.usage.reconciliation import ReconcileQuestion, reconcile

METER_CHARACTERS = 63
_ENVIRONMENTS = {str(name): number for name, number in conversions.ENVIRONMENT_NUMBERS.items()}


class EntitlementHandlers:
    """Serves ``keystead.v1.EntitlementService``; the ledger stands outside the units of work."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Ask ``ledger``."""
        self._ledger = ledger
        self._clock = clock

    async def reconcile_usage(
        self, caller: Principal, request: entitlements_pb2.ReconcileUsageRequest
    ) -> entitlements_pb2.ReconcileUsageResponse:
        """Compare usage with what was acknowledged."""
        found = await reconcile(
            self._ledger, _walls(caller, request.environment), _question(request), now_ms=self._clock.now_ms()
        )
        reply = entitlements_pb2.ReconcileUsageResponse(
            equal=found.equal,
            meters=[_message(it) for it in found.comparisons],
            to=conversions.moment(found.to_ms),
            pending_events=found.pending_events,
        )
        getattr(reply, "from").CopyFrom(conversions.moment(found.from_ms))
        return reply


def _question(request: entitlements_pb2.ReconcileUsageRequest) -> ReconcileQuestion:
    bounds = Bounds()
    if request.owner_id:
        bounds.owner_id("owner_id", request.owner_id)
    bounds.text("meter", request.meter, at_most=METER_CHARACTERS)
    bounds.raise_if_any()
    return ReconcileQuestion(
        from_ms=conversions.moment_ms("from", request, getattr(request, "from")),
        to_ms=conversions.moment_ms("to", request, request.to),
        owner_id=request.owner_id,
        meter=request.meter,
        include_equal=request.include_equal,
    )


def _walls(caller: Principal, asked: int) -> TenantScope:
    """Narrow the caller's walls to the environment asked for."""
    scope = caller.scope
    if scope is None:  # operators are refused before a handler is called
        message = "an operator has no usage"
        raise ValueError(message)
    environment = conversions.chosen("environment", asked, conversions.ENVIRONMENTS)
    if environment is None:
        return scope
    if environment is Environment.ALL:
        raise invalid("environment", "must be LIVE or TEST")
    caller.demand_environment(environment)
    return replace(scope, environments=frozenset({environment}))


def _message(it: Comparison) -> entitlements_pb2.ReconciledMeter:
    return entitlements_pb2.ReconciledMeter(
        owner_id=it.owner_id,
        environment=_ENVIRONMENTS[it.environment],
        meter=it.meter,
        used=it.used,
        acknowledged=it.acknowledged,
        pending=it.pending,
    )
