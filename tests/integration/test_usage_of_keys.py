"""Days of a time zone, grants that nobody used, and secrets during a rotation, over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from keystead.gen.v1 import keys_pb2, usage_pb2
from tests import databases
from tests.clients import client_for
from tests.integration.test_usage import make_key, settle
from tests.servers import KeysteadServer, ServerFarm

Query = usage_pb2.QueryUsageRequest
DAY = timedelta(days=1)


async def test_days_begin_where_the_time_zone_says(servers: ServerFarm) -> None:
    """A day's sums begin at midnight of the zone asked for, whether its offset is whole hours or not."""
    server = servers.start()
    async with client_for(server) as client:
        made = await make_key(client, "one")
        for _ in range(3):
            await client.verify(made.secret, scope_expression="read:invoices")
        await settle(client, made.key.id, 3)
        now = datetime.now(UTC)
        for name in ("Asia/Kolkata", "America/New_York", "Etc/UTC", ""):
            asked: dict[str, Any] = {"interval": Query.DAY, "time_zone": name, "from": now - 40 * DAY, "to": now + DAY}
            told = (await client.call("QueryUsage", filter={"key_id": made.key.id}, **asked)).must()
            (series,) = told.series
            assert sum(point.calls for point in series.points) == 3
            for point in series.points:
                begins = point.begins_at.ToDatetime(tzinfo=UTC).astimezone(ZoneInfo(name or "UTC"))
                assert (begins.hour, begins.minute, begins.second) == (0, 0, 0)
        hours = (await client.call("QueryUsage", interval=Query.HOUR, time_zone="Asia/Kolkata")).must()
        assert sum(point.calls for point in hours.series[0].points) == 3


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    (
        ("QueryUsage", {"time_zone": "Europe/Atlantis"}, "time_zone"),
        ("QueryUsage", {"time_zone": "../../etc/passwd", "interval": "DAY"}, "time_zone"),
        ("QueryUsage", {"time_zone": "Europe", "interval": "DAY"}, "time_zone"),
        ("QueryUsage", {"time_zone": "x" * 300}, "time_zone"),
        (
            "QueryUsage",
            {
                "time_zone": "Asia/Tokyo",
                "interval": "DAY",
                "from": datetime(9999, 12, 30, tzinfo=UTC),
                "to": datetime(9999, 12, 31, 23, tzinfo=UTC),
            },
            "to",
        ),
        ("ListUnusedGrants", {"unused_for": timedelta(hours=25)}, "unused_for"),
        ("ListUnusedGrants", {"unused_for": timedelta(days=366)}, "unused_for"),
        ("ListUnusedGrants", {"unused_for": timedelta(0)}, "unused_for"),
        ("ListUnusedGrants", {"environment": "ALL"}, "environment"),
        ("ListUnusedGrants", {"page_token": "x"}, "page_token"),
        ("ListUnusedGrants", {"owner_id": "no owner"}, "owner_id"),
    ),
)
async def test_a_bad_question_is_told_what_to_change(
    shared_server: KeysteadServer, method: str, fields: dict[str, Any], field: str
) -> None:
    """Zones nobody knows, days past the calendar and odd spans are refused by the field's name."""
    async with client_for(shared_server) as client:
        refused = await client.call(method, **fields)
        assert refused.refusal[1] == "INVALID_REQUEST"
        assert field in str(refused)


async def test_grants_that_nobody_used_are_listed(servers: ServerFarm) -> None:
    """A key's unused scopes and a key that was never used are told once they are old enough, inside walls alone."""
    server = servers.start()
    async with client_for(server) as client:
        used = (
            await client.call(
                "CreateKey",
                owner_id="o",
                create_owner=True,
                name="used",
                environment="LIVE",
                scopes=["read:*", "write:a"],
            )
        ).must()
        idle = await make_key(client, "o", name="idle")
        tried = await make_key(client, "o", "TEST", name="tried")
        await client.verify(used.secret, scope_expression="read:invoices")
        await settle(client, used.key.id, 1)
        assert not (await client.call("ListUnusedGrants", owner_id="o")).must().grants
        await databases.change(server, f"UPDATE keys SET created_at_ms = created_at_ms - {40 * 86_400_000}")  # noqa: S608 -- a number
        told = (await client.call("ListUnusedGrants", owner_id="o", page_size=1_000)).must()
        assert [(it.key_id, it.name, it.idle, [*it.scopes]) for it in told.grants] == [
            (used.key.id, "used", False, ["write:a"]),
            (idle.key.id, "idle", True, ["read:invoices"]),
            (tried.key.id, "tried", True, ["read:invoices"]),
        ]
        assert told.grants[0].environment == keys_pb2.Key.LIVE
        pages = [(await client.call("ListUnusedGrants", owner_id="o", page_size=2)).must()]
        while pages[-1].next_page_token:
            token = pages[-1].next_page_token
            pages.append((await client.call("ListUnusedGrants", owner_id="o", page_size=2, page_token=token)).must())
        assert [it.key_id for page in pages for it in page.grants] == [it.key_id for it in told.grants]
        manager: dict[str, Any] = {"name": "m", "kind": "MANAGEMENT", "environment": "TEST", "scopes": ["read:usage"]}
        caller = (await client.call("CreateKey", **manager)).must()
        walled = (await client.call("ListUnusedGrants", owner_id="o", token=caller.secret)).must()
        assert [it.key_id for it in walled.grants] == [tried.key.id]
        asked = await client.call("ListUnusedGrants", environment="LIVE", token=caller.secret)
        assert asked.refusal[1] == "PERMISSION_DENIED"


async def test_a_rotation_shows_who_still_has_the_old_secret(servers: ServerFarm) -> None:
    """While an old secret works, a key says of each secret how often and from where it was used; else nothing."""
    server = servers.start()
    async with client_for(server) as client:
        made = await make_key(client, "one")
        await client.verify(made.secret, client_ip="192.0.2.1")
        quiet = (await client.call("GetKey", key_id=made.key.id)).must().key
        assert not quiet.secrets[0].HasField("calls_last_day")
        rotated = (await client.call("RotateKey", key_id=made.key.id)).must()
        await client.verify(made.secret, client_ip="192.0.2.1")
        await client.verify(made.secret, client_ip="192.0.2.2")
        await settle(client, made.key.id, 3)
        key = (await client.call("GetKey", key_id=made.key.id)).must().key
        told = {
            it.id: (it.HasField("calls_last_day"), it.calls_last_day, [*it.addresses_last_day]) for it in key.secrets
        }
        assert told == {
            rotated.key.secrets[0].id: (True, 0, []),
            made.key.secrets[0].id: (True, 3, ["192.0.2.1", "192.0.2.2"]),
        }


async def test_days_on_postgresql_have_room_before_anything_is_counted(servers: ServerFarm, postgres_url: str) -> None:
    """A server's first calls are in their day's partition, and a server that starts later finds it made."""
    server = servers.start(database=postgres_url)
    servers.start(database=postgres_url)
    async with client_for(server) as client:
        made = await make_key(client, "one")
        await client.verify(made.secret, scope_expression="read:invoices")
        await settle(client, made.key.id, 1)
    assert await databases.ask(server, "SELECT count(*) FROM calls_rest") == [(0,)]
    names = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'calls'::regclass"
    assert (await databases.ask(server, names))[0][0] >= 5
