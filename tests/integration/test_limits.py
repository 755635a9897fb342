"""Limits over the wire: tiers that hold, counters that stay, and answers a client can act on (P4)."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from keystead.gen.v1 import keys_pb2, limiter_pb2, limits_pb2, plans_pb2, verification_pb2
from tests.clients import TRANSPORTS, Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivateRedis
from tests.web import web_client

Verdict = verification_pb2.VerifyKeyResponse
Gauge = limiter_pb2.LimitGauge
Plan = plans_pb2.Plan
ONE_A_MINUTE = {"limit": 1, "window": "60s"}
NOWHERE = "SCOPE_UNSPECIFIED"


def window(limit: int, *, name: str = "requests", on: str = "KEY", seconds: int = 60) -> limits_pb2.Limit:
    """Make a sliding window."""
    kind = limits_pb2.SlidingWindow(limit=limit, window=Duration(seconds=seconds))
    return limits_pb2.Limit(name=name, on=on, sliding_window=kind)  # type: ignore[arg-type]  # protobuf takes the name


def bucket(burst: int, *, name: str = "burst", rate: int = 1, seconds: int = 3_600) -> limits_pb2.Limit:
    """Make a bucket that gains ``rate`` tokens every ``seconds``."""
    kind = limits_pb2.TokenBucket(rate=rate, per=Duration(seconds=seconds), burst=burst)
    return limits_pb2.Limit(name=name, token_bucket=kind)


def quota(limit: int, *, name: str = "daily", soft: bool = False) -> limits_pb2.Limit:
    """Make a daily quota."""
    return limits_pb2.Limit(name=name, quota=limits_pb2.Quota(limit=limit, period=limits_pb2.Quota.DAY, soft=soft))


def credit(balance: int, *, name: str = "credit") -> limits_pb2.Limit:
    """Make credits."""
    return limits_pb2.Limit(name=name, credits=limits_pb2.Credits(balance=balance))


async def make_key(client: Client, *, owner_id: str = "owner", **fields: Any) -> Any:
    """Make a key on ``enterprise`` unless told otherwise, so that only its own limits apply."""
    wanted: dict[str, Any] = {"plan_id": "enterprise", "name": "n", "environment": "LIVE", "create_owner": True}
    return (await client.call("CreateKey", owner_id=owner_id, scopes=["read:invoices"], **(wanted | fields))).must()


async def ask(client: Client, key: str, **fields: Any) -> Any:
    """Verify and return the whole verdict."""
    return (await client.call("VerifyKey", key=key, **({"environment": "LIVE"} | fields))).must()


async def codes(client: Client, key: str, times: int, **fields: Any) -> list[str]:
    """Verify several times, and return the codes."""
    return [Verdict.Code.Name((await ask(client, key, **fields)).code) for _ in range(times)]


async def left(client: Client, key_id: str) -> dict[str, int]:
    """Return what is left of each limit of a key."""
    found = (await client.call("GetLimits", key_id=key_id)).must()
    return {gauge.limit.name: gauge.state.remaining for gauge in found.limits}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_free_key_has_a_hundred_a_minute(shared_server: KeysteadServer, transport: str) -> None:
    """The default plan, without anything set up: one call more is told when to come back."""
    async with client_for(shared_server, transport) as client:
        made = await make_key(client, plan_id="")
        verdict = await ask(client, made.secret)
        assert (verdict.binding_limit, [state.remaining for state in verdict.limits]) == ("requests", [99])
        assert await codes(client, made.secret, 99) == ["VALID"] * 99
        denied = await ask(client, made.secret)
        assert (denied.valid, denied.code, denied.http_status) == (False, Verdict.RATE_LIMITED, 429)
        assert 0 < denied.retry_after.ToMilliseconds() <= 62_000
        found = (await client.call("GetLimits", key_id=made.key.id)).must()
        assert (found.plan_name, [gauge.source for gauge in found.limits]) == ("free", [Gauge.PLAN])
        assert found.limits[0].state.remaining == 0


async def test_an_enterprise_key_has_no_limits(shared_server: KeysteadServer) -> None:
    """And its verdicts say nothing of any."""
    async with client_for(shared_server) as client:
        made = await make_key(client)
        assert await codes(client, made.secret, 300) == ["VALID"] * 300
        assert list((await ask(client, made.secret)).limits) == []


async def test_three_limits_are_all_or_nothing(shared_server: KeysteadServer) -> None:
    """A call that one denies spends nothing of the others, whichever comes first."""
    async with client_for(shared_server) as client:
        made = await make_key(client, limits=[bucket(3), window(2), quota(4)])
        assert await codes(client, made.secret, 4) == ["VALID", "VALID", "RATE_LIMITED", "RATE_LIMITED"]
        assert await left(client, made.key.id) == {"burst": 1, "requests": 0, "daily": 2}
        other = await make_key(client, limits=[bucket(9), window(9), quota(2), credit(5)])
        assert await codes(client, other.secret, 3) == ["VALID", "VALID", "QUOTA_EXCEEDED"]
        assert await left(client, other.key.id) == {"burst": 7, "requests": 7, "daily": 0, "credit": 3}


async def test_what_is_refused_for_another_reason_spends_nothing(shared_server: KeysteadServer) -> None:
    """A missing scope, a wrong address, a peek and a free call."""
    async with client_for(shared_server) as client:
        made = await make_key(client, limits=[window(2)], allowed_ips=["192.0.2.0/24"])
        inside = {"client_ip": "192.0.2.1"}
        assert await codes(client, made.secret, 3, client_ip="198.51.100.1") == ["IP_NOT_ALLOWED"] * 3
        scope = "write:invoices"
        assert await codes(client, made.secret, 3, scope_expression=scope, **inside) == ["INSUFFICIENT_SCOPE"] * 3
        assert await codes(client, made.secret, 3, peek=True, **inside) == ["VALID"] * 3
        assert await codes(client, made.secret, 3, cost=0, **inside) == ["VALID"] * 3
        assert await codes(client, made.secret, 1, cost=3, **inside) == ["RATE_LIMITED"]
        assert await left(client, made.key.id) == {"requests": 2}
        assert await codes(client, made.secret, 1, cost=2, **inside) == ["VALID"]
        assert await codes(client, made.secret, 1, cost=0, **inside) == ["VALID"], "a free call is never denied"


async def test_a_limit_of_nothing_denies_always(shared_server: KeysteadServer) -> None:
    """Also a free call; and no client is told to wait for what never comes."""
    async with client_for(shared_server) as client:
        for limit in (window(0), bucket(5, rate=0), quota(0)):
            made = await make_key(client, limits=[limit])
            for cost in (0, 1):
                verdict = await ask(client, made.secret, cost=cost)
                assert (verdict.valid, verdict.HasField("retry_after")) == (False, False), (limit, cost)


async def test_rotation_and_other_numbers_keep_what_was_spent(shared_server: KeysteadServer) -> None:
    """A new secret is no new allowance, nor is another plan with a limit of the same name (P7)."""
    async with client_for(shared_server) as client:
        plan = (await client.call("CreatePlan", name="ten", limits=[window(10), quota(20)])).must().plan
        larger = (await client.call("CreatePlan", name="larger", limits=[window(15), quota(30)])).must().plan
        made = await make_key(client, plan_id="ten")
        assert made.key.plan_id == plan.id
        await codes(client, made.secret, 4)
        rotated = (await client.call("RotateKey", key_id=made.key.id)).must()
        await codes(client, rotated.secret, 2)
        assert await left(client, made.key.id) == {"requests": 4, "daily": 14}
        wanted = keys_pb2.Key(id=made.key.id, plan_id=larger.id)
        (await client.call("UpdateKey", key=wanted, update_mask=FieldMask(paths=["plan_id"]))).must()
        assert await left(client, made.key.id) == {"requests": 9, "daily": 24}
        changed = Plan(id=larger.id, limits=[window(7), quota(8)])
        (await client.call("UpdatePlan", plan=changed, update_mask=FieldMask(paths=["limits"]))).must()
        assert await codes(client, made.secret, 2) == ["VALID", "RATE_LIMITED"]
        assert await left(client, made.key.id) == {"requests": 0, "daily": 1}


async def test_an_owners_limit_is_shared_and_a_keys_own_replaces_it(shared_server: KeysteadServer) -> None:
    """All keys of an owner count together, in each environment apart; the key's limit of the same name goes first."""
    async with client_for(shared_server) as client:
        (await client.call("CreateOwner", owner_id="shared", limits=[window(3, on="OWNER")])).must()
        one, two = [await make_key(client, owner_id="shared") for _ in range(2)]
        test = await make_key(client, owner_id="shared", environment="TEST")
        own = await make_key(client, owner_id="shared", limits=[window(1)])
        assert await codes(client, one.secret, 2) == ["VALID", "VALID"]
        assert await codes(client, two.secret, 2) == ["VALID", "RATE_LIMITED"]
        assert await codes(client, test.secret, 1, environment="TEST") == ["VALID"]
        assert await codes(client, own.secret, 2) == ["VALID", "RATE_LIMITED"]
        sources = [gauge.source for gauge in (await client.call("GetLimits", key_id=own.key.id)).must().limits]
        assert sources == [Gauge.KEY]


