"""Times and endings of calls, around a dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.message import Message

from keystead.gen.v1 import keys_pb2, usage_pb2
from keystead.kernel.errors import KeysteadError, UnavailableError
from keystead.transport.calls import Call, Outcome
from keystead.transport.contract import service_methods
from keystead.transport.measuring import CallMeasures, MeasuredDispatcher

METHODS = {method.name: method for method in service_methods()}
REPLY = keys_pb2.GetKeyResponse()
GONE = UnavailableError("Away.")


def call_of(name: str = "GetKey") -> Call:
    """Make a call."""
    return Call(METHODS[name], (), "", None)


class Desk:
    """A dispatcher that does as it is told: it answers, or raises."""

    def __init__(self, outcome: Message | BaseException = REPLY, batch: Sequence[Outcome] = ()) -> None:
        """Answer every call with ``outcome``, and a batch with ``batch``."""
        self._outcome = outcome
        self._batch = batch
        self.measures = CallMeasures()
        self.measured = MeasuredDispatcher(
            self.dispatch, lambda _: self._batch, self.stream, self.measures, batch_method="VerifyKey"
        )

    async def dispatch(self, _call: Call, _request: Any) -> Message | bytes:
        """Answer a call."""
        assert self.measures.running == 1
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    async def stream(self, _call: Call, _request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer with one message, then as a call."""
        yield usage_pb2.TailCallsResponse()
        if isinstance(self._outcome, BaseException):
            raise self._outcome

    @property
    def counted(self) -> dict[tuple[str, str], int]:
        """How many calls ended how."""
        return {key: times.count for key, times in self.measures.durations.items() if times.count}


@pytest.mark.parametrize(
    ("raised", "ending"),
    (
        pytest.param(GONE, "refused", id="a refusal"),
        pytest.param(KeysteadError(public="?"), "failed", id="a fault of ours that has a code"),
        pytest.param(ValueError("?"), "failed", id="a fault of ours"),
        pytest.param(asyncio.CancelledError(), "cancelled", id="a caller who left"),
    ),
)
async def test_a_call_is_counted_by_how_it_ended(raised: BaseException, ending: str) -> None:
    """Faults of ours are told apart from what the caller is told, and nothing that is raised is swallowed."""
    desk = Desk(raised)
    with pytest.raises(type(raised)):
        await desk.measured(call_of(), None)
    assert desk.counted == {("GetKey", ending): 1}
    assert desk.measures.running == 0


async def test_an_answer_passes_and_is_counted() -> None:
    """Measuring changes no answer."""
    desk = Desk()
    assert await desk.measured(call_of(), None) is REPLY
    assert desk.counted == {("GetKey", "ok"): 1}


def test_a_batch_is_counted_call_by_call() -> None:
    """Answers and refusals of a batch are counted apart; what goes the long way is counted there, so only once."""
    outcomes: list[Outcome] = [b"", None, GONE, b"", ValueError(), REPLY]
    desk = Desk(batch=outcomes)
    assert desk.measured.verify_now([(call_of("VerifyKey"), None)] * 6) == outcomes
    assert desk.counted == {("VerifyKey", "ok"): 3, ("VerifyKey", "refused"): 1, ("VerifyKey", "failed"): 1}
    assert not Desk().measured.verify_now([])


@pytest.mark.parametrize(
    ("raised", "ending"), ((None, "ok"), (GONE, "refused"), (asyncio.CancelledError(), "cancelled"))
)
async def test_what_a_batch_leaves_to_be_awaited_is_counted_when_it_ends(
    raised: BaseException | None, ending: str
) -> None:
    """It is under way from when it is awaited, and its time includes the wait."""

    async def rest() -> bytes:
        assert desk.measures.running == 1
        if raised is not None:
            raise raised
        return b"late"

    desk = Desk(batch=[b"now", rest()])
    now, late = desk.measured.verify_now([(call_of("VerifyKey"), None)] * 2)
    assert now == b"now"
    assert isinstance(late, Coroutine)
    if raised is None:
        assert await late == b"late"
    else:
        with pytest.raises(type(raised)):
            await late
    assert desk.counted.pop(("VerifyKey", ending)) == (2 if ending == "ok" else 1)
    assert desk.measures.running == 0


@pytest.mark.parametrize(("outcome", "ending"), ((REPLY, "ok"), (GONE, "refused"), (ValueError(), "failed")))
async def test_a_stream_is_counted_when_it_ends(outcome: Message | Exception, ending: str) -> None:
    """What is open is seen, and how it ended; its length is nobody's latency."""
    desk = Desk(outcome)
    try:
        async for _ in desk.measured.stream(call_of("TailCalls"), REPLY):
            assert desk.measures.streams_open["TailCalls"] == 1
    except (KeysteadError, ValueError) as error:
        assert error is outcome  # noqa: PT017 -- one of three cases raises nothing
    assert desk.measures.streams_ended == {("TailCalls", ending): 1}
    assert desk.measures.streams_open["TailCalls"] == 0
    assert desk.counted == {}


async def test_a_stream_that_is_left_was_cancelled() -> None:
    """A caller who has seen enough is no fault."""
    desk = Desk()
    async with aclosing(desk.measured.stream(call_of("TailCalls"), REPLY)) as messages:
        await anext(messages)
    assert desk.measures.streams_ended == {("TailCalls", "cancelled"): 1}
