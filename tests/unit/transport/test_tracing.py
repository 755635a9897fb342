"""Spans of calls: who decides, what they tell, and what they never tell."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import pytest
import structlog
from google.protobuf.message import Message
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from keystead.gen.v1 import usage_pb2, verification_pb2
from keystead.kernel.errors import UnavailableError
from keystead.transport.calls import Call, Outcome
from keystead.transport.contract import service_methods
from keystead.transport.tracing import TracedDispatcher

METHODS = {method.name: method for method in service_methods()}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"
VERDICT = verification_pb2.VerifyKeyResponse(
    code=verification_pb2.VerifyKeyResponse.EXPIRED, verification_id="ver_1", key_id="key_1", owner_id="o"
)
SECRET = "acme_live_secret"


def call_of(name: str = "VerifyKey", *, traceparent: str = "") -> Call:
    """Make a call."""
    headers = [("authorization", f"Bearer {SECRET}"), *([("traceparent", traceparent)] if traceparent else [])]
    return Call(METHODS[name], headers, "", None)


class Desk:
    """A traced dispatcher that gives one answer, or raises; ``batched`` are the sizes of the batches it got."""

    def __init__(self, sampling: float, outcome: Message | bytes | Exception = VERDICT) -> None:
        """Trace the share ``sampling``."""
        self._outcome = outcome
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.batched: list[int] = []
        self.bound: dict[str, Any] = {}
        self.traced = TracedDispatcher(
            self.dispatch,
            self.batch,
            self.stream,
            provider.get_tracer("t"),
            sampling=sampling,
            chooser=random.Random(1),
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended."""
        return self._exporter.get_finished_spans()

    async def dispatch(self, _call: Call, _request: Any) -> Message | bytes:
        """Answer a call."""
        self.bound = structlog.contextvars.get_contextvars()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def batch(self, calls: Sequence[tuple[Call, Any]]) -> list[Outcome]:
        """Answer a batch."""
        self.batched.append(len(calls))
        return [b"answer"] * len(calls)

    async def stream(self, _call: Call, _request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer with one message, then raise if told so."""
        yield usage_pb2.TailCallsResponse()
        if isinstance(self._outcome, Exception):
            raise self._outcome


@pytest.mark.parametrize("outcome", (VERDICT, VERDICT.SerializeToString()))
async def test_a_span_tells_the_method_the_verdict_and_its_id(outcome: Message | bytes) -> None:
    """Usage and outcomes are found by the id in a span, and no secret, key or owner is in one (P1)."""
    desk = Desk(1, outcome)
    assert await desk.traced(call_of(), None) is outcome
    (span,) = desk.spans
    assert span.name == "keystead.v1.VerificationService/VerifyKey"
    assert dict(span.attributes or {}) == {
        "rpc.service": "keystead.v1.VerificationService",
        "rpc.method": "VerifyKey",
        "keystead.code": "EXPIRED",
        "keystead.verification_id": "ver_1",
    }
    assert SECRET not in span.to_json()


async def test_the_callers_trace_goes_on_as_the_caller_decided() -> None:
    """A caller's own trace shows our part of it when it is recorded, and only then, whatever the share is."""
    never, always = Desk(0), Desk(1)
    await never.traced(call_of(traceparent=SAMPLED), None)
    await always.traced(call_of(traceparent=NOT_SAMPLED), None)
    (span,) = never.spans
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == TRACE
    assert always.spans == ()


@pytest.mark.parametrize("broken", ("rubbish", "00-0-0-01", "\x00", "é" * 5))
async def test_a_broken_traceparent_is_none(broken: str) -> None:
    """What cannot be read fails no call."""
    desk = Desk(1)
    assert await desk.traced(call_of(traceparent=broken), None) is VERDICT
    (span,) = desk.spans
    assert span.parent is None


async def test_the_share_is_kept() -> None:
    """Of a thousand calls about as many are traced as was asked for."""
    desk = Desk(0.1)
    for _ in range(1_000):
        await desk.traced(call_of(), None)
    assert 70 < len(desk.spans) < 130


async def test_a_refusal_tells_its_code_and_not_its_text() -> None:
    """A span of a failed call helps, and quotes nothing that a caller sent (P1)."""
    refused, failed = Desk(1, UnavailableError(f"no {SECRET}")), Desk(1, ValueError(SECRET))
    with pytest.raises(UnavailableError):
        await refused.traced(call_of(), None)
    with pytest.raises(ValueError, match=SECRET):
        await failed.traced(call_of(), None)
    (one,), (other,) = refused.spans, failed.spans
    assert (one.attributes or {})["keystead.error_code"] == "unavailable"
    assert (other.attributes or {})["keystead.error_code"] == "internal"
    assert one.status.is_unset
    assert not other.status.is_ok
    assert SECRET not in one.to_json() + other.to_json()


async def test_log_lines_of_a_traced_call_name_the_trace() -> None:
    """From a line in the log one gets to the trace."""
    desk = Desk(1)
    await desk.traced(call_of(traceparent=SAMPLED), None)
    assert desk.bound["trace_id"] == TRACE


def test_only_traced_calls_leave_their_batch() -> None:
    """Tracing one call does not slow the others, and each call gets its own answer."""
    desk = Desk(0)
    answers = desk.traced.verify_now([(call_of(), 1), (call_of(traceparent=SAMPLED), 2), (call_of(), 3)])
    assert answers == [b"answer", None, b"answer"]
    assert desk.traced.verify_now([(call_of(traceparent=SAMPLED), 4)]) == [None]
    assert desk.traced.verify_now([(call_of(), 5)]) == [b"answer"]
    assert desk.batched == [2, 1]


async def test_what_was_decided_stays_decided() -> None:
    """A call that left its batch to be traced is traced, and one that was not drawn is not drawn again."""
    desk = Desk(0.5)
    calls = [call_of() for _ in range(100)]
    answers = desk.traced.verify_now([(call, None) for call in calls])
    for call in calls:
        await desk.traced(call, None)
    assert len(desk.spans) == answers.count(None)


@pytest.mark.parametrize(("outcome", "code"), ((VERDICT, None), (UnavailableError("Away."), "unavailable")))
async def test_a_stream_has_one_span(outcome: Message | Exception, code: str | None) -> None:
    """A stream's span lasts as long as the stream and tells how it ended."""
    desk = Desk(1, outcome)
    try:
        async for _ in desk.traced.stream(call_of("TailCalls"), VERDICT):
            assert desk.spans == ()
    except UnavailableError as error:
        assert error is outcome  # noqa: PT017 -- one of the cases raises nothing
    (span,) = desk.spans
    assert (span.attributes or {}).get("keystead.error_code") == code


async def test_a_stream_that_is_not_traced_is_untouched() -> None:
    """Its messages pass."""
    desk = Desk(0)
    assert len([message async for message in desk.traced.stream(call_of("TailCalls"), VERDICT)]) == 1
    assert desk.spans == ()
