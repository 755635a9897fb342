"""A stream's way through the dispatcher: the same questions as for a call, asked again while it lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from keystead.gen.v1 import usage_pb2
from keystead.kernel.errors import KeysteadError
from keystead.keys.errors import PermissionDeniedError, UnauthenticatedError
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.transport.calls import Call, methods_of
from keystead.transport.dispatch import CallDispatcher
from keystead.transport.errors import MethodNotFoundError
from keystead.transport.streaming import OpenStreams
from keystead.verification.authentication import Refusals
from tests.rig import caller

TAIL = next(it for it in methods_of(usage_pb2.DESCRIPTOR.services_by_name["UsageService"]) if it.name == "TailCalls")


class Door:
    """An authenticator that knows one caller, for as many looks as it is told."""

    def __init__(self, known: Principal, looks: int = 1_000_000) -> None:
        """Know ``known``."""
        self._known = known
        self.looks = looks

    def warm(self, _authorization: str, _source: object) -> Principal | None:
        """Find nobody after the last look."""
        self.looks -= 1
        return self._known if self.looks >= 0 else None

    async def authenticate(self, _authorization: str, _source: object) -> Principal:
        """Refuse whoever is not found."""
        raise UnauthenticatedError("revoked")


async def numbers(_caller: Principal, request: Any) -> AsyncGenerator[Message, None]:
    """Stream without end."""
    while True:
        yield usage_pb2.TailCallsResponse(calls=[usage_pb2.UsageCall(operation=request.filter.operation)])


def dispatcher_for(door: Door, refusals: Refusals, handlers: dict[str, Any]) -> CallDispatcher:
    """Make a dispatcher of streams alone; every turn looks at the caller."""
    none = cast("Any", None)
    return CallDispatcher(
        authenticator=cast("Any", door),
        refusals=refusals,
        units=none,
        memory=none,
        verification=none,
        handlers={},
        free_handlers={},
        stream_handlers=handlers,
        streams=OpenStreams(turn_maximum_ms=0),
    )


async def ending_of(dispatcher: CallDispatcher) -> tuple[int, KeysteadError]:
    """Read a stream to its refusal; return how many messages came before, and the refusal."""
    request = usage_pb2.TailCallsRequest(filter=usage_pb2.UsageFilter(operation="list"))
    seen = 0
    call = Call(TAIL, (("authorization", "Bearer x"),), "ipv4:192.0.2.1:1", None)
    try:
        async with aclosing(dispatcher.stream(call, request)) as messages:
            async for message in messages:
                assert cast("Any", message).calls[0].operation == "list"
                seen += 1
    except KeysteadError as refused:
        return seen, refused
    raise AssertionError("it ended well")


@pytest.mark.parametrize("looks", (0, 1, 3))
async def test_a_caller_is_looked_at_before_and_during(looks: int) -> None:
    """Whoever is no longer known is refused, at the door or in the middle, and counted once like any other."""
    refusals = Refusals()
    dispatcher = dispatcher_for(Door(caller(), looks), refusals, {"TailCalls": numbers})
    seen, refused = await ending_of(dispatcher)
    assert seen == max(0, looks - 1)
    assert isinstance(refused, UnauthenticatedError)
    assert refusals.take() == {("TailCalls", "revoked"): 1}


async def test_a_right_is_demanded_before_anything_is_read() -> None:
    """Without the method's scope no handler begins, and the refusal is counted."""
    refusals = Refusals()
    dispatcher = dispatcher_for(Door(replace(caller(), grants=Grants(("read:keys",)))), refusals, {})
    assert isinstance((await ending_of(dispatcher))[1], PermissionDeniedError)
    assert sum(refusals.take().values()) == 1


async def test_a_stream_that_nobody_serves_is_no_method() -> None:
    """A method of the contract without a handler is refused as unknown and not as a fault."""
    refusals = Refusals()
    dispatcher = dispatcher_for(Door(caller()), refusals, {})
    assert isinstance((await ending_of(dispatcher))[1], MethodNotFoundError)
    assert refusals.take() == {}


async def test_the_end_of_all_streams_is_told_through_the_dispatcher() -> None:
    """A server that stops ends every stream by one word to its dispatcher."""
    dispatcher = dispatcher_for(Door(caller()), Refusals(), {"TailCalls": numbers})
    dispatcher.end_streams()
    seen, refused = await ending_of(dispatcher)
    assert (seen, refused.code) == (0, "unavailable")
