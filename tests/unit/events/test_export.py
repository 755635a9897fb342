"""The lines of an export: what they say, in every form, and what is no line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # has no types
from ocsf_json_schema import (  # type: ignore[import-untyped]  # has no types
    OcsfJsonSchemaEmbedded,
    get_ocsf_schema,
)

from keystead.events.export import INDEX_MAX, End, Entry, Form, Head, JsonLines, LineError, Part
from keystead.events.model import canonical, make_event
from keystead.events.ocsf import VERSION, Ocsf, ocsf_event
from keystead.events.spreadsheet import COLUMNS, Spreadsheet
from keystead.kernel.change import Action, Actor, ActorType, Change, Group, Origin
from tests.fakes import FixedRandom
from tests.unit.events.exports import FORMS, WORKSPACE, entries_of, events_of, note_of

EVENTS = events_of(30)
ENTRIES = entries_of(EVENTS)
PARTS: list[Part] = [Head(WORKSPACE, 3), *ENTRIES, End(note_of(EVENTS))]
OCSF_CLASSES = {0: "base_event", 3002: "authentication", 3004: "entity_management", 6003: "api_activity"}


def refused(change: Change, actor: Actor, client_ip: str) -> Entry:
    """Make the record of what was refused."""
    origin = Origin(actor, client_ip=client_ip)
    event = make_event(change, origin, event_id="evt_1", occurred_at_ms=9, random_bytes=FixedRandom().bytes)
    return Entry(1, event.record, event.private, ())


NOBODY = Actor(ActorType.ANONYMOUS, "")
FAILED = Change(
    WORKSPACE,
    Action.AUTHENTICATION_FAILED,
    "key_1",
    touches=(),
    reason="REVOKED",
    group=Group(7, 5, 9, presented="acme_live"),
)
CALLED = replace(FAILED, action=Action.CALL_REFUSED, target="", group=Group(7, 5, 9, method="CreateKey"))
REFUSED = [
    refused(FAILED, NOBODY, "::1"),
    refused(replace(FAILED, target=""), NOBODY, "other"),
    refused(CALLED, Actor(ActorType.KEY, "key_2"), "192.0.2.1"),
    refused(CALLED, NOBODY, ""),
    refused(Change(WORKSPACE, Action.AUTHENTICATION_THRESHOLD_REACHED, "", touches=()), NOBODY, "::1"),
]
BARE = Entry(0, "{}", "{}", ())
ODD_RECORD = {"actor": "me", "id": 5, "occurred_at_ms": True, "action": "x.y"}
ODD = Entry(1, canonical(ODD_RECORD), "{}", ())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_what_is_written_is_read(form: Form) -> None:
    """Each line reads back as what was written, is one line, and begins as the first, the last or neither."""
    for part in [*PARTS, BARE, ODD]:
        line = form.write(part)
        assert form.read(line) == part
        assert (line.count("\n"), line[-1]) == (1, "\n")
        assert line.encode().startswith(form.head_start) == isinstance(part, Head)
        assert line.encode().startswith(form.end_start) == isinstance(part, End)


def test_json_lines_are_canonical_and_hold_the_record_as_it_was_hashed() -> None:
    """A line is the canonical JSON of its content, and in it stand the very bytes of the record."""
    for part in PARTS:
        line = JsonLines().write(part)
        assert canonical(json.loads(line)) + "\n" == line
    for event, entry in zip(EVENTS, ENTRIES, strict=True):
        assert f'"record":{event.record}}}' in JsonLines().write(entry)
    assert JsonLines().write(PARTS[0]) == '{"export":"keystead.audit.v1","first_index":3,"workspace_id":"wsp_1"}\n'


def altered(**changes: Any) -> str:
    """Write a good record's line with something else in it."""
    return json.dumps({**json.loads(JsonLines().write(ENTRIES[4])), **changes})


@pytest.mark.parametrize(
    "line",
    (
        "",
        "[]",
        "{}",
        "7",
        '{"checkpoint":7}',
        '{"export":"keystead.audit.v2","first_index":0,"workspace_id":"wsp_1"}',
        '{"export":"keystead.audit.v1","first_index":-1,"workspace_id":"wsp_1"}',
        '{"export":"keystead.audit.v1","first_index":0,"workspace_id":null}',
        altered(index=True),
        altered(index=1.0),
        altered(index=INDEX_MAX + 1),
        altered(record=[]),
        altered(private=None),
        altered(proof="ab"),
        altered(proof=["ab"]),
        altered(proof=["xy"]),
        altered(proof=[7]),
        altered(proof=["00" * 32] * 65),
        altered(more=1),
    ),
)
def test_what_is_no_line_is_refused(line: str) -> None:
    """Nothing but a line of the three kinds, of the right types and within bounds, is read as one."""
    with pytest.raises(ValueError, match=r"it|Expecting|non-hexadecimal"):
        JsonLines().read(line)


