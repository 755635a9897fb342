"""What is billed is what was used: a real server, and a receiver that fails in every way it can."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.receivers import PastUsage, RunningReceiver, receiver
from tests.servers import KeysteadServer, NotStartedError, ServerFarm

WITHIN_S = 40.0


@pytest.fixture
def service() -> Iterator[RunningReceiver]:
    """Lend a receiver."""
    with receiver() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, servers: ServerFarm) -> KeysteadServer:
    """Lend a server on each kind of database that tells nobody yet."""
    database = {"database": request.getfixturevalue("postgres_url")} if request.param == "postgresql" else {}
    return servers.start(**database)


def feed(server: KeysteadServer, service: RunningReceiver, **settings: object) -> None:
    """Start the server anew, to tell ``service``."""
    server.settings |= service.settings | {"entitlements_timeout_ms": 1_000} | settings
    server.restart()


async def billed(service: RunningReceiver, usage: PastUsage) -> dict[str, Any]:
    """Wait until exactly what was used is billed, and never more of it; return the whole report."""
    found: list[dict[str, Any]] = []

    async def equal() -> bool:
        found[:] = [await service.report()]
        for owner, meters in found[0]["totals"].items():
            for meter, value in meters.items():
                assert value <= usage.totals[owner][meter], "billed more than was used"
        return bool(found[0]["totals"] == usage.totals)

    await eventually(equal, within_s=WITHIN_S)
    return found[0]


async def reconciled(client: Client, **fields: Any) -> Any:
    """Wait until usage and what was acknowledged are equal; return the answer."""
    answers: list[Any] = []

    async def equal() -> bool:
        answers[:] = [(await client.call("ReconcileUsage", **fields)).must()]
        return bool(answers[0].equal)

    await eventually(equal, within_s=WITHIN_S)
    return answers[0]


async def test_a_receiver_that_fails_in_every_way_bills_what_was_used(
    server: KeysteadServer, service: RunningReceiver
) -> None:
    """It answers 500, times out after it accepted, and is sent everything twice: the total is the usage, exactly."""
    usage = PastUsage(server)
    await usage.add(400)
    await service.misbehave("fail=2&hang=2&twice=1")
    feed(server, service)
    report = await billed(service, usage)
    async with client_for(server) as client:
        proof = await reconciled(client, include_equal=True)
    report = await service.report()
    assert report["totals"] == usage.totals
    assert report["received"] >= 2 * report["events"]  # it was told again, so counting once was put to the test
    assert proof.pending_events == 0
    assert {(it.owner_id, it.meter): it.used for it in proof.meters} == dict(usage.billed)
    assert [it.acknowledged for it in proof.meters] == [it.used for it in proof.meters]


async def test_usage_that_comes_late_is_a_further_event(server: KeysteadServer, service: RunningReceiver) -> None:
    """What is counted after its hour was told is found by reconciling, and told as the next revision of the hour."""
    usage = PastUsage(server)
    await usage.add(100)
    feed(server, service)
    before = await billed(service, usage)
    async with client_for(server) as client:
        await reconciled(client)
        await usage.add(100)
        late = (await client.call("ReconcileUsage")).must()
        assert not late.equal
        assert all(it.used > it.acknowledged for it in late.meters)
        after = await billed(service, usage)
        await reconciled(client)
    assert after["events"] > before["events"]
    assert "usage came late" in server.log_text()


async def test_reconciling_has_walls(servers: ServerFarm, service: RunningReceiver) -> None:
    """A key for one environment is told nothing of the other, one without the scope nothing at all (P8)."""
    server = servers.start()
    usage = PastUsage(server)
    await usage.add(20)
    feed(server, service)
    await billed(service, usage)
    async with client_for(server) as root:
        await reconciled(root)
        manager: dict[str, Any] = {"name": "m", "kind": "MANAGEMENT"}
        tester = (await root.call("CreateKey", scopes=["read:usage"], environment="TEST", **manager)).must()
        blind = (await root.call("CreateKey", scopes=["read:keys"], environment="ALL", **manager)).must()
        hidden = (await root.call("ReconcileUsage", include_equal=True, token=tester.secret)).must()
        assert (len(hidden.meters), hidden.equal, hidden.pending_events) == (0, True, 0)
        asked = await root.call("ReconcileUsage", environment="LIVE", token=tester.secret)
        assert asked.refusal[1] == "PERMISSION_DENIED"
        assert (await root.call("ReconcileUsage", token=blind.secret)).refusal[1] == "PERMISSION_DENIED"
        one = (await root.call("ReconcileUsage", owner_id="cust_1", meter="api_calls", include_equal=True)).must()
        assert [(it.owner_id, it.used) for it in one.meters] == [("cust_1", usage.billed["cust_1", "api_calls"])]


async def test_a_bad_question_is_told_what_to_change(servers: ServerFarm) -> None:
    """Unknown meters, spans and environments are refused by the field's name; before anything was told all is equal."""
    server = servers.start()
    async with client_for(server) as client:
        nothing = (await client.call("ReconcileUsage")).must()
        assert (nothing.equal, len(nothing.meters)) == (True, 0)
        ago = datetime.now(UTC) - timedelta(days=401)
        for fields, field in (
            ({"meter": "other"}, "meter"),
            ({"meter": "x" * 64}, "meter"),
            ({"from": ago}, "from"),
            ({"owner_id": "a b"}, "owner_id"),
            ({"environment": "ALL"}, "environment"),
        ):
            refused = await client.call("ReconcileUsage", **fields)
            assert refused.refusal[1] == "INVALID_REQUEST"
            assert field in str(refused)


async def test_an_event_that_is_refused_holds_up_no_other(servers: ServerFarm, service: RunningReceiver) -> None:
    """Events of an owner the receiver does not know stay pending, are logged and seen; all others are billed."""
    server = servers.start()
    usage = PastUsage(server)
    await usage.add(5)
    await service.misbehave("refuse=cust_2")
    feed(server, service)

    async def others() -> bool:
        totals = (await service.report())["totals"]
        return bool(totals == {owner: sums for owner, sums in usage.totals.items() if owner != "cust_2"})

    await eventually(others, within_s=WITHIN_S)
    async with client_for(server) as client:

        async def left() -> bool:
            found = (await client.call("ReconcileUsage")).must()
            return {it.owner_id for it in found.meters} == {"cust_2"} and found.pending_events > 0

        await eventually(left, within_s=WITHIN_S)
    assert "nobody knows cust_2" in server.log_text()


async def test_a_name_cannot_get_another_meaning(servers: ServerFarm, service: RunningReceiver) -> None:
    """A server does not start with a meter that was told as something else: its bills could not be reconciled."""
    server = servers.start()
    feed(server, service)
    server.stop()
    server.settings["entitlements_meters"] = "api_calls=cost"
    with pytest.raises(NotStartedError, match="api_calls was told as calls before"):
        server.start()


async def test_the_token_is_not_written_down(servers: ServerFarm, service: RunningReceiver) -> None:
    """The receiver's token is in no log line, also when the receiver does not like it (P1)."""
    server = servers.start()
    usage = PastUsage(server)
    await usage.add(5)
    feed(server, service, entitlements_token="wr0ng-t0ken")

    async def told() -> bool:
        return "took no events" in server.log_text()

    await eventually(told, within_s=WITHIN_S)
    assert "401" in server.log_text()
    assert "wr0ng-t0ken" not in server.log_text()
