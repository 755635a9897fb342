"""How calls ended, as gateways report it: read, checked whole, and kept until the calls are counted."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from keystead.gen.v1 import verification_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.kernel.ids import is_id
from keystead.keys.principal import Principal
from keystead.usage.latency import LATENCY_MAX_US
from keystead.usage.model import Outcome
from keystead.usage.ports import OutcomeStore

OUTCOMES_MAX = 1_000

# google.rpc.Code, by number, as its own comments map it to HTTP.
HTTP_OF_GRPC = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_HTTP_STATUSES = range(100, 600)
_NANOS = range(1_000_000_000)


class OutcomeHandlers:
    """Serves ``ReportOutcomes`` of ``keystead.v1.VerificationService``; needs no unit of work."""

    def __init__(self, store: OutcomeStore, clock: Clock) -> None:
        """Keep in ``store``."""
        self._store = store
        self._clock = clock

    async def report_outcomes(
        self, caller: Principal, request: verification_pb2.ReportOutcomesRequest
    ) -> verification_pb2.ReportOutcomesResponse:
        """Keep one report."""
        received = await keep_outcomes(self._store, self._clock, caller, request.outcomes)
        return verification_pb2.ReportOutcomesResponse(received=received)


async def keep_outcomes(
    store: OutcomeStore, clock: Clock, caller: Principal, reported: Sequence[verification_pb2.Outcome]
) -> int:
    """Keep what one message reports, whole or not at all; return how many outcomes that were.

    Raises ``InvalidRequestError`` when there are more than 1,000, or for the first that breaks a bound, by its place
    (``outcomes[3].http_status``). When it returns, they are kept durably.
    """
    outcomes = outcomes_of(reported)
    scope = caller.scope
    if scope is None:  # operators are refused before a handler is called
        message = "an operator reports no outcomes"
        raise ValueError(message)
    await store.keep(scope, outcomes, at_ms=clock.now_ms())
    return len(outcomes)


def outcomes_of(reported: Sequence[verification_pb2.Outcome]) -> list[Outcome]:
    """Read what was reported; raise ``InvalidRequestError`` for the first that breaks a bound."""
    if len(reported) > OUTCOMES_MAX:
        raise invalid("outcomes", f"must have at most {OUTCOMES_MAX} entries, not {len(reported)}")
    return [_outcome_of(f"outcomes[{index}]", item) for index, item in enumerate(reported)]


def _outcome_of(path: str, item: verification_pb2.Outcome) -> Outcome:
    bounds = Bounds()
    if not is_id(item.verification_id, "ver"):
        bounds.add(f"{path}.verification_id", "must be an id that begins with ver_")
    latency_us = _latency_us(bounds, f"{path}.latency", item.latency) if item.HasField("latency") else None
    http_status = _http_status(bounds, path, item)
    bounds.raise_if_any()
    return Outcome(item.verification_id, http_status, latency_us)


def _http_status(bounds: Bounds, path: str, item: verification_pb2.Outcome) -> int:
    """Return the HTTP status of what was reported in either form."""
    form = item.WhichOneof("status")
    if form is None:
        bounds.add(f"{path}.http_status", "must be given, unless grpc_status is")
    elif form == "http_status" and item.http_status not in _HTTP_STATUSES:
        bounds.add(f"{path}.http_status", "must be 100 to 599")
    elif form == "grpc_status" and item.grpc_status >= len(HTTP_OF_GRPC):
        bounds.add(f"{path}.grpc_status", f"must be 0 to {len(HTTP_OF_GRPC) - 1}")
    elif form == "grpc_status":
        return HTTP_OF_GRPC[item.grpc_status]
    return int(item.http_status)


def _latency_us(bounds: Bounds, path: str, latency: Duration) -> int:
    """Read a latency to the microsecond, rounded down."""
    found_us = latency.seconds * 1_000_000 + latency.nanos // 1_000
    if latency.nanos not in _NANOS or not 0 <= found_us <= LATENCY_MAX_US:
        bounds.add(path, "must be 0 s to 3,600 s")
    return found_us
