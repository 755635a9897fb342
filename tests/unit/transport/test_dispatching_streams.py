"""A stream's way through the dispatcher: the same questions as for a call, asked again while it lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from keystead.events.refusals import Refusing
from keystead.gen.v1 import usage_pb2
from keystead.kernel.change import Action
from keystead.kernel.errors import KeysteadError
from keystead.keys.errors import PermissionDeniedError, Proven, RefusedFor, UnauthenticatedError
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import SYSTEM_WORKSPACE_ID
from keystead.transport.calls import Call, methods_of
from keystead.transport.dispatch import CallDispatcher
from keystead.transport.errors import MethodNotFoundError
from keystead.transport.streaming import OpenStreams
from keystead.usage.errors import JournalFullError
from keystead.verification.failures import RefusedCalls
from tests.fakes import FakeRefusals, ManualClock
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
        raise UnauthenticatedError(RefusedFor.REVOKED, Proven("key_1", "wsp_1", "live"))


async def numbers(_caller: Principal, request: Any) -> AsyncGenerator[Message, None]:
    """Stream without end."""
    while True:
        yield usage_pb2.TailCallsResponse(calls=[usage_pb2.UsageCall(operation=request.filter.operation)])


def dispatcher_for(door: Door, refusals: FakeRefusals, handlers: dict[str, Any]) -> CallDispatcher:
    """Make a dispatcher of streams alone; every turn looks at the caller."""
    none = cast("Any", None)
    return CallDispatcher(
        authenticator=cast("Any", door),
        refusals=RefusedCalls(refusals, ManualClock()),
        units=none,
        propagated=none,
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
    refusals = FakeRefusals()
    dispatcher = dispatcher_for(Door(caller(), looks), refusals, {"TailCalls": numbers})
    seen, refused = await ending_of(dispatcher)
    assert seen == max(0, looks - 1)
    assert isinstance(refused, UnauthenticatedError)
    whose = ("wsp_1", "live", Action.CALL_REFUSED, "revoked", "192.0.2.1")
    assert refusals.counted == [Refusing(*whose, actor_id="key_1", method="TailCalls")]


async def test_a_right_is_demanded_before_anything_is_read() -> None:
    """Without the method's scope no handler begins, and the refusal is counted."""
    refusals = FakeRefusals()
    dispatcher = dispatcher_for(Door(replace(caller(), grants=Grants(("read:keys",)))), refusals, {})
    assert isinstance((await ending_of(dispatcher))[1], PermissionDeniedError)
    (refused,) = refusals.counted
    known = caller()
    assert (refused.workspace_id, refused.environment, refused.actor_id) == (
        known.workspace_id,
        known.environment,
        known.key_id,
    )
    assert (refused.reason, refused.method, refused.client_ip) == ("scope", "TailCalls", "192.0.2.1")


async def test_nobody_is_refused_uncounted() -> None:
    """When there is no room to count a refusal, the call fails as unavailable: it may be tried again."""
    refusals = FakeRefusals()
    refusals.full = True
    assert isinstance((await ending_of(dispatcher_for(Door(caller(), 0), refusals, {})))[1], JournalFullError)


def test_a_batch_refuses_and_counts_each_of_its_calls() -> None:
    """A caller in a batch who lacks the right is refused alone and counted; without room he is told to come again."""
    refusals = FakeRefusals()
    dispatcher = dispatcher_for(Door(replace(caller(), grants=Grants(()))), refusals, {})
    call = Call(TAIL, (("authorization", "Bearer x"),), "ipv4:192.0.2.1:1", None)
    assert isinstance(dispatcher.verify_now([(call, None)])[0], PermissionDeniedError)
    refusals.full = True
    assert isinstance(dispatcher.verify_now([(call, None)])[0], JournalFullError)
    assert [it.reason for it in refusals.counted] == ["scope"]


async def test_who_says_two_things_is_nobody() -> None:
    """Several different credentials are none; the refusal is the system's own, for nobody is proven."""
    refusals = FakeRefusals()
    dispatcher = dispatcher_for(Door(caller()), refusals, {})
    call = Call(TAIL, (("authorization", "Bearer x"), ("authorization", "Bearer y")), "ipv4:192.0.2.1:1", None)
    with pytest.raises(UnauthenticatedError):
        await anext(dispatcher.stream(call, usage_pb2.TailCallsRequest()))
    nobody = Refusing(SYSTEM_WORKSPACE_ID, "", Action.CALL_REFUSED, "ambiguous", "192.0.2.1", method="TailCalls")
    assert refusals.counted == [nobody]


async def test_a_stream_that_nobody_serves_is_no_method() -> None:
    """A method of the contract without a handler is refused as unknown and not as a fault."""
    refusals = FakeRefusals()
    dispatcher = dispatcher_for(Door(caller()), refusals, {})
    assert isinstance((await ending_of(dispatcher))[1], MethodNotFoundError)
    assert refusals.counted == []


async def test_the_end_of_all_streams_is_told_through_the_dispatcher() -> None:
    """A server that stops ends every stream by one word to its dispatcher."""
    dispatcher = dispatcher_for(Door(caller()), FakeRefusals(), {"TailCalls": numbers})
    dispatcher.end_streams()
    seen, refused = await ending_of(dispatcher)
    assert (seen, refused.code) == (0, "unavailable")
