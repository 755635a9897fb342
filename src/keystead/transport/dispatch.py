"""The one way of every call, on every transport: who calls, may he, was it asked before, then the handler.

Authentication and the method's own scope come before anything is looked up, so a refusal tells nothing of what exists.
A mutation runs in one unit of work that also keeps its reply for a retry (P9).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from keystead.idempotency.errors import SlotTakenError
from keystead.idempotency.service import Attempt, ReplyMemory, check_idempotency_key
from keystead.kernel.bounds import has_control_characters
from keystead.kernel.change import Actor, ActorType, Origin
from keystead.kernel.errors import KeysteadError, UnavailableError, invalid
from keystead.kernel.redaction import redact
from keystead.keys.addresses import one_spelling
from keystead.keys.errors import PermissionDeniedError, RefusedFor, UnauthenticatedError
from keystead.keys.model import KeyKind
from keystead.keys.ports import Unit, Units
from keystead.keys.principal import Principal
from keystead.sinks.service import demand_carried
from keystead.transport.calls import Access, Call, Outcome
from keystead.transport.context import Context
from keystead.transport.errors import MethodNotFoundError
from keystead.transport.services.verification import VerificationHandlers
from keystead.transport.streaming import OpenStreams
from keystead.usage.errors import JournalFullError
from keystead.verification.authentication import Authenticator
from keystead.verification.failures import RefusedCalls

_HEADER_CHARACTERS = 256
SINK_SERVICE = "keystead.v1.SinkService"
VERIFY_KEY = "/keystead.v1.VerificationService/VerifyKey"

# The methods that limits decide; their handlers take the headers to tell them in.
_LIMITED = frozenset({"VerifyKey", "CheckLimit"})

UnitHandler = Callable[[Context, Any], Awaitable[Message]]
FreeHandler = Callable[..., Awaitable[Message]]
StreamHandler = Callable[[Principal, Any], AsyncGenerator[Message, None]]


def unit_handlers(*services: object) -> dict[str, UnitHandler]:
    """Map method names (``CreateKey``) to the handlers that serve them; names are unique over all services."""
    return {name: handler for service in services for name, handler in _handlers_of(service)}


def free_handlers(*services: object) -> dict[str, FreeHandler]:
    """Map method names to the handlers that need no unit of work."""
    return {name: handler for service in services for name, handler in _handlers_of(service)}


def stream_handlers(*services: object) -> dict[str, StreamHandler]:
    """Map method names to the handlers of those that stream."""
    return {name: handler for service in services for name, handler in _handlers_of(service)}


def _handlers_of(service: object) -> list[tuple[str, Any]]:
    names = [name for name in vars(type(service)) if not name.startswith("_")]
    return [(_method_name(name), getattr(service, name)) for name in names]


def _method_name(handler_name: str) -> str:
    return re.sub(r"(?:^|_)([a-z])", lambda match: match[1].upper(), handler_name)


class CallDispatcher:
    """Answers every call of every service."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        refusals: RefusedCalls,
        units: Units,
        propagated: Callable[[int | None], Awaitable[None]],
        memory: ReplyMemory,
        verification: VerificationHandlers,
        handlers: Mapping[str, UnitHandler],
        free_handlers: Mapping[str, FreeHandler],
        stream_handlers: Mapping[str, StreamHandler],
        streams: OpenStreams,
    ) -> None:
        """Serve ``handlers`` inside ``units``, all others without.

        ``propagated`` returns when what was committed holds in every process; it is told the milliseconds left for it.
        """
        self._authenticator = authenticator
        self._refusals = refusals
        self._units = units
        self._propagated = propagated
        self._memory = memory
        self._verification = verification
        self._handlers = handlers
        self._free_handlers = free_handlers
        self._stream_handlers = stream_handlers
        self._streams = streams

    async def __call__(self, call: Call, request: Any) -> Message | bytes:
        """Answer ``call``; raise a ``KeysteadError`` to refuse it."""
        caller = None
        try:
            caller = await self._caller(call)
            _demand_access(caller, call.method.access)
            free = self._free_handlers.get(call.method.name)
            if free is None:
                return await self._in_unit(call, caller, request)
            if call.tells_limits and call.method.name in _LIMITED:
                return await free(caller, request, call.response_headers)
            return await free(caller, request)
        except KeysteadError as refused:
            self._count(call, caller, refused)
            raise

    async def stream(self, call: Call, request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer ``call`` message by message; who calls, and whether he may, is asked again while it lasts (P3)."""
        caller: Principal | None = None

        async def check() -> Principal:
            nonlocal caller
            caller = await self._caller(call)
            _demand_access(caller, call.method.access)
            return caller

        try:
            known = await check()
            handler = self._stream_handlers.get(call.method.name)
            if handler is None:
                raise MethodNotFoundError(call.method.path)
            async with aclosing(self._streams.carry(handler(known, request), check)) as messages:
                async for message in messages:
                    yield message
        except KeysteadError as refused:
            self._count(call, caller, refused)
            raise

    def end_streams(self) -> None:
        """End every stream with UNAVAILABLE and take no more: the server stops, and they would outlast any grace."""
        self._streams.end()

    def verify_now(self, calls: Sequence[tuple[Call, Any]]) -> list[Outcome]:
        """Answer the ``VerifyKey`` calls of a batch, or say what is to be awaited; None sends a call the long way."""
        return [self._verify_now(call, request) for call, request in calls]

    def _verify_now(self, call: Call, request: Any) -> Outcome:
        caller = None
        try:
            credential = call.credential()
            caller = None if credential is None else self._authenticator.warm(credential, call)
            if caller is None:
                return None
            _demand_access(caller, call.method.access)
            return self._verification.verify_now(caller, request)
        except KeysteadError as refused:
            try:
                self._count(call, caller, refused)
            except JournalFullError as full:
                return full
            return refused

    def _count(self, call: Call, caller: Principal | None, refused: KeysteadError) -> None:
        """Count who was refused; raise ``JournalFullError``, in place of the refusal, when that cannot be."""
        if isinstance(refused, UnauthenticatedError | PermissionDeniedError):
            self._refusals.count(refused, caller=caller, method=call.method.name, client_ip=call.peer)

    async def _caller(self, call: Call) -> Principal:
        credential = call.credential()
        if credential is None:
            raise UnauthenticatedError(RefusedFor.AMBIGUOUS)
        known = self._authenticator.warm(credential, call)
        return known or await self._authenticator.authenticate(credential, call)

    async def _in_unit(self, call: Call, caller: Principal, request: Any) -> Message | bytes:
        handler = self._handlers[call.method.name]
        if call.method.access.mutates:
            reply = await self._mutate(call, caller, request, handler)
            if getattr(request, "wait", False):
                await self._propagated(call.remaining_ms)
            return reply
        async with self._units.read(caller.scope) as unit:
            return await handler(Context(caller, unit), request)

    async def _mutate(self, call: Call, caller: Principal, request: Any, handler: UnitHandler) -> Message | bytes:
        attempt = _attempt_of(call, caller, request)
        origin = _origin_of(call, caller)
        if attempt is None:
            async with self._units.begin(caller.scope, origin) as unit:
                await _demand_carried(unit, call, caller, request)
                return await handler(Context(caller, unit), request)
        if (before := await self._replay(caller, attempt)) is not None:
            return before
        try:
            async with self._units.begin(caller.scope, origin) as unit:
                await _demand_carried(unit, call, caller, request)
                reply = await handler(Context(caller, unit), request)
                whole, public = _both_forms(reply, call.method.access)
                await self._memory.keep(unit.replies, attempt, whole=whole, public=public)
            return reply
        except (SlotTakenError, KeysteadError) as failed:
            # Two calls with one idempotency key raced: the loser failed on what the winner had done.
            if (before := await self._replay(caller, attempt)) is not None:
                return before
            if isinstance(failed, SlotTakenError):
                raise UnavailableError("The first call with this idempotency key has not ended; try again.") from failed
            raise

    async def _replay(self, caller: Principal, attempt: Attempt) -> bytes | None:
        async with self._units.read(caller.scope) as unit:
            return await self._memory.find(unit.replies, attempt)


def _demand_access(caller: Principal, access: Access) -> None:
    if caller.kind is KeyKind.OPERATOR:
        if not access.operator:
            text = "Operator keys may not call this; a management key of the workspace may."
            raise PermissionDeniedError(text, refused_for=RefusedFor.NOT_FOR_OPERATORS)
        return
    if access.operator_only:
        text = "Only an operator key may do this; `keystead bootstrap` makes one."
        raise PermissionDeniedError(text, refused_for=RefusedFor.OPERATOR_ONLY)
    caller.demand(access.scope)


async def _demand_carried(unit: Unit, call: Call, caller: Principal, request: Any) -> None:
    """Refuse a change of a workspace while a sink of it in strict mode is behind; sinks themselves can be mended.

    An operator is of no workspace: what counts is the one that he names.
    """
    if call.method.service == SINK_SERVICE:
        return
    workspace_id = caller.workspace_id
    if caller.kind is KeyKind.OPERATOR:
        workspace_id = getattr(request, "workspace_id", "") or getattr(getattr(request, "workspace", None), "id", "")
    await demand_carried(unit, workspace_id)


def _attempt_of(call: Call, caller: Principal, request: Any) -> Attempt | None:
    """Read the idempotency key from the message or the header, which must agree; None when there is none."""
    header = call.header("idempotency-key")
    if header and request.idempotency_key and header != request.idempotency_key:
        raise invalid("idempotency_key", "differs from the header Idempotency-Key; send one of them")
    idempotency_key = request.idempotency_key or header
    if not idempotency_key:
        return None
    check_idempotency_key(idempotency_key, returns_secret=call.method.access.returns_secret)
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("idempotency_key")
    if hasattr(asked, "wait"):
        asked.ClearField("wait")  # it is about the reply and not about what is done: a retry may wait as well
    return Attempt(
        workspace_id=caller.workspace_id,
        credential_id=caller.key_id,
        method=call.method.path,
        idempotency_key=idempotency_key,
        request=asked.SerializeToString(deterministic=True),
    )


def _origin_of(call: Call, caller: Principal) -> Origin:
    return Origin(
        actor=Actor(ActorType.KEY, caller.key_id),
        client_ip=one_spelling(call.peer),
        user_agent=_harmless(call.header("user-agent")),
        request_id=_harmless(call.header("x-request-id")),
    )


def _harmless(text: str) -> str:
    return "" if has_control_characters(text) else redact(text)[:_HEADER_CHARACTERS]


def _both_forms(reply: Message, access: Access) -> tuple[bytes, bytes]:
    """Serialise a reply whole, and without its secret."""
    whole = reply.SerializeToString()
    if not access.returns_secret:
        return whole, whole
    public = type(reply)()
    public.CopyFrom(reply)
    public.ClearField("secret")
    return whole, public.SerializeToString()
