"""Usage over the wire: exact numbers, walls, and answers to bad questions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keystead.gen.v1 import usage_pb2, verification_pb2
from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

Query = usage_pb2.QueryUsageRequest
VALID = verification_pb2.VerifyKeyResponse.VALID


async def make_key(client: Client, owner_id: str, environment: str = "LIVE", **fields: Any) -> Any:
    """Make a key that may read invoices."""
    wanted: dict[str, Any] = {
        "owner_id": owner_id,
        "create_owner": True,
        "name": "n",
        "environment": environment,
        "plan_id": "enterprise",
    } | fields
    return (await client.call("CreateKey", scopes=["read:invoices"], **wanted)).must()


async def settle(client: Client, key_id: str, calls: int) -> Any:
    """Wait until all ``calls`` of a key are counted, and return its usage; never sees more than that."""
    seen: list[Any] = []

    async def counted() -> bool:
        seen[:] = [(await client.call("GetKeyUsage", key_id=key_id)).must()]
        assert seen[0].calls <= calls
        return bool(seen[0].calls == calls)

    await eventually(counted, within_s=10.0)
    return seen[0]


async def test_what_was_verified_is_told_exactly(servers: ServerFarm) -> None:
    """Sums, verdicts, last use, series, ranking and single calls agree with what was asked (P5)."""
    server = servers.start()
    async with client_for(server) as client:
        one, two = await make_key(client, "one"), await make_key(client, "two")
        for scope in ("read:invoices", "read:invoices", "admin:all"):
            await client.verify(one.secret, scope_expression=scope, operation="list", client_ip="192.0.2.7")
        await client.verify(two.secret)
        usage = await settle(client, one.key.id, 3)
        await settle(client, two.key.id, 1)
        assert (usage.admitted, usage.denied, usage.cost) == (2, 1, 3)
        assert dict(usage.by_code) == {"VALID": 2, "INSUFFICIENT_SCOPE": 1}
        assert usage.denial_rate == pytest.approx(1 / 3)
        assert (usage.last_used_ip, usage.last_operation) == ("192.0.2.7", "list")
        by_code = (await client.call("QueryUsage", group_by=Query.CODE, interval=Query.DAY)).must()
        assert {it.group: sum(point.calls for point in it.points) for it in by_code.series} == {
            "INSUFFICIENT_SCOPE": 1,
            "VALID": 3,
        }
        top = (await client.call("TopUsage", group_by=Query.OWNER)).must()
        assert [(it.group, it.calls) for it in top.totals] == [("one", 3), ("two", 1)]
        valid = (await client.call("ListCalls", filter={"key_id": one.key.id, "code": VALID})).must()
        assert [(it.owner_id, it.operation, it.client_ip) for it in valid.calls] == [("one", "list", "192.0.2.7")] * 2
        ending = datetime.now(UTC) + timedelta(minutes=1)
        pages = [(await client.call("ListCalls", page_size=3, to=ending)).must()]
        pages.append(
            (await client.call("ListCalls", page_size=3, to=ending, page_token=pages[0].next_page_token)).must()
        )
        assert [len(page.calls) for page in pages] == [3, 1]


async def test_usage_has_walls(servers: ServerFarm) -> None:
    """A management key for one environment is told nothing of the other, one without the scope nothing at all (P8)."""
    server = servers.start()
    async with client_for(server) as root:
        tried = await make_key(root, "o", "TEST")
        await root.verify(tried.secret, environment="TEST")
        await settle(root, tried.key.id, 1)
        manager: dict[str, Any] = {"name": "m", "kind": "MANAGEMENT", "environment": "LIVE"}
        live = (await root.call("CreateKey", scopes=["read:usage"], **manager)).must()
        blind = (await root.call("CreateKey", scopes=["read:keys"], **manager)).must()
        hidden = (await root.call("GetKeyUsage", key_id=tried.key.id, token=live.secret)).must()
        assert (hidden.calls, hidden.HasField("last_used_at")) == (0, False)
        assert not (await root.call("ListCalls", token=live.secret)).must().calls
        asked = await root.call("ListCalls", filter={"environment": "TEST"}, token=live.secret)
        assert asked.refusal[1] == "PERMISSION_DENIED"
        for method in ("QueryUsage", "TopUsage", "ListCalls"):
            assert (await root.call(method, token=blind.secret)).refusal[1] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    (
        ("GetKeyUsage", {"key_id": "x"}, "key_id"),
        ("QueryUsage", {"interval": 9}, "interval"),
        ("QueryUsage", {"group_by": 99}, "group_by"),
        ("TopUsage", {"limit": -1}, "limit"),
        ("ListCalls", {"page_size": -1}, "page_size"),
        ("ListCalls", {"page_token": "x"}, "page_token"),
        ("ListCalls", {"filter": {"operation": "x" * 101}}, "filter.operation"),
        ("ListCalls", {"filter": {"environment": "ALL"}}, "filter.environment"),
        ("QueryUsage", {"from": datetime(2000, 1, 1, tzinfo=UTC)}, "from"),
        ("QueryUsage", {"from": datetime(2099, 1, 1, tzinfo=UTC)}, "from"),
    ),
)
async def test_a_bad_question_is_told_what_to_change(
    shared_server: KeysteadServer, method: str, fields: dict[str, Any], field: str
) -> None:
    """Unknown numbers, bad ids, spans and sizes are refused by the field's name, and nothing fails inside."""
    async with client_for(shared_server) as client:
        refused = await client.call(method, **fields)
        assert refused.refusal[1] == "INVALID_REQUEST"
        assert field in str(refused)


