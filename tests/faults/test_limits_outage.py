"""What clients of real servers are told while Redis or a server is killed, frozen or emptied (P4, P5, P10).

Nobody asks the limiter for its own time: from when each call was sent and its verdict received follows what cannot be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as clients
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.gen.v1 import limits_pb2
from keystead.kernel.limit import SlidingWindow, TokenBucket
from tests.clients import Client, client_for
from tests.crowds import Account, Crowd, ask, now_us
from tests.placements import Admission, surely_over
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.services import DurableRedis, PrivateRedis
from tests.web import web_client

pytestmark = pytest.mark.alone

WINDOW, BUCKET = SlidingWindow(200, 2_000), TokenBucket(60, 1_000, 150)
WIDE_WINDOW, WIDE_BUCKET = SlidingWindow(100_000, 2_000), TokenBucket(100_000, 1_000, 100_000)
AMPLE = 100_000
SCARCE = 2_000
NARROW_BUCKET = TokenBucket(120, 1_000, 60)
POLICIES = {"deny": (WINDOW, WIDE_BUCKET), "local": (WINDOW, NARROW_BUCKET), "allow": (WIDE_WINDOW, BUCKET)}
"""What binds those who hammer: a window, a window and sometimes a bucket, a bucket."""
QUIET_US = 2_200_000
"""Longer than the window: outages that lie further apart share no interval."""
DRAIN_COST = 100
FAILURES_MAX = 3
"""So many failures in a row open the breaker."""
TIMEOUT_MS = 250
MARGIN_MS = 750
AWAY_CALLS = 60


@pytest.fixture
def durable_redis() -> Iterator[DurableRedis]:
    """Lend a Redis that keeps what it answered."""
    server = DurableRedis()
    yield server
    server.remove()


def limits(
    window: SlidingWindow, bucket: TokenBucket, *, quota: int = AMPLE, credit: int = AMPLE
) -> list[limits_pb2.Limit]:
    """Make a window, a bucket, a daily quota whose day began an hour ago, and credits; all on the key."""
    anchor = Timestamp(seconds=int(time.time()) - 3_600)
    length, per = Duration(), Duration()
    length.FromMilliseconds(window.window_ms)
    per.FromMilliseconds(bucket.per_ms)
    quota_kind = limits_pb2.Quota(limit=quota, period=limits_pb2.Quota.DAY, anchor=anchor)
    bucket_kind = limits_pb2.TokenBucket(rate=bucket.rate, per=per, burst=bucket.burst)
    return [
        limits_pb2.Limit(name="window", sliding_window=limits_pb2.SlidingWindow(limit=window.limit, window=length)),
        limits_pb2.Limit(name="bucket", token_bucket=bucket_kind),
        limits_pb2.Limit(name="quota", quota=quota_kind),
        limits_pb2.Limit(name="credits", credits=limits_pb2.Credits(balance=credit)),
    ]


async def make_account(client: Client, name: str, *, policy: str, given: list[limits_pb2.Limit]) -> Account:
    """Make a key on a plan of its own."""
    (await client.call("CreatePlan", name=name, limits=given, on_limiter_outage=policy.upper())).must()
    wanted: dict[str, Any] = {"owner_id": name, "create_owner": True, "name": name, "environment": "LIVE"}
    made = (await client.call("CreateKey", plan_id=name, **wanted)).must()
    return Account(made.key.id, made.secret)


async def metrics(server: KeysteadServer) -> dict[str, float]:
    """Read the metrics, by name and labels."""
    async with web_client() as client:
        text = (await client.get(f"{server.http}/metrics")).text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@dataclass(slots=True)
class Scene:
    """Servers on one Redis, keys of every policy and one with little quota, and when Redis was away."""

    servers: list[KeysteadServer]
    redis: PrivateRedis
    accounts: dict[str, Account]
    crowd: Crowd
    away: list[tuple[int, int]] = field(default_factory=list)
    kills: int = 0

    @classmethod
    async def set(cls, farm: ServerFarm, database: str, redis: PrivateRedis, *, servers: int) -> Scene:
        """Start the servers, one after the other, and make the keys."""
        settings: dict[str, Any] = {
            "database": database,
            "redis": redis.url(),
            "redis_timeout_ms": 1_000,
            "expected_nodes": servers,
        }
        started = [
            await asyncio.to_thread(farm.start, flags=() if number else ("--first-run",), **settings)
            for number in range(servers)
        ]
        async with client_for(started[0]) as client:
            accounts = {
                name: await make_account(client, name, policy=name, given=limits(*bounds))
                for name, bounds in POLICIES.items()
            }
            little = limits(WIDE_WINDOW, WIDE_BUCKET, quota=SCARCE, credit=SCARCE + DRAIN_COST)
            accounts["scarce"] = await make_account(client, "scarce", policy="deny", given=little)
        return cls(started, redis, accounts, Crowd(started, list(accounts.values())))

    async def outage(self, *, long: bool) -> None:
        """Kill Redis, let it be missed, and wait until nobody has missed it for longer than a window.

        It is killed when half a window has just been spent, all of which is to be remembered when it is back. A long
        outage lasts until what servers count for themselves has come up to a whole window.
        """
        await self.crowd.more(self.accounts["deny"], WINDOW.limit // 2, lambda one: one.admitted)
        await asyncio.to_thread(self.redis.kill)
        began_us = now_us()
        for policy in POLICIES:
            await self.crowd.more(self.accounts[policy], 20, lambda one: one.degraded)
        if long:
            await self.crowd.more(self.accounts["local"], WINDOW.limit, lambda one: one.degraded and one.admitted)
        self.away.append((began_us, now_us()))
        await asyncio.to_thread(self.redis.restart)

        async def quiet() -> bool:
            latest = max(one.received_us for policy in POLICIES for one in self.accounts[policy].degraded())
            return now_us() - latest > QUIET_US

        await eventually(quiet, within_s=30.0)

    async def lose_server(self, number: int) -> None:
        """Kill a server in the midst of calls and start it again."""
        await self.crowd.more(self.accounts["scarce"], 20, lambda one: one.server == number)
        self.crowd.present[number] = False
        self.kills += 1
        await asyncio.to_thread(self.servers[number].kill)
        await asyncio.to_thread(self.servers[number].start)
        self.crowd.present[number] = True
        await self.crowd.more(self.accounts["scarce"], 20, lambda one: one.server == number)

    async def flush(self) -> int:
        """Empty Redis when half a window has just been spent, let more pass, and say when that was."""
        await self.crowd.more(self.accounts["deny"], WINDOW.limit // 2, lambda one: one.admitted)
        began_us = now_us()
        await asyncio.to_thread(clients.Redis.from_url(self.redis.url()).flushall)
        await self.crowd.more(self.accounts["deny"], WINDOW.limit * 3 // 4, lambda one: one.admitted)
        await self.crowd.more(self.accounts["allow"], BUCKET.burst, lambda one: one.admitted)
        return began_us


def demand_exact(scene: Scene, before_us: int) -> None:
    """Demand that what Redis decided before a moment keeps both bounds of every plan."""
    for policy, (window, bucket) in POLICIES.items():
        told = scene.accounts[policy].admissions(lambda one: not one.degraded and one.received_us < before_us)
        assert len(told) > WINDOW.limit
        assert surely_over(window, told) <= 0, policy
        assert surely_over(bucket, told) <= 0, policy


def demand_local(account: Account) -> None:
    """Demand that all servers together kept the bounds without Redis, so that no interval saw more than twice."""
    alone = account.admissions(lambda one: one.degraded)
    assert alone
    assert surely_over(WINDOW, alone) <= 0
    assert surely_over(NARROW_BUCKET, alone) <= 0


def demand_one_more(scene: Scene) -> None:
    """Demand that a flush was felt, which shows that an excess is seen, and cost no more than a window or a burst."""
    assert 0 < surely_over(WINDOW, scene.accounts["deny"].admissions()) <= WINDOW.limit
    by_redis = scene.accounts["allow"].admissions(lambda one: not one.degraded)
    assert 0 < surely_over(BUCKET, by_redis) <= BUCKET.burst


def demand_chosen(scene: Scene) -> None:
    """Demand that each call sent and answered while Redis was away was decided as its plan says, and shown to be."""
    for policy, account in scene.accounts.items():
        for began_us, ended_us in scene.away:
            alone = [one for one in account.told if began_us <= one.sent_us and one.received_us <= ended_us]
            assert alone or policy == "scarce"
            assert all(one.degraded for one in alone)
            codes = {one.code for one in alone}
            if policy == "allow":
                assert codes == {"VALID"}
            elif policy == "deny":
                assert codes == {"RATE_LIMITED"}
    for name in ("deny", "scarce"):
        assert not any(one.admitted for one in scene.accounts[name].degraded())


async def demand_metrics(scene: Scene) -> None:
    """Demand that a server that lived through it all tells of every call that it decided without Redis."""
    told = await metrics(scene.servers[0])
    for policy in POLICIES:
        accounts = [scene.accounts[policy]] + ([scene.accounts["scarce"]] if policy == "deny" else [])
        here = sum(one.server == 0 for account in accounts for one in account.degraded())
        assert told[f'keystead_limits_away_total{{policy="{policy}"}}'] == here
    assert told["keystead_redis_connections_total"] >= 1 + len(scene.away)
    assert told["keystead_limits_breaker_openings_total"] >= len(scene.away)
    assert (told["keystead_redis_connected"], told["keystead_limits_breaker_open"]) == (1, 0)
    failed = sum(told[f'keystead_redis_failures_total{{result="{how}"}}'] for how in ("timeout", "error", "refused"))
    assert failed >= FAILURES_MAX * len(scene.away)
    asked = [one for account in scene.accounts.values() for one in account.told if one.server == 0]
    for result, wanted in (("admitted", True), ("denied", False)):
        assert told[f'keystead_limits_decided_total{{result="{result}"}}'] == sum(it.admitted is wanted for it in asked)


async def drain(scene: Scene) -> None:
    """Spend what is left of the scarce quota, until it is denied."""
    account = scene.accounts["scarce"]
    async with client_for(scene.servers[0]) as client:
        for _ in range(2 * SCARCE // DRAIN_COST):
            await ask(client, account, 0, cost=DRAIN_COST)
            if account.told[-1].code == "QUOTA_EXCEEDED":
                return
    raise AssertionError("a quota does not end")


async def demand_nothing_lost(scene: Scene) -> None:
    """Stop all servers and demand that what was taken of every allowance was spent, or died with a server."""
    for server in scene.servers:
        await asyncio.to_thread(server.stop)
    server = await asyncio.to_thread(scene.servers[0].start)
    async with client_for(server) as client:
        for name, account in scene.accounts.items():
            found = (await client.call("GetLimits", key_id=account.key_id)).must()
            assert account.refused == []
            for gauge in found.limits:
                if gauge.limit.WhichOneof("kind") not in {"quota", "credits"}:
                    continue
                whole = gauge.limit.quota.limit or gauge.limit.credits.balance
                taken = whole - gauge.state.remaining
                assert account.spent <= taken <= whole, (name, gauge)
                # A sixteenth of what is left, and what the calls under way had asked for beyond it.
                block = whole // 16 + 4
                assert taken <= account.spent + account.unanswered + scene.kills * block, (name, gauge)


async def demand_counted(scene: Scene) -> None:
    """Demand that each verdict is counted under its code, and beside them at most what was under way at a kill."""
    async with client_for(scene.servers[0]) as client:
        for account in scene.accounts.values():
            answered = account.codes

            async def complete(account: Account = account) -> bool:
                usage = await client.call("GetKeyUsage", key_id=account.key_id)
                return bool(usage.ok and usage.reply.calls >= len(account.told))

            await eventually(complete, within_s=30.0)
            usage = (await client.call("GetKeyUsage", key_id=account.key_id)).must()
            assert usage.calls <= len(account.told) + account.unanswered
            for code in answered | dict(usage.by_code):
                assert answered[code] <= usage.by_code.get(code, 0) <= answered[code] + account.unanswered, code


@pytest.mark.parametrize(("servers_count", "rounds"), ((2, 2), pytest.param(3, 8, marks=pytest.mark.soak)))
async def test_redis_and_a_server_are_killed_under_load(
    servers: ServerFarm, postgres_url: str, durable_redis: DurableRedis, servers_count: int, rounds: int
) -> None:
    """Whatever is killed: what Redis decides is never over, without it each plan gets what it chose, quotas and credits
    hold to the unit, and each verdict is counted once; only a flush costs something, one window or burst.
    """
    scene = await Scene.set(servers, postgres_url, durable_redis, servers=servers_count)
    async with scene.crowd.hammering():
        for number in range(rounds):
            await scene.outage(long=bool(number % 2))
            if number < max(1, rounds // 2):
                await scene.lose_server(1)
        flushed_us = await scene.flush()
    demand_exact(scene, flushed_us)
    demand_local(scene.accounts["local"])
    demand_chosen(scene)
    demand_one_more(scene)
    await drain(scene)
    await demand_metrics(scene)
    await demand_nothing_lost(scene)
    await demand_counted(scene)
    assert {"VALID", "RATE_LIMITED", "QUOTA_EXCEEDED"} == set(scene.accounts["scarce"].codes)


async def took_ms(client: Client, account: Account) -> float:
    """Ask once; return how long the verdict took."""
    assert await ask(client, account, 0)
    latest = account.told[-1]
    return (latest.received_us - latest.sent_us) / 1_000


async def test_a_frozen_redis_holds_no_call(servers: ServerFarm, own_redis: PrivateRedis) -> None:
    """Each verdict comes in time, and after three that had to wait the others come at once (P10)."""
    server = await asyncio.to_thread(servers.start, redis=own_redis.url(), redis_timeout_ms=TIMEOUT_MS)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_for(server))
        account = await make_account(client, "deny", policy="deny", given=limits(WINDOW, BUCKET))
        assert await took_ms(client, account) < TIMEOUT_MS
        stack.callback(own_redis.thaw)
        own_redis.freeze()
        times_ms = [await took_ms(client, account) for _ in range(AWAY_CALLS)]
        waited_ms, others_ms = times_ms[:FAILURES_MAX], sorted(times_ms[FAILURES_MAX:])
        assert all(TIMEOUT_MS - 10 <= one < TIMEOUT_MS + MARGIN_MS for one in waited_ms), waited_ms
        assert others_ms[-1] < TIMEOUT_MS + MARGIN_MS
        assert others_ms[len(others_ms) * 9 // 10] < TIMEOUT_MS / 2
        told = await metrics(server)
        assert told['keystead_redis_failures_total{result="timeout"}'] == FAILURES_MAX
        assert told['keystead_limits_away_total{policy="deny"}'] == AWAY_CALLS
        assert told["keystead_limits_breaker_openings_total"] == 1
        assert told["keystead_limits_breaker_open"] == 1
        own_redis.thaw()

        async def back() -> bool:
            return await ask(client, account, 0) and not account.told[-1].degraded

        await eventually(back, within_s=15.0)
        own_redis.freeze()
        together_ms = await asyncio.gather(*[took_ms(client, account) for _ in range(AWAY_CALLS)])
        assert max(together_ms) < TIMEOUT_MS + MARGIN_MS


def test_what_cannot_be_is_seen() -> None:
    """The check finds the least excess that no placement explains, and none that one does."""
    window, bucket = SlidingWindow(2, 1_000), TokenBucket(1, 1_000, 2)
    burst = [Admission(at_us, at_us + 10) for at_us in (0, 100, 200)]
    assert (surely_over(window, burst), round(surely_over(bucket, burst))) == (1, 1)
    slow = [*burst[:2], Admission(200, 2_000_000)]
    assert surely_over(window, slow) == 0
    assert surely_over(bucket, slow) <= 0
    spread = [Admission(at_us, at_us) for at_us in (0, 0, 1_000_000, 2_000_000)]
    assert surely_over(window, spread) == 0
    assert surely_over(bucket, spread) <= 0
    assert surely_over(window, [Admission(0, 5, 7)]) == 5