async def test_what_was_spent_can_be_given_back(shared_server: KeysteadServer) -> None:
    """All limits of the key itself, or those that are named; a shared one only when it is named."""
    async with client_for(shared_server) as client:
        limits = [window(2), quota(3), window(5, name="all", on="OWNER")]
        made = await make_key(client, owner_id="reset", limits=limits)
        await codes(client, made.secret, 2)
        reset = (await client.call("ResetLimits", key_id=made.key.id, reason="asked for")).must()
        assert list(reset.names) == ["requests", "daily"]
        assert (await left(client, made.key.id))["requests"] == 2
        (await client.call("ResetLimits", key_id=made.key.id, names=["all"])).must()
        assert (await left(client, made.key.id))["all"] == 5
        refused = await client.call("ResetLimits", key_id=made.key.id, names=["nothing"])
        assert (refused.reason, refused.fields) == ("INVALID_REQUEST", ("names",))


async def test_credits_are_spent_and_added(shared_server: KeysteadServer) -> None:
    """A balance is money: it ends, and more is added by name."""
    async with client_for(shared_server) as client:
        made = await make_key(client, limits=[credit(3)])
        assert await codes(client, made.secret, 4) == ["VALID"] * 3 + ["QUOTA_EXCEEDED"]
        added = (await client.call("AdjustCredits", key_id=made.key.id, name="credit", delta=2)).must()
        assert added.balance == 2

        async def seen() -> bool:
            return bool((await ask(client, made.secret, peek=True)).valid)

        await eventually(seen, within_s=2.0)
        assert await codes(client, made.secret, 3) == ["VALID", "VALID", "QUOTA_EXCEEDED"]
        for name, delta in (("credit", -9), ("nothing", 1)):
            refused = await client.call("AdjustCredits", key_id=made.key.id, name=name, delta=delta)
            assert refused.reason == "INVALID_REQUEST"


