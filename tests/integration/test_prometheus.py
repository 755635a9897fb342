"""A real Prometheus watches a real server: every panel shows something, every alert can be judged, nothing leaks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest
from google.protobuf.duration_pb2 import Duration

from keystead.gen.v1 import limits_pb2
from tests import monitoring
from tests.clients import STREAMS, Client, client_for
from tests.polling import eventually
from tests.prometheus import PrivatePrometheus
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres, PrivateRedis, free_port
from tests.streams import StreamClient
from tests.web import web_client

SHOWN_WITHIN_S = 60.0
RANGE_S = 30
LARGE = limits_pb2.Limit(
    name="large", sliding_window=limits_pb2.SlidingWindow(limit=1_000_000, window=Duration(seconds=60))
)
SECRET_OWNER = "owner-nobody-may-see"


async def make_key(client: Client, **fields: Any) -> Any:
    """Make a key that may read invoices."""
    return (
        await client.call(
            "CreateKey",
            owner_id=SECRET_OWNER,
            create_owner=True,
            name="n",
            environment="LIVE",
            scopes=["read:invoices"],
            **fields,
        )
    ).must()


async def make_traffic(client: Client) -> None:
    """Ask for everything that is counted, again and again: warm, cold, forged, denied, and calls that are refused."""
    while True:
        made = await make_key(client, plan_id="enterprise", limits=[LARGE])
        unlimited = await make_key(client, kind="SERVICE")
        for _ in range(40):
            await client.verify(made.secret, scope_expression="read:invoices", client_ip="192.0.2.7")
            await client.verify(unlimited.secret)
        await client.verify(made.secret, scope_expression="write:invoices")
        await client.verify(made.secret + "x")
        await client.verify("k" * 10_000)
        await client.call("VerifyKey", token="keystead_live_no", key=made.secret)


async def open_and_close(streams: StreamClient) -> None:
    """Open a stream, wait for what it tells first, leave, and do it again."""
    tail = STREAMS["TailCalls"]
    while True:
        async with aclosing(streams.open("grpc", tail, tail.request())) as told:
            await anext(told)


@asynccontextmanager
async def traffic(server: KeysteadServer) -> AsyncIterator[Client]:
    """Make traffic, streams among it, beside what is done with the client that is lent."""
    async with (
        client_for(server) as client,
        client_for(server) as other,
        StreamClient(server.grpc, server.http, server.management_key) as streams,
    ):
        tasks = [asyncio.create_task(make_traffic(other)), asyncio.create_task(open_and_close(streams))]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def scrape(server: KeysteadServer, **headers: str) -> httpx2.Response:
    """Read the metrics as anybody would."""
    async with web_client() as client:
        return await client.get(f"{server.http}/metrics", headers=headers)


@pytest.fixture
def watched(servers: ServerFarm, own_postgres: PrivatePostgres, redis: PrivateRedis) -> KeysteadServer:
    """Lend a server on PostgreSQL and Redis that also feeds an Entitlements service, which does not answer."""
    return servers.start(
        database=own_postgres.create_database("watched"),
        entitlements_url=f"http://127.0.0.1:{free_port()}",
        redis=redis.url(2),
    )


@pytest.fixture
def prometheus(watched: KeysteadServer) -> Iterator[PrivatePrometheus]:
    """Lend a Prometheus that watches the server, with the rules of `deploy/`."""
    server = PrivatePrometheus(watched.http.removeprefix("http://"))
    server.start()
    yield server
    server.remove()


async def test_every_panel_of_the_dashboard_shows_data(watched: KeysteadServer, prometheus: PrivatePrometheus) -> None:
    """An operator who imports the dashboard sees numbers in every panel while there is traffic."""
    left = list(monitoring.panel_queries())

    async def all_shown() -> bool:
        for query in tuple(left):
            samples = await prometheus.query(monitoring.as_grafana_sends(query.expression, range_s=RANGE_S))
            if any(math.isfinite(float(sample["value"][1])) for sample in samples):
                left.remove(query)
        return not left

    async with traffic(watched) as client:
        await client.call("QueryUsage", interval="DAY")
        with suppress(AssertionError):
            await eventually(all_shown, within_s=SHOWN_WITHIN_S)
    assert left == []


async def test_every_alert_can_be_judged(watched: KeysteadServer, prometheus: PrivatePrometheus) -> None:
    """The rules pass promtool, Prometheus evaluates each, and a server that is gone is what its alert asks for."""
    prometheus.check()
    rules = dict(monitoring.alert_queries())

    async def judged() -> bool:
        seen = await prometheus.query('up{job="keystead"} == 1') != []
        return seen and set((await prometheus.alerts()).values()) == {"ok"}

    async with traffic(watched):
        await eventually(judged, within_s=SHOWN_WITHIN_S)
        assert set(await prometheus.alerts()) == set(rules)
    assert await prometheus.query(rules["KeysteadDown"]) == []
    watched.kill()

    async def down() -> bool:
        return await prometheus.query(rules["KeysteadDown"]) != []

    await eventually(down, within_s=SHOWN_WITHIN_S)


async def test_counts_are_the_calls_that_were_made(servers: ServerFarm) -> None:
    """Verdicts, calls, hits and misses are exact; metrics tell nobody's name, id, address or secret (P1, P8).

    A key that was just made may be read twice: once more when the log brings the news of it.
    """
    server = servers.start()
    async with client_for(server) as client:
        made = await make_key(client, plan_id="enterprise", limits=[LARGE])
        for _ in range(100):
            await client.verify(made.secret, client_ip="192.0.2.7", operation="op-nobody-may-see")
        await client.verify("nonsense")
        text = (await scrape(server)).text
    lines = set(text.splitlines())
    assert {
        'keystead_verdicts_total{code="VALID"} 100.0',
        'keystead_verdicts_total{code="MALFORMED"} 1.0',
        'keystead_rpc_duration_seconds_count{ending="ok",method="VerifyKey"} 101.0',
    } <= lines
    assert any(
        {f"keystead_cache_hits_total {101 - misses}.0", f"keystead_cache_misses_total {misses}.0"} <= lines
        for misses in (2, 3)
    )
    hidden = (
        made.key.id,
        made.secret,
        SECRET_OWNER,
        "192.0.2.7",
        "op-nobody-may-see",
        "127.0.0.1",
    )
    assert [value for value in hidden if value in text] == []


async def test_metrics_are_for_whom_they_are_meant(servers: ServerFarm) -> None:
    """With a token only who has it reads the metrics, and with `off` there is nothing there."""
    guarded = servers.start(metrics_token="tell-me")
    assert (await scrape(guarded)).status_code == 401
    assert (await scrape(guarded, authorization="Bearer tell-you")).status_code == 401
    assert (await scrape(guarded, authorization="Bearer tell-me")).status_code == 200
    assert (await scrape(servers.start(metrics="off"))).status_code == 404


async def test_prometheus_gets_the_format_it_asks_for(servers: ServerFarm) -> None:
    """OpenMetrics is written for who accepts it, the older text for everybody else."""
    server = servers.start()
    new = await scrape(server, accept="application/openmetrics-text; version=1.0.0")
    assert new.headers["content-type"].startswith("application/openmetrics-text")
    assert new.text.endswith("# EOF\n")
    assert (await scrape(server)).headers["content-type"].startswith("text/plain; version=0.0.4")
