"""One span for each call that is traced, around the one dispatcher, so alike on every transport.

A caller that sends W3C's ``traceparent`` has decided for us; of the others a share is drawn. A call that is not traced
makes no span at all, and stays in its batch. A span never holds a secret: what it tells is counted off below.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from google.protobuf.message import Message
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from keystead.kernel.errors import InvalidRequestError, KeysteadError
from keystead.transport.calls import Batch, Call, Dispatcher, Outcome, StreamDispatcher

TRACEPARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


class TracedDispatcher:
    """A dispatcher, its batch and its streams, traced."""

    def __init__(
        self,
        dispatch: Dispatcher,
        batch: Batch,
        stream: StreamDispatcher,
        tracer: Tracer,
        *,
        sampling: float,
        chooser: random.Random | None = None,
    ) -> None:
        """Trace with ``tracer`` the share ``sampling`` (0 to 1) of the calls whose callers did not decide."""
        self._dispatch = dispatch
        self._batch = batch
        self._stream = stream
        self._tracer = tracer
        self._sampling = sampling
        self._chooser = chooser or random.Random()  # noqa: S311 -- which calls are traced is no secret

    async def __call__(self, call: Call, request: Any) -> Message | bytes:
        """Answer ``call`` as the dispatcher does."""
        if not self._chosen(call):
            return await self._dispatch(call, request)
        with self._tracer.start_as_current_span(
            _name(call),
            context=_parent(call),
            kind=SpanKind.SERVER,
            attributes=_attributes(call),
            record_exception=False,  # an exception's text may quote what a caller sent (P1)
            set_status_on_exception=False,
        ) as span:
            # Bound for the rest of the call's own task: what is logged of a refusal is logged after the span.
            structlog.contextvars.bind_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id))
            try:
                reply = await self._dispatch(call, request)
            except BaseException as error:
                _tell_failure(span, error)
                raise
            _tell_reply(span, call, reply)
            return reply

    def verify_now(self, calls: Sequence[tuple[Call, Any]]) -> Sequence[Outcome]:
        """Answer a batch as it does, but for the calls that are traced: those go the long way, where they are alone."""
        chosen = [self._chosen(call) for call, _ in calls]
        if not any(chosen):
            return self._batch(calls)
        rest = [it for it, traced in zip(calls, chosen, strict=True) if not traced]
        answers = iter(self._batch(rest) if rest else ())
        return [None if traced else next(answers) for traced in chosen]

    async def stream(self, call: Call, request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer a stream as it does; its span lasts as long."""
        if not self._chosen(call):
            async with aclosing(self._stream(call, request)) as messages:
                async for message in messages:
                    yield message
            return
        span = self._tracer.start_span(
            _name(call), context=_parent(call), kind=SpanKind.SERVER, attributes=_attributes(call)
        )
        try:
            async with aclosing(self._stream(call, request)) as messages:
                async for message in messages:
                    yield message
        except BaseException as error:
            _tell_failure(span, error)
            raise
        finally:
            span.end()

    def _chosen(self, call: Call) -> bool:
        """Decide once for each call."""
        if call.traced is None:
            decided = get_current_span(_parent(call)).get_span_context()
            call.traced = decided.trace_flags.sampled if decided.is_valid else self._chooser.random() < self._sampling
        return call.traced


def _name(call: Call) -> str:
    return f"{call.method.service}/{call.method.name}"


def _attributes(call: Call) -> dict[str, str]:
    return {"rpc.service": call.method.service, "rpc.method": call.method.name}


def _parent(call: Call) -> Context:
    """Read who called; a header that cannot be read is none. ``tracestate`` is not passed on: it may hold anything."""
    try:
        header = call.header(TRACEPARENT)
    except InvalidRequestError:
        header = ""
    return _PROPAGATOR.extract({TRACEPARENT: header}, Context()) if header else Context()


def _tell_failure(span: Span, error: BaseException) -> None:
    code = error.code if isinstance(error, KeysteadError) else "internal"
    if not isinstance(error, Exception):  # the caller left
        code = "cancelled"
    span.set_attribute("keystead.error_code", code)
    if code == "internal":
        span.set_status(Status(StatusCode.ERROR))


def _tell_reply(span: Span, call: Call, reply: Message | bytes) -> None:
    """Tell the verdict, when there is one, and the id by which outcomes and usage know it."""
    if "verification_id" not in call.method.reply.DESCRIPTOR.fields_by_name:
        return
    told: Any = call.method.reply.FromString(reply) if isinstance(reply, bytes) else reply
    code = told.DESCRIPTOR.fields_by_name["code"].enum_type.values_by_number[told.code].name
    span.set_attribute("keystead.code", code)
    span.set_attribute("keystead.verification_id", told.verification_id)
