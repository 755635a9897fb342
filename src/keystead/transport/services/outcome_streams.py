"""The handler of ``StreamOutcomes``: one connection for all reports of a gateway, each answered once it is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from keystead.gen.v1 import verification_pb2
from keystead.kernel.clock import Clock
from keystead.keys.principal import Principal
from keystead.transport.services.outcomes import keep_outcomes
from keystead.usage.ports import OutcomeStore


class OutcomeStreamHandlers:
    """Serves what streams of ``keystead.v1.VerificationService``."""

    def __init__(self, store: OutcomeStore, clock: Clock) -> None:
        """Keep in ``store``."""
        self._store = store
        self._clock = clock

    async def stream_outcomes(
        self, caller: Principal, requests: AsyncIterator[verification_pb2.StreamOutcomesRequest]
    ) -> AsyncGenerator[verification_pb2.StreamOutcomesResponse, None]:
        """Keep each report before the next is read, so that a slow store slows its reporters down."""
        received = 0
        async for request in requests:
            received += await keep_outcomes(self._store, self._clock, caller, request.outcomes)
            yield verification_pb2.StreamOutcomesResponse(received=received)
