"""What people and programs see of the log: tables, whole events, and events as they happen."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.cli.audit.rendering import narrow_table, wide_table
from keystead.cli.painting import painted
from keystead.gen.v1 import audit_pb2, keys_pb2
from tests.unit.cli.conftest import CommandLine
from tests.unit.cli.stub_server import StubServer, reply, stream

KEY = "key_01hzxsample000000000000000"
MANAGER = "key_01hzxmanager00000000000000"
UNAVAILABLE = {"error": {"code": "unavailable", "message": "The server stops."}}


def moment(text: str) -> Timestamp:
    """Read a time."""
    made = Timestamp()
    made.FromJsonString(text)
    return made


def event(index: int | None, **more: Any) -> audit_pb2.Event:
    """Make an event, a second younger than the one before."""
    fields: dict[str, Any] = {
        "id": f"evt_{index}",
        "index": index,
        "occurred_at": moment(f"2026-01-31T10:20:{30 + (index or 0) % 30:02}.456Z"),
        "action": "key.revoked",
        "actor": audit_pb2.EventActor(type="key", id=MANAGER),
        "owner_id": "cus_42",
        "environment": keys_pb2.Key.LIVE,
        "target": KEY,
        "client_ip": "203.0.113.7",
        "result": audit_pb2.Event.DONE,
        "count": 1,
    }
    return audit_pb2.Event(**(fields | more))


def listed(*events: audit_pb2.Event, token: str = "") -> Any:
    """Answer with a page."""
    return reply(audit_pb2.ListEventsResponse(events=events, next_page_token=token))


def told(*events: audit_pb2.Event) -> audit_pb2.TailEventsResponse:
    """Make a message of a stream."""
    return audit_pb2.TailEventsResponse(events=events)


def as_json(found: audit_pb2.Event) -> dict[str, Any]:
    """Write an event as a server does."""
    return dict(json.loads(reply(found).body))


def test_a_list_says_who_did_what_to_what_and_from_where(stub: StubServer, run: CommandLine) -> None:
    """Each event is a line in a pipe; one that has no place yet is told all the same, and the next page is named."""
    stub.will_answer(listed(event(1_234), event(None, owner_id="", client_ip=""), token="next"))
    lines = run("audit", "list").stdout.splitlines()
    assert lines[0].split() == ["INDEX", "TIME", "(UTC)", "ACTION", "TARGET", "OWNER", "BY", "ADDRESS"]
    assert lines[1].split()[0] == "1,234"
    assert lines[1].split()[3:] == ["key.revoked", KEY, "cus_42", MANAGER, "203.0.113.7"]
    assert lines[2].split() == ["-", "2026-01-31", "10:20:30", "key.revoked", KEY, "-", MANAGER, "-"]
    assert "--page-token next" in lines[-2]


@pytest.mark.parametrize(
    ("words", "body"),
    (
        ((), {}),
        (("--key", KEY, "--action", "key.*"), {"keyId": KEY, "action": "key.*"}),
        (("--owner", "cus_42", "--environment", "live"), {"ownerId": "cus_42", "environment": "LIVE"}),
        (("--actor", MANAGER, "--target", "pln_x"), {"actorId": MANAGER, "target": "pln_x"}),
        (("--request-id", "req 1", "--oldest-first"), {"requestId": "req 1", "orderBy": "occurred_at asc"}),
        (
            ("--from", "2027-01-01", "--to", "2027-02-01"),
            {"from": "2027-01-01T00:00:00.000Z", "to": "2027-02-01T00:00:00.000Z"},
        ),
        (("--page-size", "7", "--page-token", "t"), {"pageSize": 7, "pageToken": "t"}),
    ),
)
def test_filters_are_asked_as_they_are_given(
    stub: StubServer, run: CommandLine, words: tuple[str, ...], body: dict[str, object]
) -> None:
    """The server decides what is meant; nothing found is said aside, so that a pipe stays empty."""
    stub.will_answer(listed())
    result = run("audit", "list", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No events match.\n")
    assert stub.asked[0].body == body


def test_details_show_what_changed_and_why(stub: StubServer, run: CommandLine) -> None:
    """Whole events: values before and after, the reason, and the program; what is not there has no line."""
    changes = {
        "name": audit_pb2.EventChange(after=Value(string_value="Billing")),
        "tags": audit_pb2.EventChange(after=Value(string_value="")),
        "limit": audit_pb2.EventChange(before=Value(number_value=5), after=Value(number_value=7.5)),
        "note": audit_pb2.EventChange(before=Value(string_value="x" * 600)),
    }
    whole = event(3, changes=changes, reason="it leaked", user_agent="curl/8")
    stub.will_answer(listed(whole, event(4, environment=0)))
    text = run("audit", "list", "--details").stdout
    assert f"key.revoked  {KEY}" in text
    for line in ("name: Billing", "limit: 5 -> 7.5", f"note: {'x' * 500}... -> nothing", "it leaked", "curl/8"):
        assert line in text
    assert "tags" not in text
    assert text.count("program") == 1
    assert text.count("reason") == 1
    assert f"by           {MANAGER} (key)" in text


def test_groups_and_refusals_look_different(stub: StubServer, run: CommandLine) -> None:
    """What was refused says so, and what is told in a group says how often it happened and since when."""
    refused = event(
        5,
        action="call.refused",
        actor={"type": "anonymous", "id": ""},
        target="",
        method="CreateKey",
        result=audit_pb2.Event.REFUSED,
        count=1_200,
        first_at=moment("2026-01-31T10:00:00Z"),
    )
    failed = event(
        6,
        action="authentication.failed",
        actor={"type": "anonymous", "id": ""},
        target="",
        presented="acme_live",
        result=audit_pb2.Event.REFUSED,
    )
    stub.will_answer(listed(refused, failed), listed(refused, failed))
    table = run("audit", "list").stdout
    assert re.search(r"call\.refused x1,200 +CreateKey +.* anonymous +203", table)
    assert re.search(r"authentication\.failed +acme_live +.* anonymous +203", table)
    details = run("audit", "list", "--details").stdout
    assert "2026-01-31 10:00:00 UTC, 1,200 times" in details
    assert re.search(r"^by +anonymous$", details, re.MULTILINE)
    assert re.search(r"^method +CreateKey$", details, re.MULTILINE)
    assert re.search(r"^presented +acme_live$", details, re.MULTILINE)


def test_json_is_the_reply(stub: StubServer, run: CommandLine) -> None:
    """A program gets what the API says; all pages become one reply."""
    stub.will_answer(listed(event(1), token="next"), listed(event(2)))
    found = json.loads(run("audit", "list", "--all", "--json").stdout)
    assert [it["id"] for it in found["events"]] == ["evt_1", "evt_2"]
    assert [asked.body.get("pageToken") for asked in stub.asked] == [None, "next"]


@pytest.mark.parametrize("columns", (80, 100, 150))
def test_a_table_fits_on_its_screen(columns: int) -> None:
    """Two lines for each event up to 150 columns, one beyond; ids are whole and nothing is wider than the screen."""
    events = [as_json(event(index, action="quota.threshold_reached")) for index in (1, 2_000)]
    made = wide_table(events) if columns >= 150 else narrow_table(events)
    lines = painted([made], columns=columns, terminal=False)
    assert all(len(line) <= columns for line in lines)
    assert sum(KEY in line for line in lines) == 2
    assert len(lines) == (3 if columns >= 150 else 5)


def test_events_are_printed_as_they_happen(stub: StubServer, run: CommandLine) -> None:
    """Each event is a line as it comes; with --json an object on a line; `--limit` ends it in good order."""
    stub.will_answer(*[stream([told(), told(event(1)), told(event(2, owner_id=""), event(3))], {})] * 2)
    result = run("audit", "tail", "--limit", "2", "--action", "key.*")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"10:20:31  key.revoked  {KEY}  of cus_42  by {MANAGER}  from 203.0.113.7"
    assert len(result.stdout.splitlines()) == 2
    lines = run("audit", "tail", "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["evt_1", "evt_2"]
    assert stub.asked[0].body == {"action": "key.*"}


@pytest.mark.parametrize("end", (None, UNAVAILABLE, {}), ids=("cut off", "unavailable", "ended"))
def test_a_tail_that_breaks_loses_nothing(stub: StubServer, run: CommandLine, end: dict[str, object] | None) -> None:
    """What got its place between two streams is asked for and shown once, in order, before what the new one tells."""
    stub.will_answer(
        stream([told(), told(event(1), event(2))], end),
        stream([told(), told(event(4), event(5)), told(event(6))], {}),
        listed(event(1), event(2), event(4), event(3), event(None)),
    )
    result = run("audit", "tail", "--limit", "6", "--key", KEY, "--json")
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == ["1", "2", "3", "4", "5", "6"]
    assert [asked.method for asked in stub.asked] == ["TailEvents", "TailEvents", "ListEvents"]
    asked = stub.asked[2].body
    assert (asked["keyId"], asked["orderBy"], asked["from"]) == (KEY, "occurred_at asc", "2026-01-31T10:15:32.456Z")


def test_a_tail_that_breaks_before_anything_happened_shows_what_happened_meanwhile(
    stub: StubServer, run: CommandLine
) -> None:
    """Without a place to go on from, what happened since the command was begun is shown, and nothing older."""
    news = event(8)
    news.occurred_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=1))
    stub.will_answer(stream([told()], None), stream([told(), told()], {}), listed(event(7), news))
    result = run("audit", "tail", "--limit", "1", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["evt_8"]


def test_a_tail_that_never_begins_is_an_error(stub: StubServer, run: CommandLine) -> None:
    """A refusal is told at once, with its reason; a server that is away is not waited for."""
    refused = {"error": {"code": "permission_denied", "message": "no"}}
    stub.will_answer(stream([], refused), stream([], UNAVAILABLE))
    assert [run("audit", "tail", "--json").exit_code for _ in range(2)] == [4, 3]
