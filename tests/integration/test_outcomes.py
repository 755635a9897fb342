"""Outcomes over the wire: how calls ended joins them whichever comes first, once, and inside the reporter's walls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from keystead.gen.v1 import usage_pb2, verification_pb2
from keystead.kernel.ids import new_id
from tests.clients import TRANSPORTS, Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

Query = usage_pb2.QueryUsageRequest
UNKNOWN = new_id("ver", now_ms=1_700_000_000_000)


async def make_key(client: Client, environment: str = "LIVE") -> Any:
    """Make a key."""
    wanted: dict[str, Any] = {
        "owner_id": "o",
        "create_owner": True,
        "name": "n",
        "environment": environment,
        "plan_id": "enterprise",
    }
    return (await client.call("CreateKey", scopes=["read:invoices"], **wanted)).must()


async def verified(client: Client, secret: str, environment: str = "LIVE", **fields: Any) -> str:
    """Verify a secret and return what the verdict is called."""
    return str((await client.call("VerifyKey", key=secret, environment=environment, **fields)).must().verification_id)


def outcome(verification_id: str, milliseconds: float | None = None, **status: Any) -> verification_pb2.Outcome:
    """Tell how a call ended."""
    told = verification_pb2.Outcome(verification_id=verification_id, **(status or {"http_status": 200}))
    if milliseconds is not None:
        told.latency.FromTimedelta(timedelta(milliseconds=milliseconds))
    return told


async def report(client: Client, *outcomes: verification_pb2.Outcome, token: str | None = None) -> int:
    """Report outcomes; return how many were kept."""
    return int((await client.call("ReportOutcomes", outcomes=outcomes, token=token)).must().received)


async def settle(client: Client, key_id: str, *, calls: int, outcomes: int) -> Any:
    """Wait until so many calls and outcomes of a key are counted, and return its usage; never sees more than that."""
    seen: list[Any] = []

    async def counted() -> bool:
        seen[:] = [(await client.call("GetKeyUsage", key_id=key_id)).must()]
        assert (seen[0].calls <= calls, seen[0].outcomes <= outcomes) == (True, True)
        return bool((seen[0].calls, seen[0].outcomes) == (calls, outcomes))

    await eventually(counted, within_s=10.0)
    return seen[0]


def milliseconds(told: Duration) -> float:
    """Read a duration."""
    return told.ToTimedelta() / timedelta(milliseconds=1)


async def test_outcomes_join_their_calls(servers: ServerFarm) -> None:
    """Reported before the flush, after it, twice and with other numbers: each call takes its first report, once, and
    rates, latencies, series, rankings and single calls agree with that.
    """
    async with client_for(servers.start()) as client:
        key = await make_key(client)
        early = [await verified(client, key.secret, tags=["a"]) for _ in range(3)]
        assert await report(client, *[outcome(it, 20.0) for it in early]) == 3
        assert await report(client, *[outcome(it, 900.0, http_status=500) for it in early]) == 3
        quiet = await settle(client, key.key.id, calls=3, outcomes=3)
        assert (quiet.errors, quiet.HasField("error_rate"), quiet.error_rate) == (0, True, 0.0)
        late = await verified(client, key.secret)
        await settle(client, key.key.id, calls=4, outcomes=3)
        assert await report(client, outcome(late, 3_000.0, grpc_status=14), outcome(early[0], 1.0)) == 2
        usage = await settle(client, key.key.id, calls=4, outcomes=4)
        assert await report(client, outcome(late, 1.0)) == 1
        assert (usage.errors, usage.error_rate) == (1, 0.25)
        told = usage.latency
        assert milliseconds(told.p50) == pytest.approx(20.0, rel=0.02)
        assert milliseconds(told.p99) == pytest.approx(3_000.0, rel=0.02)
        series = (await client.call("QueryUsage", interval=Query.DAY, group_by=Query.KEY)).must().series
        points = [point for it in series for point in it.points]
        assert (sum(it.outcomes for it in points), sum(it.errors for it in points)) == (4, 1)
        assert {round(milliseconds(it.latency.p50)) for it in points if it.outcomes} <= {20, 3_000}
        minutes = (await client.call("QueryUsage", interval=Query.MINUTE)).must().series
        assert not any(point.HasField("latency") for it in minutes for point in it.points)
        top = (await client.call("TopUsage", group_by=Query.TAG)).must().totals
        assert [(it.group, it.outcomes, it.errors) for it in top] == [("a", 3, 0)]
        calls = {it.verification_id: it for it in (await client.call("ListCalls")).must().calls}
        assert {calls[it].http_status for it in early} == {200}
        assert (calls[late].http_status, milliseconds(calls[late].latency)) == (503, 3_000.0)


async def test_without_outcomes_there_is_no_rate(servers: ServerFarm) -> None:
    """Nobody is told a rate, a status or a latency that nobody reported."""
    async with client_for(servers.start()) as client:
        key = await make_key(client)
        await verified(client, key.secret)
        usage = await settle(client, key.key.id, calls=1, outcomes=0)
        assert not usage.HasField("error_rate")
        assert not usage.HasField("latency")
        (call,) = (await client.call("ListCalls")).must().calls
        assert not call.HasField("http_status")
        assert not call.HasField("latency")


async def test_outcomes_have_walls(servers: ServerFarm) -> None:
    """Of a call, nobody but its own workspace and environment tells how it ended (P8), and all are answered alike."""
    async with client_for(servers.start()) as root:
        manager: dict[str, Any] = {"name": "m", "kind": "MANAGEMENT", "environment": "TEST"}
        tester = (await root.call("CreateKey", scopes=["verify:keys"], **manager)).must().secret
        blind = (await root.call("CreateKey", scopes=["read:usage"], **manager)).must().secret
        live, tried = await make_key(root), await make_key(root, "TEST")
        one, other = await verified(root, live.secret), await verified(root, tried.secret, "TEST")
        assert await report(root, outcome(one, http_status=500), outcome(UNKNOWN), token=tester) == 2
        assert await report(root, outcome(other, http_status=404), token=tester) == 1
        await settle(root, tried.key.id, calls=1, outcomes=1)
        assert await report(root, outcome(other, http_status=500), outcome(one, http_status=201)) == 2
        usage = await settle(root, live.key.id, calls=1, outcomes=1)
        assert usage.errors == 0
        refused = await root.call("ReportOutcomes", outcomes=[outcome(one)], token=blind)
        assert refused.refusal[1] == "PERMISSION_DENIED"


async def test_reports_outlive_a_crash(servers: ServerFarm) -> None:
    """What was answered as kept is joined once, also when the server is killed right afterwards (P12)."""
    server = servers.start()
    async with client_for(server) as client:
        key = await make_key(client)
        ids = [await verified(client, key.secret) for _ in range(50)]
        assert await report(client, *[outcome(it, 5.0, http_status=500) for it in ids]) == 50
    server.kill()
    server.start()
    async with client_for(server) as client:
        usage = await settle(client, key.key.id, calls=50, outcomes=50)
        assert usage.errors == 50


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_bad_outcome_fails_the_whole_report(shared_server: KeysteadServer, transport: str) -> None:
    """A report is refused by the place and the field that must change, and nothing of it is kept."""
    async with client_for(shared_server, transport) as client:
        key = await make_key(client)
        good = await verified(client, key.secret)
        for bad, field in (
            (outcome("ver_x"), "verification_id"),
            (outcome(key.key.id), "verification_id"),
            (verification_pb2.Outcome(verification_id=UNKNOWN), "http_status"),
            (outcome(UNKNOWN, http_status=99), "http_status"),
            (outcome(UNKNOWN, http_status=600), "http_status"),
            (outcome(UNKNOWN, grpc_status=17), "grpc_status"),
            (outcome(UNKNOWN, -1.0), "latency"),
            (outcome(UNKNOWN, 3_600_000.001), "latency"),
        ):
            refused = await client.call("ReportOutcomes", outcomes=[outcome(good), bad])
            assert refused.refusal == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert refused.fields == (f"outcomes[1].{field}",)
        many = await client.call("ReportOutcomes", outcomes=[outcome(good)] * 1_001)
        assert many.fields == ("outcomes",)
        await settle(client, key.key.id, calls=1, outcomes=0)
        assert await report(client, outcome(good, 3_600_000.0, grpc_status=16)) == 1
        usage = await settle(client, key.key.id, calls=1, outcomes=1)
        assert milliseconds(usage.latency.p50) == pytest.approx(3_600_000.0, rel=0.02)
        (call,) = (await client.call("ListCalls", filter={"key_id": key.key.id})).must().calls
        assert call.http_status == 401
