"""How long each method takes and how it ends, measured around the one dispatcher, so alike on every transport.

Calls that are answered together share the time of their batch evenly: the clock is read twice for all of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import aclosing
from time import perf_counter_ns
from typing import Any, Literal, TypeVar

from google.protobuf.message import Message

from keystead.kernel.errors import KeysteadError
from keystead.kernel.measures import QUICK_BOUNDS_NS, Histogram
from keystead.transport.calls import Batch, Call, Dispatcher, Outcome, StreamDispatcher

Reply = TypeVar("Reply")
Ending = Literal["ok", "refused", "failed", "cancelled"]
"""An answer, a refusal that the caller is told, a fault of ours, or a caller who left."""


class CallMeasures:
    """Times by method and ending, and how many calls are under way; of streams only how many, open and ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.durations: dict[tuple[str, Ending], Histogram] = {}
        self.running = 0
        self.streams_open: Counter[str] = Counter()
        self.streams_ended: Counter[tuple[str, Ending]] = Counter()

    def of(self, method: str, ending: Ending) -> Histogram:
        """Return the times of calls of ``method``, which is one of the contract's, that ended so."""
        found = self.durations.get((method, ending))
        if found is None:
            found = self.durations[method, ending] = Histogram(QUICK_BOUNDS_NS)
        return found


class MeasuredDispatcher:
    """A dispatcher, its batch and its streams, measured."""

    def __init__(
        self,
        dispatch: Dispatcher,
        batch: Batch,
        stream: StreamDispatcher,
        measures: CallMeasures,
        *,
        batch_method: str,
    ) -> None:
        """Measure all three; the calls of a batch are of ``batch_method``."""
        self._dispatch = dispatch
        self._batch = batch
        self._stream = stream
        self._measures = measures
        self._batch_method = batch_method
        self._answered = measures.of(batch_method, "ok")

    async def __call__(self, call: Call, request: Any) -> Message | bytes:
        """Answer ``call`` as the dispatcher does."""
        return await self._measured(self._dispatch(call, request), call.method.name, perf_counter_ns())

    def verify_now(self, calls: Sequence[tuple[Call, Any]]) -> Sequence[Outcome]:
        """Answer a batch as it does; calls that are sent the long way are measured there."""
        began_ns = perf_counter_ns()
        outcomes = list(self._batch(calls))
        count = answered = len(outcomes)
        if not count:
            return outcomes
        share_ns = (perf_counter_ns() - began_ns) // count
        for place, outcome in enumerate(outcomes):
            if outcome.__class__ is not bytes:
                answered -= 1
                outcomes[place] = self._observed_other(outcome, share_ns)
        if answered:
            self._answered.observe(share_ns, answered)
        return outcomes

    def _observed_other(self, outcome: Outcome, duration_ns: int) -> Outcome:
        """Measure what is not an answer in bytes; None and what is awaited are measured when they are answered."""
        if isinstance(outcome, Coroutine):
            return self._measured(outcome, self._batch_method, perf_counter_ns() - duration_ns)
        if outcome is not None:
            ending = ending_of(outcome) if isinstance(outcome, Exception) else "ok"
            self._measures.of(self._batch_method, ending).observe(duration_ns)
        return outcome

    async def _measured(self, rest: Awaitable[Reply], method: str, began_ns: int) -> Reply:
        measures = self._measures
        measures.running += 1
        ending: Ending = "failed"
        try:
            answer = await rest
            ending = "ok"
            return answer
        except KeysteadError as refused:
            ending = ending_of(refused)
            raise
        except asyncio.CancelledError:
            ending = "cancelled"
            raise
        finally:
            measures.running -= 1
            measures.of(method, ending).observe(perf_counter_ns() - began_ns)

    async def stream(self, call: Call, request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer a stream as it does."""
        measures, method = self._measures, call.method.name
        measures.streams_open[method] += 1
        ending: Ending = "failed"
        try:
            async with aclosing(self._stream(call, request)) as messages:
                async for message in messages:
                    yield message
            ending = "ok"
        except KeysteadError as refused:
            ending = ending_of(refused)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            ending = "cancelled"
            raise
        finally:
            measures.streams_open[method] -= 1
            measures.streams_ended[method, ending] += 1


def ending_of(error: Exception) -> Ending:
    """Say whether ``error`` is a refusal or a fault."""
    return "refused" if isinstance(error, KeysteadError) and error.code != "internal" else "failed"