async def test_a_soft_quota_only_tells(shared_server: KeysteadServer) -> None:
    """It counts past its end and denies nothing."""
    async with client_for(shared_server) as client:
        made = await make_key(client, limits=[quota(2, soft=True)])
        assert await codes(client, made.secret, 5) == ["VALID"] * 5
        assert await left(client, made.key.id) == {"daily": 0}


async def test_limits_without_a_key(shared_server: KeysteadServer) -> None:
    """The limiter is there for whatever else a platform counts: a subject, a cost, and nothing stored."""
    async with client_for(shared_server) as client:

        async def check(subject: str, **fields: Any) -> Any:
            wanted = {"environment": "LIVE", "limits": [bucket(3), window(5, on=NOWHERE)]} | fields
            return (await client.call("CheckLimit", subject=subject, **wanted)).must()

        assert [(await check("address 192.0.2.1", cost=2)).allowed for _ in range(2)] == [True, False]
        assert (await check("address 192.0.2.1", cost=1, peek=True)).allowed
        assert (await check("address 192.0.2.2")).allowed
        denied = await check("address 192.0.2.1", cost=2)
        assert (denied.binding_limit, denied.retry_after.seconds) == ("burst", 3_599)
        for fields, field in (
            ({"subject": ""}, "subject"),
            ({"limits": []}, "limits"),
            ({"limits": [quota(1)]}, "limits[0]"),
            ({"limits": [window(1, on="OWNER")]}, "limits[0].on"),
            ({"cost": 4}, "limits[0].token_bucket.burst"),
            ({"cost": 1_000_001, "limits": [window(9, on=NOWHERE)]}, "cost"),
            ({"limits": [window(9, on=NOWHERE, seconds=0)]}, "limits[0].sliding_window.window"),
        ):
            asked: dict[str, Any] = {"subject": "s", "environment": "LIVE", "limits": [bucket(3)], **fields}
            refused = await client.call("CheckLimit", **asked)
            assert (refused.reason, refused.fields) == ("INVALID_REQUEST", (field,)), fields


async def test_limits_of_others_are_unknown(shared_server: KeysteadServer) -> None:
    """A key of the other environment answers exactly as one that does not exist (P8)."""
    async with client_for(shared_server) as client:
        test = await make_key(client, environment="TEST")
        wanted: dict[str, Any] = {"name": "m", "kind": "MANAGEMENT", "environment": "LIVE"}
        wanted["scopes"] = ["read:limits", "write:limits"]
        live_only = (await client.call("CreateKey", **wanted)).must().secret
        asked: dict[str, dict[str, Any]] = {
            "GetLimits": {},
            "ResetLimits": {},
            "AdjustCredits": {"name": "credit", "delta": 1},
        }
        for method, fields in asked.items():
            refusals = set()
            for key_id in (test.key.id, "key_01h455vb4pex5vsknk084sn02q"):
                answer = await client.call(method, token=live_only, key_id=key_id, **fields)
                refusals.add((answer.refusal, answer.text.replace(key_id, "ID")))
            assert len(refusals) == 1
            assert next(iter(refusals))[0] == ("NOT_FOUND", "NOT_FOUND")


