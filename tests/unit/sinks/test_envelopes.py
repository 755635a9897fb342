"""What is sent of an event: one CloudEvent, with the same id whenever it is sent."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # has no types
from ocsf_json_schema import (  # type: ignore[import-untyped]  # has no types
    OcsfJsonSchemaEmbedded,
    get_ocsf_schema,
)

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.export import Entry, json_of
from keystead.events.merkle import append
from keystead.events.model import Event, canonical, make_event
from keystead.events.ocsf import VERSION
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.sinks.envelopes import (
    BATCH_BYTES,
    Envelope,
    batch_id,
    checkpoint_envelope,
    event_envelope,
    merged,
    trial_envelope,
)
from keystead.sinks.model import Payload
from tests.fakes import BEGINNING_MS, WORKSPACE_ID, FixedRandom

CLASSES = {0: "base_event", 3002: "authentication", 3004: "entity_management", 6003: "api_activity"}
ORIGIN = Origin(Actor(ActorType.KEY, "key_caller"), client_ip="192.0.2.7", user_agent="curl/8", request_id="req_1")


def placed(index: int, action: Action = Action.KEY_REVOKED, target: str = "key_1") -> Event:
    """Make an event that has its place."""
    change = Change(WORKSPACE_ID, action, target, touches=(), environment="live", reason="leaked")
    made = make_event(
        change,
        ORIGIN,
        event_id=f"evt_{index}",
        occurred_at_ms=BEGINNING_MS + index,
        random_bytes=FixedRandom(index).bytes,
    )
    return replace(made, seq=index + 1, leaf_index=index)


def kept(size: int) -> KeptCheckpoint:
    """Make a checkpoint."""
    frontier = b""
    for index in range(size):
        frontier = append(frontier, index, placed(index).leaf_hash)
    return KeptCheckpoint(WORKSPACE_ID, size, frontier, f"note of {size}", BEGINNING_MS)


def read(envelope: Envelope) -> dict[str, Any]:
    """Read what is sent; it is canonical, so it is the same bytes every time."""
    found: dict[str, Any] = json.loads(envelope.text)
    assert canonical(found) == envelope.text
    return found


def test_an_event_is_a_cloud_event() -> None:
    """A receiver that knows CloudEvents knows what happened, to what, where and when, and in which order."""
    found = read(event_envelope(placed(41), Payload.NATIVE))
    data = found.pop("data")
    assert found == {
        "specversion": "1.0",
        "id": "evt_41",
        "source": f"urn:keystead:{WORKSPACE_ID}",
        "type": "keystead.key.revoked",
        "subject": "key_1",
        "time": "2023-11-14T22:13:20.041Z",
        "datacontenttype": "application/json",
        "sequence": "0000000000000000041",
    }
    assert data["record"]["reason"] == "leaked"


def test_the_data_is_what_an_export_tells() -> None:
    """What is carried can be checked against an export line by line: the same record, index and private part."""
    event = placed(3)
    line = json.loads(json_of(Entry(3, event.record, event.private, ())))
    line.pop("proof")
    assert read(event_envelope(event, Payload.NATIVE))["data"] == line


def test_an_event_about_nothing_has_no_subject() -> None:
    """CloudEvents forbids an empty subject."""
    assert "subject" not in read(event_envelope(placed(0, target=""), Payload.NATIVE))


def test_sequences_sort_as_text() -> None:
    """Whoever sorts by the text of ``sequence`` has the order of the log."""
    texts = [read(event_envelope(placed(index), Payload.NATIVE))["sequence"] for index in (0, 9, 10, 99, 12_345)]
    assert texts == sorted(texts)


def test_every_action_is_valid_ocsf() -> None:
    """A SIEM that validates takes every event there is."""
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    validators: dict[int, Draft202012Validator] = {}
    for index, action in enumerate(Action):
        found = read(event_envelope(placed(index, action), Payload.OCSF))
        assert found["dataschema"] == f"https://schema.ocsf.io/{VERSION}"
        data = found["data"]
        kind = data["class_uid"]
        if kind not in validators:
            validators[kind] = Draft202012Validator(schemas.get_class_schema(class_name=CLASSES[kind], profiles=[]))
        assert [error.message for error in validators[kind].iter_errors(data)] == [], action
        assert sorted(data["unmapped"]["keystead"]) == ["index", "private", "record"]


def test_a_checkpoint_is_the_same_whenever_it_is_sent() -> None:
    """A checkpoint has an id that follows from its size, so one that comes again is known."""
    checkpoint = kept(3)
    first, second = checkpoint_envelope(checkpoint), checkpoint_envelope(replace(checkpoint, made_at_ms=7))
    assert first == second
    found = read(first)
    assert found["type"] == "keystead.checkpoint"
    assert found["data"] == {
        "checkpoint": "note of 3",
        "size": 3,
        "root_hash": base64.b64encode(checkpoint.root_hash).decode(),
    }
    assert first.id == f"{WORKSPACE_ID}-checkpoint-3"


def test_a_trial_is_no_event_of_the_log() -> None:
    """What tries a sink out cannot be taken for something that happened."""
    envelope = trial_envelope(WORKSPACE_ID, "snk_1", name="tst_1", now_ms=BEGINNING_MS)
    found = read(envelope)
    assert found["type"] == "keystead.sink.test"
    assert "sequence" not in found
    assert (envelope.index, envelope.size, envelope.action) == (None, None, "")


def names(sizes: tuple[int, ...], count: int, *, first: int = 0, at_most: int = 100) -> list[str]:
    """Merge ``count`` events from ``first`` on with checkpoints, and name what comes out."""
    events = [placed(index) for index in range(first, first + count)]
    found = merged(events, [kept(size) for size in sizes], Payload.NATIVE, next_index=first, at_most=at_most)
    return [it.id.removeprefix(f"{WORKSPACE_ID}-") for it in found]


def test_a_checkpoint_follows_what_it_covers() -> None:
    """Whoever gets a checkpoint has everything that it proves."""
    assert names((1, 3), 4) == ["evt_0", "checkpoint-1", "evt_1", "evt_2", "checkpoint-3", "evt_3"]
    assert names((2, 5), 2, first=2) == ["checkpoint-2", "evt_2", "evt_3"]
    assert names((4,), 0, first=4) == ["checkpoint-4"]
    assert names((), 0) == []


def test_a_batch_is_cut_anywhere() -> None:
    """A batch holds no more than it may, and what is cut off comes first the next time."""
    assert names((1, 3), 4, at_most=2) == ["evt_0", "checkpoint-1"]
    assert names((1,), 4, at_most=1) == ["evt_0"]
    assert names((1,), 2, first=1, at_most=1) == ["checkpoint-1"]


def test_a_batch_is_no_longer_than_it_may_be() -> None:
    """However many events go at once, they stay within so many bytes; one that is longer goes by itself."""
    events = [
        replace(placed(index), private=canonical({"comment": "ä" * characters}))
        for index, characters in enumerate((100_000, 100_000, 100_000, BATCH_BYTES, 5))
    ]
    sent = []
    for first in (0, 2, 3, 4):
        batch = merged(events[first:], [kept(5)], Payload.NATIVE, next_index=first, at_most=1_000)
        sent.append([it.index for it in batch])
        assert len(batch) == 1 or sum(len(it.text.encode()) for it in batch) <= BATCH_BYTES
    assert sent == [[0, 1], [2], [3], [4, None]]


def test_a_batch_is_named_by_what_is_in_it() -> None:
    """A batch that is sent again has the same name, and no other has it; signatures want one without full stops."""
    one, two = event_envelope(placed(1), Payload.NATIVE), event_envelope(placed(2), Payload.NATIVE)
    assert batch_id([one, two]) == batch_id([one, two])
    assert len({batch_id(batch) for batch in ([one], [two], [one, two], [one, checkpoint_envelope(kept(2))])}) == 4
    assert "." not in batch_id([one])
