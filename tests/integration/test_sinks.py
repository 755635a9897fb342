"""Sinks over the wire: the whole log is carried in order, and what is asked of a sink is done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keystead.transport.services.sinks import TRIALS_OF_ONE_MAX
from tests.clients import Client, client_for
from tests.polling import always, eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.sink_receivers import TOKEN, RunningAuditLog, all_carried, audit_log, carried, log_of

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
RETRY = "01934f6e-9f7a-7c3b-a1d5-3f2b9c8e7d60"


@pytest.fixture
def service() -> Iterator[RunningAuditLog]:
    """Lend an Audit-Log service."""
    with audit_log() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, servers: ServerFarm) -> KeysteadServer:
    """Lend a server on each kind of database, whose sinks may carry anywhere."""
    database = {"database": request.getfixturevalue("postgres_url")} if request.param == "postgresql" else {}
    return servers.start(outbound="any", **database)


def to(service: RunningAuditLog, **fields: Any) -> dict[str, Any]:
    """Describe a sink that carries to ``service``."""
    http = {"url": f"{service.url}/events", "bearer_token": TOKEN, "batch_max": 7} | fields.pop("http", {})
    return {"name": "audit", "http": http, **fields}


async def make_keys(client: Client, count: int) -> None:
    """Have something happen."""
    for number in range(count):
        fields: dict[str, Any] = {"owner_id": "o", "create_owner": True, "environment": ("TEST", "LIVE")[number % 2]}
        (await client.call("CreateKey", name=f"key {number}", **fields)).must()


async def test_the_whole_log_is_carried_in_order(server: KeysteadServer, service: RunningAuditLog) -> None:
    """A new sink begins with the first event, and what happens afterwards follows, each event once, in order."""
    async with client_for(server, "json", server.management_key) as client:
        await make_keys(client, 10)
        made = (await client.call("CreateSink", sink=to(service))).must().sink
        await make_keys(client, 10)
        got = await all_carried(client, service)
        assert {event["type"] for event in got} >= {"keystead.key.created", "keystead.sink.created"}
        shown = (await client.call("GetSink", sink_id=made.id)).must().sink
        assert shown.progress.next_index == len(got)
        assert not shown.progress.last_error


async def test_whatever_the_service_does_it_gets_every_record_in_order(
    server: KeysteadServer, service: RunningAuditLog
) -> None:
    """A service that answers 500, hangs, hangs up in the midst and comes back has the whole log, without a gap."""
    async with client_for(server, "json", server.management_key) as client:
        await service.misbehave("fail=1")
        fields = to(service, http={"timeout": timedelta(milliseconds=300)})
        made = (await client.call("CreateSink", sink=fields)).must().sink
        for trouble in ("fail=1", "hang=1", "cut=1", "fail=1&cut=1"):
            await make_keys(client, 6)
            await service.misbehave(trouble)
            got = await all_carried(client, service)
        report = await service.report()
        told = next(iter(report["sources"].values()))
        assert (told["missing"], told["in_order"]) == (0, True)
        assert report["received"] > len(got), "nothing came twice, so nothing went wrong"

        async def well() -> bool:
            shown = (await client.call("GetSink", sink_id=made.id)).must().sink.progress
            return (shown.dead_letters, shown.failures, shown.last_error) == (0, 0, "")

        await eventually(well, within_s=20)


async def test_a_service_that_is_away_is_waited_for(server: KeysteadServer, service: RunningAuditLog) -> None:
    """While a service is away changes go on, what keeps the sink is shown, and nothing is lost when it is back."""
    async with client_for(server, "json", server.management_key) as client:
        await service.misbehave("fail=2")
        made = (await client.call("CreateSink", sink=to(service))).must().sink

        async def failing() -> bool:
            shown = (await client.call("GetSink", sink_id=made.id)).must().sink.progress
            return bool(shown.failures >= 1 and "told to fail" in shown.last_error and shown.HasField("retry_at"))

        await eventually(failing, within_s=10)
        await make_keys(client, 3)
        await all_carried(client, service)


async def test_an_event_that_is_refused_is_set_aside(server: KeysteadServer, service: RunningAuditLog) -> None:
    """One event that a service refuses holds up no others; it is shown, and sent again when that is asked."""
    async with client_for(server, "json", server.management_key) as client:
        await service.misbehave("refuse=keystead.owner.created")
        made = (await client.call("CreateSink", sink=to(service))).must().sink
        await make_keys(client, 5)

        async def set_aside() -> bool:
            return bool((await client.call("GetSink", sink_id=made.id)).must().sink.progress.dead_letters == 1)

        await eventually(set_aside, within_s=20)
        shown = (await client.call("GetSink", sink_id=made.id)).must().sink.progress
        letter = shown.first_dead_letters[0]
        assert "keystead.owner.created" in letter.error
        told = (await client.call("ListEvents", action="sink.event_set_aside")).must().events
        assert [(it.target, it.actor.id) for it in told] == [(made.id, "sinks")]
        await service.misbehave("refuse=")
        (await client.call("ReplaySink", sink_id=made.id, dead_letters=True)).must()

        async def whole() -> bool:
            got = carried(await service.events())
            return sorted(event["id"] for event in got) == sorted(await log_of(client))

        await eventually(whole, within_s=20)
        shown = (await client.call("GetSink", sink_id=made.id)).must().sink.progress
        assert (shown.dead_letters, list(shown.first_dead_letters)) == (0, [])


async def test_checkpoints_are_carried_too(server: KeysteadServer, service: RunningAuditLog) -> None:
    """Whoever takes the log has what proves it, each checkpoint behind what it covers."""
    async with client_for(server, "json", server.management_key) as client:
        (await client.call("CreateSink", sink=to(service))).must()
        checkpoint = (await client.call("GetCheckpoint", make=True)).must()

        async def told() -> bool:
            return any(event["data"].get("size") == checkpoint.size for event in await service.events())

        await eventually(told, within_s=10)
        events = await service.events()
        at = next(place for place, event in enumerate(events) if event["data"].get("size") == checkpoint.size)
        assert events[at]["data"]["checkpoint"] == checkpoint.checkpoint
        assert len(carried(events[:at])) == checkpoint.size


async def test_strict_mode_refuses_changes_and_says_which_sink(
    server: KeysteadServer, service: RunningAuditLog
) -> None:
    """While a strict sink is behind nothing is changed, also no leaked key revoked; only sinks can be mended (P10).

    Reading and verifying go on, and everything goes on once the sink has caught up or is no longer strict.
    """
    async with client_for(server, "json", server.management_key) as client:
        leaked = (await client.call("CreateKey", owner_id="o", create_owner=True, name="k", environment="LIVE")).must()
        strict = to(service, strict_lag=timedelta(seconds=1))
        made = (await client.call("CreateSink", sink=strict)).must().sink
        await all_carried(client, service)
        await service.misbehave("fail=1000")

        async def refused() -> bool:
            answer = await client.call("CreateOwner", owner_id=f"o-{len(await log_of(client))}", name="n")
            return answer.refusal == ("UNAVAILABLE", "AUDIT_SINK_BEHIND")

        await eventually(refused, within_s=20)
        before = await log_of(client)
        revoked = await client.call("RevokeKey", key_id=leaked.key.id, reason="leaked")
        assert revoked.refusal == ("UNAVAILABLE", "AUDIT_SINK_BEHIND")
        assert "audit" in revoked.text
        assert await client.verify(leaked.secret) == "VALID"
        assert await log_of(client) == before, "something was changed by what was refused"
        paused = await client.call(
            "UpdateSink", sink={"id": made.id, "state": "PAUSED"}, update_mask={"paths": ["state"]}
        )
        assert paused.ok, "a sink must be mendable"
        assert (await client.call("RevokeKey", key_id=leaked.key.id, reason="x")).reason == "AUDIT_SINK_BEHIND"
        (await client.call("UpdateSink", sink={"id": made.id}, update_mask={"paths": ["strict_lag"]})).must()
        (await client.call("RevokeKey", key_id=leaked.key.id, reason="leaked")).must()
        assert await client.verify(leaked.secret) == "REVOKED"


async def test_secrets_are_nowhere(server: KeysteadServer, service: RunningAuditLog) -> None:
    """No reply but the first, no event, no log and no row holds what a sink proves itself with (P1)."""
    async with client_for(server, "json", server.management_key) as client:
        fields = to(service, http={"signed": True})
        reply = (await client.call("CreateSink", sink=fields, idempotency_key=RETRY)).must()
        assert reply.secret.startswith("whsec_")
        again = (await client.call("CreateSink", sink=fields, idempotency_key=RETRY)).must()
        assert (again.secret, again.sink.id) == (reply.secret, reply.sink.id)
        await all_carried(client, service)
        secrets = (reply.secret, TOKEN)
        answers = [await client.call("GetSink", sink_id=reply.sink.id), await client.call("ListSinks")]
        events = json.dumps(await service.events())
        for secret in secrets:
            assert [secret.encode() in answer.raw for answer in answers] == [False, False]
            assert secret not in events
            assert secret not in server.log_text()
        if not server.settings.get("database"):
            server.stop()
            stored = b"".join(path.read_bytes() for path in server.data_dir.iterdir() if path.is_file())
            assert [secret.encode() in stored for secret in secrets] == [False, False]


async def test_a_sink_is_tried_out(server: KeysteadServer, service: RunningAuditLog) -> None:
    """One event that is none of the log's says at once whether a service takes what it is sent."""
    async with client_for(server, "json", server.management_key) as client:
        fields = to(service, state="PAUSED")
        made = (await client.call("CreateSink", sink=fields)).must().sink
        tried = (await client.call("TestSink", sink_id=made.id)).must()
        assert (tried.delivered, tried.http_status, tried.error) == (True, 204, "")
        assert [event["type"] for event in await service.events()] == ["keystead.sink.test"]
        changed = {"id": made.id, "http": fields["http"] | {"bearer_token": "another-token"}}
        (await client.call("UpdateSink", sink=changed, update_mask={"paths": ["http"]})).must()
        tried = (await client.call("TestSink", sink_id=made.id)).must()
        assert (tried.delivered, tried.http_status) == (False, 401)
        assert "is wrong" in tried.error


