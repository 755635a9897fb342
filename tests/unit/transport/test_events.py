"""How the handlers of the log read what is asked and write what happened."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf import json_format

from keystead.adapters.memory.event_queries import MemoryAuditReader
from keystead.adapters.memory.store import MemoryStore
from keystead.events.model import Event, make_event
from keystead.gen.v1 import audit_pb2, keys_pb2
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.transport.services.events import EventTailHandlers, event_of, value_of
from tests.fakes import BEGINNING_MS, WORKSPACE_ID, FixedRandom
from tests.rig import caller

ORIGIN = Origin(Actor(ActorType.KEY, "key_9"), client_ip="192.0.2.1", user_agent="curl/8", request_id="req-1")


def event(**changes: Any) -> Event:
    """Make an event."""
    fields: dict[str, Any] = {"environment": "live", "owner_id": "cus_1", "reason": "asked for"} | changes
    change = Change(WORKSPACE_ID, Action.KEY_UPDATED, "key_1", touches=("key_1",), **fields)
    return make_event(change, ORIGIN, event_id="evt_1", occurred_at_ms=BEGINNING_MS, random_bytes=FixedRandom().bytes)


def placed(found: Event, index: int, seq: int) -> Event:
    """Give an event its place."""
    return Event(**{**{name: getattr(found, name) for name in found.__slots__}, "leaf_index": index, "seq": seq})


@pytest.mark.parametrize(
    "value",
    (None, True, False, 0, 1.5, -(2**53) + 1, "", "text", [], [1, None, ["a"]], {}, {"a": {"b": None}, "c": [False]}),
)
def test_any_json_value_is_written_as_it_is(value: object) -> None:
    """What a field was and is stays what it was in the record, whatever its kind."""
    assert json.loads(json_format.MessageToJson(value_of(value))) == value


@pytest.mark.parametrize("number", (2**53, -(2**63), 2**64))
def test_a_number_too_large_for_a_double_is_a_text(number: int) -> None:
    """No digit of a large number is lost; a browser would round it."""
    assert value_of(number).string_value == str(number)


def test_an_event_says_everything_but_its_place_among_all_tenants() -> None:
    """Who, what, when, from where and why; before and after are absent where there was nothing; never ``seq``."""
    found = event(changes={"name": (None, "Zoé"), "tags": (["a"], None), "limit": (1, {"n": 2**60})})
    message = event_of(placed(found, 3, 999))
    assert json_format.MessageToDict(message) == {
        "id": "evt_1",
        "index": "3",
        "occurredAt": message.occurred_at.ToJsonString(),
        "action": "key.updated",
        "actor": {"type": "key", "id": "key_9"},
        "ownerId": "cus_1",
        "environment": "LIVE",
        "target": "key_1",
        "changes": {
            "name": {"after": "Zoé"},
            "tags": {"before": ["a"]},
            "limit": {"before": 1.0, "after": {"n": str(2**60)}},
        },
        "reason": "asked for",
        "clientIp": "192.0.2.1",
        "userAgent": "curl/8",
        "requestId": "req-1",
        "result": "DONE",
        "count": "1",
    }
    assert "999" not in json_format.MessageToJson(message)


def test_what_is_not_there_is_absent() -> None:
    """An event without a place has no index, one of both environments none, and erased data is an empty text."""
    message = event_of(event(environment="", changes={}))
    assert not message.HasField("index")
    assert message.environment == keys_pb2.Key.ENVIRONMENT_UNSPECIFIED
    assert event_of(event(environment="all")).environment == keys_pb2.Key.ALL
    bare = event()
    erased = event_of(Event(**{**{name: getattr(bare, name) for name in bare.__slots__}, "private": "{}"}))
    assert (erased.client_ip, erased.user_agent) == ("", "")


async def test_a_tail_pauses_between_readings() -> None:
    """Each reading is told, also an empty one, and the log is asked again only after a pause of half a second."""
    store, pauses = MemoryStore(), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        store.committed.placed.append(placed(event(), len(pauses) - 1, len(pauses)))

    handlers = EventTailHandlers(MemoryAuditReader(store), pause=pause)
    async with aclosing(handlers.tail_events(caller(), audit_pb2.TailEventsRequest())) as replies:
        told = [await anext(replies) for _ in range(3)]
    assert [[it.index for it in reply.events] for reply in told] == [[], [0], [1]]
    assert pauses == [0.5, 0.5]