@pytest.mark.parametrize("line", ("{}", "[]", '{"unmapped":7}', '{"unmapped":{"keystead":{}}}'))
def test_an_event_of_others_is_refused(line: str) -> None:
    """OCSF events without our own content prove nothing."""
    with pytest.raises(LineError):
        Ocsf().read(line)


@pytest.mark.parametrize("line", ("", "index,occurred_at\r\n", '5,"{""index"":5}"\n', '5,"{""index"":5}"\r\n'))
def test_a_row_that_proves_nothing_is_refused(line: str) -> None:
    """Rows without the last column, with another line end or with something else in it prove nothing."""
    with pytest.raises(LineError):
        Spreadsheet().read(line)


def test_ocsf_lines_are_ocsf() -> None:
    """Every line, the first and the last included, is a valid event of OCSF 1.8, of the class that it says it is."""
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    validators = {
        number: Draft202012Validator(schemas.get_class_schema(class_name=name, profiles=[]))
        for number, name in OCSF_CLASSES.items()
    }
    odd = replace(ODD, record=canonical({**json.loads(EVENTS[0].record), "result": "refused"}))
    seen = set()
    for part in [*PARTS, odd, *REFUSED]:
        event = json.loads(Ocsf().write(part))
        validators[event["class_uid"]].validate(event)
        seen.add(event["class_uid"])
    assert seen == OCSF_CLASSES.keys()
    with pytest.raises(Exception, match="is a required property"):
        validators[3004].validate({"class_uid": 3004})


def test_ocsf_says_how_often_something_was_refused() -> None:
    """A failed authentication is a logon that failed, a refused call an API's activity: with count, span and reason."""
    failed, unknown, called, erased, alerted = map(ocsf_event, REFUSED)
    often = {"count": 7, "start_time": 5, "end_time": 9, "status_id": 2, "status_code": "REVOKED"}
    assert often.items() <= failed.items()
    assert (failed["type_uid"], failed["user"]["uid"], failed["src_endpoint"]) == (300_201, "key_1", {"ip": "::1"})
    assert (unknown["user"]["name"], unknown["src_endpoint"]) == ("acme_live", {"name": "other"})
    assert (called["type_uid"], called["api"]["operation"]) == (600_399, "CreateKey")
    assert called["actor"]["user"]["uid"] == "key_2"
    assert (erased["actor"], erased["src_endpoint"]) == ({"app_name": "anonymous"}, {"name": "unknown"})
    assert (alerted["type_uid"], alerted["severity_id"], alerted["user"]["name"]) == (300_299, 3, "unknown")


def test_an_ocsf_event_says_what_the_record_says() -> None:
    """A SIEM finds who did what to what, when and from where in the schema's own fields."""
    event = ocsf_event(ENTRIES[0])
    record = json.loads(EVENTS[0].record)
    assert (event["time"], event["metadata"]["uid"]) == (record["occurred_at_ms"], record["id"])
    assert (event["metadata"]["sequence"], event["metadata"]["tenant_uid"]) == (0, WORKSPACE)
    assert event["actor"]["user"]["uid"] == record["actor"]["id"]
    assert event["entity"] == {"type": "key", "uid": "key_0", "data": {"owner_id": "customer-0"}}
    assert (event["activity_id"], event["type_uid"], event["status_id"]) == (1, 300_401, 1)
    assert event["src_endpoint"] == {"ip": "203.0.113.7"}
    assert event["http_request"] == {"user_agent": "curl/8"}
    by_system = ocsf_event(ENTRIES[3])
    assert (by_system["actor"], "src_endpoint" in by_system) == ({"app_name": "plan"}, False)
    refused = ocsf_event(replace(BARE, record='{"result":"refused","workspace_id":"wsp_1"}'))
    assert (refused["status_id"], refused["entity"]["uid"]) == (2, WORKSPACE)


def test_rows_are_for_people() -> None:
    """A row has the record's fields under their names, and nothing in it is a formula or a second line."""
    written = "".join(Spreadsheet().write(part) for part in PARTS)
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert {len(row) for row in rows} == {len(COLUMNS) + 1}
    first = dict(zip(rows[0], rows[1], strict=True))
    assert (first["index"], first["occurred_at"]) == ("0", "2023-11-14T22:13:20.000Z")
    assert (first["action"], first["actor_id"], first["client_ip"]) == ("key.created", "key_9", "203.0.113.7")
    assert first["reason"] == "'=asked, for"
    assert [first[name] for name in ("result", "count", "method", "presented")] == ["done", "1", "", ""]
    refused = dict(zip(rows[0], next(csv.reader([Spreadsheet().write(REFUSED[2])])), strict=True))
    assert [refused[name] for name in ("result", "count", "method")] == ["refused", "7", "CreateKey"]
    assert rows[-1][0] == "checkpoint"