async def test_trying_out_takes_no_room_from_other_calls(server: KeysteadServer, service: RunningAuditLog) -> None:
    """While a service hangs, two tests of a workspace are under way at most; afterwards there is room again."""
    async with client_for(server, "json", server.management_key) as client:
        fields = to(service, state="PAUSED", http={"timeout": timedelta(seconds=2)})
        made = (await client.call("CreateSink", sink=fields)).must()
        await service.misbehave(f"hang={TRIALS_OF_ONE_MAX}")
        trials = [asyncio.create_task(client.call("TestSink", sink_id=made.sink.id)) for _ in range(TRIALS_OF_ONE_MAX)]

        async def under_way() -> bool:
            return bool((await service.report())["received"] == TRIALS_OF_ONE_MAX)

        await eventually(under_way, within_s=10)
        refused = await client.call("TestSink", sink_id=made.sink.id)
        assert (refused.status, refused.reason) == ("UNAVAILABLE", "OVERLOADED")
        for tried in await asyncio.gather(*trials):
            assert "no answer within 2 s" in tried.must().error
        assert (await client.call("TestSink", sink_id=made.sink.id)).must().delivered


async def test_sinks_begin_where_they_are_told(server: KeysteadServer, service: RunningAuditLog) -> None:
    """From now on, or from a time on; and a deleted sink carries nothing more."""
    async with client_for(server, "json", server.management_key) as client:
        await make_keys(client, 3)
        await log_of(client)
        made = (await client.call("CreateSink", sink=to(service), start="NOW")).must().sink
        await make_keys(client, 1)

        async def has(count: int) -> bool:
            return len(carried(await service.events())) >= count

        await eventually(lambda: has(2), within_s=10)
        types = [event["type"] for event in carried(await service.events())]
        assert types == ["keystead.sink.created", "keystead.key.created"]
        later = await client.call("CreateSink", sink=to(service, name="later"), start_at=datetime.now(UTC), start="NOW")
        assert later.fields == ("start_at",)
        (await client.call("DeleteSink", sink_id=made.id)).must()
        assert (await client.call("GetSink", sink_id=made.id)).status == "NOT_FOUND"
        before = len(await service.events())
        await make_keys(client, 2)

        async def quiet() -> bool:
            return len(await service.events()) == before

        assert await always(quiet, for_s=1.5)


