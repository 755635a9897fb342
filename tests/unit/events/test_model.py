"""Events: the record whose bytes never change, and the personal data beside it."""

from __future__ import annotations

import hashlib
import json

from keystead.events.model import Event, canonical, commitment, make_event
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from tests.fakes import BEGINNING_MS, FixedRandom

CHANGE = Change(
    "wsp_1",
    Action.KEY_UPDATED,
    "key_1",
    touches=("key_1",),
    environment="live",
    owner_id="customer-1",
    changes={"name": ("Zoë", "Zoé")},
    reason="asked for",
)
ACTOR = Actor(ActorType.KEY, "key_9")


def event_of(origin: Origin) -> Event:
    """Make the event of ``CHANGE``."""
    return make_event(CHANGE, origin, event_id="evt_1", occurred_at_ms=BEGINNING_MS, random_bytes=FixedRandom().bytes)


def test_the_record_says_what_changed_who_did_it_and_why() -> None:
    """Everything an auditor asks stands in the record, and the columns beside it agree with it (P6)."""
    event = event_of(Origin(ACTOR, request_id="req-1"))
    assert json.loads(event.record) == {
        "id": "evt_1",
        "workspace_id": "wsp_1",
        "environment": "live",
        "occurred_at_ms": BEGINNING_MS,
        "action": "key.updated",
        "actor": {"type": "key", "id": "key_9"},
        "owner_id": "customer-1",
        "target": "key_1",
        "changes": {"name": {"before": "Zoë", "after": "Zoé"}},
        "reason": "asked for",
        "request_id": "req-1",
        "committed": {},
    }
    assert (event.id, event.workspace_id, event.environment, event.action) == ("evt_1", "wsp_1", "live", "key.updated")
    assert (event.target, event.owner_id, event.touches) == ("key_1", "customer-1", ("key_1",))
    assert (event.actor_type, event.actor_id, event.request_id) == ("key", "key_9", "req-1")
    assert (event.occurred_at_ms, event.private, event.seq, event.leaf_index) == (BEGINNING_MS, "{}", None, None)


def test_personal_data_stands_in_the_record_only_as_commitments() -> None:
    """The caller's address and program can be erased without touching the record's bytes."""
    event = event_of(Origin(ACTOR, client_ip="192.0.2.1", user_agent="curl/8"))
    assert "192.0.2.1" not in event.record
    assert "curl" not in event.record
    private = json.loads(event.private)
    committed = json.loads(event.record)["committed"]
    assert {name: item["value"] for name, item in private.items()} == {"client_ip": "192.0.2.1", "user_agent": "curl/8"}
    for name, item in private.items():
        assert committed[name] == commitment(bytes.fromhex(item["salt"]), item["value"])
    assert private["client_ip"]["salt"] != private["user_agent"]["salt"]


def test_commitments_are_salted_hashes() -> None:
    """A commitment is SHA-256 over salt and value, so the few possible addresses cannot be tried without the salt."""
    assert commitment(b"salt", "é") == "sha256:" + hashlib.sha256(b"salt" + "é".encode()).hexdigest()


def test_the_leaf_hash_is_that_of_rfc_6962() -> None:
    """A record is hashed with the leaf prefix, so no leaf can be passed off as an inner node."""
    event = event_of(Origin(ACTOR))
    assert event.leaf_hash == hashlib.sha256(b"\x00" + event.record.encode()).digest()


def test_canonical_json_is_the_same_however_a_value_was_built() -> None:
    """The same value has the same bytes for ever: sorted, without spaces, in UTF-8."""
    assert canonical({"b": [1, None], "a": "é"}) == canonical(dict(reversed({"b": [1, None], "a": "é"}.items())))
    assert canonical({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'
