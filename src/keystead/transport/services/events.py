"""The handlers of ``AuditService`` that tell what happened: they read the filters and write the events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from keystead.events.model import Event, EventFilter
from keystead.events.ports import AuditReader
from keystead.events.tail import EventTail
from keystead.gen.v1 import audit_pb2, keys_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import invalid
from keystead.kernel.paging import PageTokens
from keystead.keys.principal import Principal
from keystead.tenants.model import Environment
from keystead.transport.services import conversions

INTERVAL_MS = 500
"""From the end of one reading to the next; each is told, so that a silent stream still shows that it lives."""

TEXT_CHARACTERS = 256
_ACTION = re.compile(r"[a-z_.]{1,100}|[a-z_.]{0,100}\*")
_ORDERS = {"": False, "occurred_at desc": False, "occurred_at asc": True}
_ENVIRONMENTS = {str(name): number for name, number in conversions.ENVIRONMENT_NUMBERS.items()}
_EXACT_MAX = 2**53 - 1

Asked = audit_pb2.ListEventsRequest | audit_pb2.TailEventsRequest


class EventHandlers:
    """Serves ``ListEvents``; reads the log, which stands outside the units of work."""

    def __init__(self, reader: AuditReader, page_tokens: PageTokens) -> None:
        """Ask ``reader``."""
        self._reader = reader
        self._page_tokens = page_tokens

    async def list_events(
        self, caller: Principal, request: audit_pb2.ListEventsRequest
    ) -> audit_pb2.ListEventsResponse:
        """List events."""
        if request.order_by not in _ORDERS:
            raise invalid("order_by", "must be `occurred_at desc` or `occurred_at asc`")
        question = conversions.question_of(request, caller)
        page_request = self._page_tokens.request(
            page_size=request.page_size,
            page_token=request.page_token,
            question=question,
            ascending=_ORDERS[request.order_by],
        )
        page = await self._reader.page(conversions.own_walls(caller), _filter_of(caller, request), page_request)
        return audit_pb2.ListEventsResponse(
            events=[event_of(event) for event in page.items],
            next_page_token=self._page_tokens.token(page.next_position, question),
        )


class EventTailHandlers:
    """Serves ``TailEvents``."""

    def __init__(self, reader: AuditReader, *, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Ask ``reader``, and ``pause`` for seconds between readings."""
        self._reader = reader
        self._pause = pause

    async def tail_events(
        self, caller: Principal, request: audit_pb2.TailEventsRequest
    ) -> AsyncGenerator[audit_pb2.TailEventsResponse, None]:
        """Tell events as they get their places, without end; the first message says from when on."""
        tail = EventTail(self._reader, conversions.own_walls(caller), _what(request))
        while True:
            async with aclosing(tail.read()) as parts:
                async for events in parts:
                    yield audit_pb2.TailEventsResponse(events=[event_of(event) for event in events])
            await self._pause(INTERVAL_MS / 1_000)


def event_of(event: Event) -> audit_pb2.Event:
    """Write one event; its ``seq`` would tell how busy other tenants are, so it stays here."""
    record: dict[str, Any] = json.loads(event.record)
    private: dict[str, dict[str, str]] = json.loads(event.private)
    group: dict[str, Any] | None = record.get("group")
    message = audit_pb2.Event(
        id=event.id,
        index=event.leaf_index,
        occurred_at=conversions.moment(event.occurred_at_ms),
        action=event.action,
        actor=audit_pb2.EventActor(type=event.actor_type, id=event.actor_id),
        owner_id=event.owner_id,
        environment=_ENVIRONMENTS.get(event.environment, keys_pb2.Key.ENVIRONMENT_UNSPECIFIED),
        target=event.target,
        reason=record["reason"],
        client_ip=private.get("client_ip", {}).get("value", ""),
        user_agent=private.get("user_agent", {}).get("value", ""),
        request_id=event.request_id,
        result=audit_pb2.Event.DONE if group is None else audit_pb2.Event.REFUSED,
        count=1,
    )
    if group is not None:
        message.count = group["count"]
        message.first_at.CopyFrom(conversions.moment(group["first_at_ms"]))
        message.method, message.presented = group["method"], group["presented"]
    for name, change in record["changes"].items():
        message.changes[name].CopyFrom(_change_of(change))
    return message


def _change_of(change: Mapping[str, Any]) -> audit_pb2.EventChange:
    return audit_pb2.EventChange(
        **{side: value_of(change[side]) for side in ("before", "after") if change.get(side) is not None}
    )


def value_of(value: Any) -> Value:
    """Write any JSON value; a number that a double does not hold exactly becomes a text."""
    if value is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int | float):
        return Value(number_value=value) if abs(value) <= _EXACT_MAX else Value(string_value=str(value))
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, list):
        return Value(list_value=ListValue(values=map(value_of, value)))
    return Value(struct_value=Struct(fields={name: value_of(item) for name, item in value.items()}))


def _filter_of(caller: Principal, request: audit_pb2.ListEventsRequest) -> EventFilter:
    bounds = Bounds()
    for field in ("actor_id", "target", "request_id"):
        bounds.text(field, getattr(request, field), at_most=TEXT_CHARACTERS)
    bounds.raise_if_any()
    from_ms = conversions.moment_ms("from", request, getattr(request, "from"))
    to_ms = conversions.moment_ms("to", request, request.to)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise invalid("from", "must be before `to`")
    return replace(
        _what(request),
        actor_id=request.actor_id,
        target=request.target,
        request_id=request.request_id,
        from_ms=from_ms,
        to_ms=to_ms,
        environment=_environment_of(caller, request),
    )


def _what(request: Asked) -> EventFilter:
    """Read what both lists and tails can be narrowed by."""
    if request.key_id:
        conversions.demand_id("key_id", request.key_id, "key")
    if request.owner_id:
        conversions.demand_owner_id(request.owner_id)
    if request.action and not _ACTION.fullmatch(request.action):
        raise invalid("action", "must be an action as in the catalogue, or the beginning of one and `*`")
    return EventFilter(key_id=request.key_id, owner_id=request.owner_id, action=request.action)


def _environment_of(caller: Principal, request: audit_pb2.ListEventsRequest) -> Environment | None:
    environment = conversions.chosen("environment", request.environment, conversions.ENVIRONMENTS)
    if environment is Environment.ALL:
        raise invalid("environment", "must be LIVE or TEST")
    if environment is not None:
        caller.demand_environment(environment)
    return environment