async def test_a_sink_is_of_its_workspace_and_of_both_environments(servers: ServerFarm) -> None:
    """Who is for one environment sees no sink, and another workspace's is not there (P8)."""
    server = servers.start(flags=("--first-run", "--operator"), outbound="any")
    async with client_for(server, "json", server.management_key) as client:
        sink = {"name": "s", "http": {"url": "http://127.0.0.1:9/"}}
        made = (await client.call("CreateSink", sink=sink)).must().sink
        fields: dict[str, Any] = {"name": "m", "environment": "LIVE", "kind": "MANAGEMENT", "scopes": ["*:*"]}
        narrow = (await client.call("CreateKey", **fields)).must().secret
        operator = str(server.told["operator_key"])
        theirs = (await client.call("CreateWorkspace", brand="other", name="O", token=operator)).must().secret
        calls: dict[str, dict[str, Any]] = {
            "GetSink": {"sink_id": made.id},
            "TestSink": {"sink_id": made.id},
            "DeleteSink": {"sink_id": made.id},
            "ReplaySink": {"sink_id": made.id, "from_index": 0},
            "UpdateSink": {"sink": {"id": made.id, "name": "x"}, "update_mask": {"paths": ["name"]}},
        }
        for name, asked in calls.items():
            assert (await client.call(name, token=narrow, **asked)).status == "PERMISSION_DENIED", name
            answer = await client.call(name, token=theirs, **asked)
            assert answer.status == "NOT_FOUND", name
            unknown = json.loads(json.dumps(asked).replace(made.id, "snk_01h455vb4pex5vsknk084sn02q"))
            nothing = await client.call(name, token=theirs, **unknown)
            assert nothing.text == answer.text.replace(made.id, "snk_01h455vb4pex5vsknk084sn02q")
        assert (await client.call("ListSinks", token=narrow)).status == "PERMISSION_DENIED"
        assert (await client.call("CreateSink", token=narrow, sink=sink)).status == "PERMISSION_DENIED"
        assert list((await client.call("ListSinks", token=theirs)).must().sinks) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    (
        ({}, ("sink.name", "sink")),
        ({"name": "x" * 101, "http": {"url": "https://siem.example/"}}, ("sink.name",)),
        ({"name": "s", "http": {"url": "https://127.0.0.1/"}}, ("sink.http.url",)),
        ({"name": "s", "http": {"url": "http://siem.example/"}}, ("sink.http.url",)),
        ({"name": "s", "http": {"url": "https://siem.example/", "batch_max": -1}}, ("sink.http.batch_max",)),
        ({"name": "s", "http": {"url": "https://siem.example/", "timeout": timedelta(0)}}, ("sink.http.timeout",)),
        ({"name": "s", "http": {"url": "https://siem.example/"}, "strict_lag": timedelta(0)}, ("sink.strict_lag",)),
        ({"name": "s", "http": {"url": "https://siem.example/"}, "payload": 9}, ("sink.payload",)),
        ({"name": "s", "http": {"url": "https://siem.example/"}, "state": 9}, ("sink.state",)),
        ({"name": "s", "file": {"name": "../../etc/passwd"}}, ("sink.file", "sink.file.name")),
        (
            {"name": "s", "http": {"url": "https://siem.example/", "client_certificate": CERTIFICATE}},
            ("sink.http.client_key",),
        ),
    ),
)
async def test_what_cannot_be_a_sink_is_named(
    public_server: KeysteadServer, fields: dict[str, Any], named: tuple[str, ...]
) -> None:
    """Every field that is wrong is named, and nothing inside the operator's network is reached by default."""
    async with client_for(public_server, "grpc", public_server.management_key) as client:
        answer = await client.call("CreateSink", sink=fields)
        assert (answer.status, answer.fields) == ("INVALID_ARGUMENT", named)
        assert list((await client.call("ListSinks")).must().sinks) == []


@pytest.fixture(scope="module")
def public_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeysteadServer]:
    """Lend a server that is set as it comes."""
    farm = ServerFarm(tmp_path_factory.mktemp("sinks"))
    try:
        yield farm.start()
    finally:
        farm.end()


async def test_a_server_stops_while_a_service_hangs(servers: ServerFarm, service: RunningAuditLog) -> None:
    """Nobody waits for a service that hangs: the server ends in good order, and the next one goes on at once."""
    server = servers.start(outbound="any")
    async with client_for(server, "json", server.management_key) as client:
        await service.misbehave("hang=1")
        (await client.call("CreateSink", sink=to(service, http={"timeout": timedelta(seconds=60)}))).must()

        async def under_way() -> bool:
            return bool((await service.report())["received"])

        await eventually(under_way, within_s=10)
    assert server.stop(timeout_s=10) == 0
    server.start()
    async with client_for(server, "json", server.management_key) as client:
        await all_carried(client, service, within_s=10)