async def test_costs_labels_and_peeks(servers: ServerFarm) -> None:
    """What a call costs is summed up, labels can be asked for, and who only looks is not counted (P5)."""
    server = servers.start()
    async with client_for(server) as client:
        made = await make_key(client, "one")
        calls: list[dict[str, Any]] = [
            {"cost": 5, "tags": ["team:a", "eu"]},
            {"cost": 0, "tags": ["eu"]},
            {},
            {"peek": True, "tags": ["eu"]},
        ]
        for said in calls:
            assert await client.verify(made.secret, scope_expression="read:invoices", **said) == "VALID"
        usage = await settle(client, made.key.id, 3)
        assert (usage.calls, usage.cost) == (3, 6)
        by_tag = (await client.call("TopUsage", group_by=Query.TAG)).must()
        assert [(it.group, it.calls, it.cost) for it in by_tag.totals] == [("eu", 2, 5), ("team:a", 1, 5)]
        series = (await client.call("QueryUsage", filter=usage_pb2.UsageFilter(tag="team:a"))).must().series
        assert [(point.calls, point.cost) for it in series for point in it.points] == [(1, 5)]
        listed = (await client.call("ListCalls", filter=usage_pb2.UsageFilter(tag="team:a"))).must().calls
        assert [(it.cost, list(it.tags), it.scope_expression) for it in listed] == [
            (5, ["eu", "team:a"], "read:invoices")
        ]


@pytest.mark.parametrize(
    "said",
    (
        {"cost": 1_000_001},
        {"tags": ["x"] * 2},
        {"tags": [""]},
        {"tags": ["x" * 65]},
        {"tags": [str(n) for n in range(21)]},
    ),
    ids=str,
)
async def test_bad_costs_and_labels(shared_server: KeysteadServer, said: dict[str, Any]) -> None:
    """What breaks a bound is refused by name, and nothing is counted."""
    async with client_for(shared_server) as client:
        made = await make_key(client, "one")
        answer = await client.call("VerifyKey", key=made.secret, environment="LIVE", **said)
        assert answer.refusal == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert (await client.call("GetKeyUsage", key_id=made.key.id)).must().calls == 0


async def test_labels_by_the_minute(shared_server: KeysteadServer) -> None:
    """Labels are summed by the hour, and a question for minutes says so instead of telling nothing."""
    async with client_for(shared_server) as client:
        answer = await client.call("QueryUsage", group_by=Query.TAG, interval=Query.MINUTE)
        assert answer.refusal == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_a_process_that_ended_is_not_waited_for(servers: ServerFarm, postgres_url: str) -> None:
    """Usage stays complete up to now when one of two processes is stopped: it has counted everything and said so."""
    staying = servers.start(database=postgres_url)
    leaving = servers.start(database=postgres_url)
    async with client_for(staying) as client:
        made = await make_key(client, "one")
        async with client_for(leaving, token=client.token) as there:
            assert await there.verify(made.secret) == "VALID"
            await there.verify("nonsense")
        assert await asyncio.to_thread(leaving.stop) == 0
        stopped_at = datetime.now(UTC)
        assert (await client.call("GetKeyUsage", key_id=made.key.id)).must().calls == 1

        async def complete() -> bool:
            usage = (await client.call("GetKeyUsage", key_id=made.key.id)).must()
            return bool(usage.complete_until.ToDatetime(UTC) > stopped_at)

        await eventually(complete, within_s=10.0)