async def test_http_clients_are_told_in_headers(shared_server: KeysteadServer) -> None:
    """The draft's fields, in its form, and a Retry-After that is not too early."""
    async with client_for(shared_server) as client, web_client() as http:
        made = await make_key(client, limits=[window(1), quota(50)])

        async def headers() -> Any:
            reply = await http.post(
                f"{shared_server.http}/keystead.v1.VerificationService/VerifyKey",
                headers={"authorization": f"Bearer {shared_server.management_key}"},
                json={"key": made.secret, "environment": "LIVE"},
            )
            return reply.headers

        first, second = await headers(), await headers()
        assert first["ratelimit-policy"] == '"requests";q=1;w=60, "daily";q=50;w=86400'
        assert first["ratelimit"].startswith('"requests";r=0;t=6')
        assert "retry-after" not in first
        denying, passing = second["ratelimit"].split(", ")
        assert int(second["retry-after"]) >= int(denying.rpartition("=")[2]) > 0
        assert passing == '"daily";r=49'
        check = {"subject": "s", "environment": "LIVE", "limits": [{"name": "one", "slidingWindow": ONE_A_MINUTE}]}
        replies = [
            await http.post(
                f"{shared_server.http}/keystead.v1.LimitService/CheckLimit",
                headers={"authorization": f"Bearer {shared_server.management_key}"},
                json=check,
            )
            for _ in range(2)
        ]
        assert [reply.headers.get("ratelimit", "")[:9] for reply in replies] == ['"one";r=0', '"one";r=0']
        assert ["retry-after" in reply.headers for reply in replies] == [False, True]


async def test_nodes_share_limits_and_follow_a_plan(
    servers: ServerFarm, postgres_url: str, redis: PrivateRedis
) -> None:
    """Two nodes on one Redis count together, and a changed plan holds on the other within a second (P3, P4)."""
    one = servers.start(database=postgres_url, redis=redis.url(1))
    two = servers.start(flags=(), database=postgres_url, redis=redis.url(1))
    async with client_for(one) as first, client_for(two, token=one.management_key) as second:
        (await first.call("CreatePlan", name="six", limits=[window(6), quota(40)])).must()
        made = await make_key(first, plan_id="six")
        both = [Verdict.Code.Name((await ask(client, made.secret)).code) for client in (first, second) * 4]
        assert both == ["VALID"] * 6 + ["RATE_LIMITED"] * 2
        changed = Plan(id="six", limits=[window(20), quota(40)])
        (await first.call("UpdatePlan", plan=changed, update_mask=FieldMask(paths=["limits"]))).must()
        assert (await ask(first, made.secret)).valid

        async def follows() -> bool:
            return bool((await ask(second, made.secret, peek=True)).valid)

        await eventually(follows, within_s=1.0)


@pytest.mark.parametrize(("policy", "code"), (("DENY", "RATE_LIMITED"), ("ALLOW", "VALID"), ("LOCAL", "RATE_LIMITED")))
async def test_an_outage_of_redis_does_what_the_plan_chose(
    servers: ServerFarm, own_redis: PrivateRedis, policy: str, code: str
) -> None:
    """At once and marked as degraded, with quotas that hold all the same; and all is well when Redis is back (P10)."""
    server = servers.start(redis=own_redis.url())
    async with client_for(server) as client:
        plan: dict[str, Any] = {"limits": [window(50), quota(40)], "on_limiter_outage": policy}
        (await client.call("CreatePlan", name="tier", **plan)).must()
        made = await make_key(client, plan_id="tier")
        assert await codes(client, made.secret, 3) == ["VALID"] * 3
        own_redis.kill()
        verdicts = [await ask(client, made.secret) for _ in range(5)]
        assert [(Verdict.Code.Name(it.code), it.degraded) for it in verdicts] == [(code, True)] * 5
        spent = 8 if policy == "ALLOW" else 3
        assert (await left(client, made.key.id))["daily"] == 40 - spent
        own_redis.start()

        async def back() -> bool:
            verdict = await ask(client, made.secret, peek=True)
            return bool(verdict.valid and not verdict.degraded)

        await eventually(back, within_s=10.0)
