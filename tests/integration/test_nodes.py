"""``NodeService`` and ``wait`` on running servers of one node and of two."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keystead import __version__
from keystead.gen.v1 import keys_pb2, owners_pb2, plans_pb2
from tests.clients import METHODS, TRANSPORTS, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

AT_ONCE_S = 2.0
WAITS = {name for name, method in METHODS.items() if "wait" in method.request.DESCRIPTOR.fields_by_name}
OWNER = "owner-1"
KEY: dict[str, Any] = {"owner_id": OWNER, "create_owner": True, "name": "Key", "environment": "LIVE"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeysteadServer]:
    """Lend one server on each store for this module, with an operator key."""
    farm = ServerFarm(tmp_path_factory.mktemp("nodes"))
    url = postgres.create_database("nodes") if request.param == "postgresql" else ""
    try:
        yield farm.start(flags=("--first-run", "--operator"), database=url)
    finally:
        farm.end()
        if url:
            postgres.drop_database("nodes")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_operator_sees_who_serves(server: KeysteadServer, transport: str) -> None:
    """The one process is listed with its machine and version, alive, and soon not behind."""
    async with client_for(server, transport, token=server.told["operator_key"]) as client:

        async def up_to_date() -> bool:
            (node,) = (await client.call("ListNodes")).must().nodes
            assert (node.host, node.version, node.serves_stale) == (socket.gethostname(), __version__, False)
            assert node.id.startswith("nod_")
            assert node.silent.ToMilliseconds() < 6_000
            age = datetime.now(UTC) - node.started_at.ToDatetime(tzinfo=UTC)
            assert timedelta(0) < age < timedelta(minutes=10)
            return bool(node.behind_events == 0)

        await eventually(up_to_date, within_s=10)


async def test_nobody_else_sees_who_serves(server: KeysteadServer) -> None:
    """Machines are none of a tenant's business."""
    async with client_for(server) as client:
        assert (await client.call("ListNodes")).refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert (await client.call("ListNodes", token="")).status == "UNAUTHENTICATED"


async def test_every_change_that_can_wait_does(server: KeysteadServer) -> None:
    """With one process nobody waits for long, whichever change it is, and each answers as it does without waiting."""
    async with client_for(server) as client:
        made = [(await client.call("CreateKey", **KEY)).must().key.id for _ in range(3)]
        plan = (await client.call("CreatePlan", name="waiting")).must().plan.id
        (await client.call("RotateKey", key_id=made[0])).must()
        asked: dict[str, dict[str, Any]] = {
            "FinishRotation": {"key_id": made[0]},
            "UpdateKey": {
                "key": keys_pb2.Key(id=made[1], description="x"),
                "update_mask": {"paths": ["description"]},
            },
            "SuspendKey": {"key_id": made[2]},
            "RevokeKey": {"key_id": made[2]},
            "RevokeKeys": {"owner_id": OWNER},
            "UpdatePlan": {
                "plan": plans_pb2.Plan(id=plan, description="x"),
                "update_mask": {"paths": ["description"]},
            },
            "UpdateOwner": {
                "owner": owners_pb2.Owner(owner_id=OWNER, name="x"),
                "update_mask": {"paths": ["name"]},
            },
            "ApplyEntitlement": {"owner_id": OWNER, "plan_id": plan},
            "SuspendOwner": {"owner_id": OWNER},
            "DeleteOwner": {"owner_id": OWNER},
        }
        assert set(asked) == WAITS
        for name, fields in asked.items():
            began_s = time.monotonic()
            (await client.call(name, **fields, wait=True)).must()
            assert time.monotonic() - began_s < AT_ONCE_S, name


async def test_a_retry_may_wait_where_the_first_call_did_not(server: KeysteadServer) -> None:
    """Waiting is about the reply: with it or without, a call with an idempotency key is the same call."""
    async with client_for(server) as client:
        key_id = (await client.call("CreateKey", **KEY)).must().key.id
        once: dict[str, Any] = {"key_id": key_id, "idempotency_key": "suspended-once-and-waited-for"}
        replies = [(await client.call("SuspendKey", wait=wait, **once)).must() for wait in (False, True, False)]
        assert replies[0] == replies[1] == replies[2]


async def test_a_process_that_stops_is_not_listed(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """Two processes are two nodes; one that stops in good order leaves at once, and a new start is a new node."""
    url = own_postgres.create_database("leaving")
    one = servers.start(flags=("--first-run", "--operator"), database=url)
    two = servers.start(database=url)
    async with client_for(one, token=one.told["operator_key"]) as client:

        async def listed() -> list[str]:
            return [node.id for node in (await client.call("ListNodes")).must().nodes]

        both = await listed()
        assert len(set(both)) == 2
        two.stop()
        (left,) = await listed()
        assert left in both
        two.start()
        again = await listed()
        assert len(again) == 2
        assert again[0] == left
        assert again[1] not in both


async def test_a_process_takes_the_place_of_the_dead_one_before_it(
    servers: ServerFarm, own_postgres: PrivatePostgres
) -> None:
    """Started again in its data directory after a kill, a node is one node, and nobody waits for the dead process."""
    url = own_postgres.create_database("succeeding")
    one = servers.start(flags=("--first-run", "--operator"), database=url)
    two = servers.start(database=url, serve_stale=True)
    async with client_for(one, token=one.told["operator_key"]) as client:
        before = [node.id for node in (await client.call("ListNodes")).must().nodes]
        two.kill()
        two.start()
        after = [node.id for node in (await client.call("ListNodes")).must().nodes]
        assert len(after) == 2
        assert len({*before, *after}) == 3
    async with client_for(one) as client:
        key_id = (await client.call("CreateKey", **KEY)).must().key.id
        began_s = time.monotonic()
        (await client.call("RevokeKey", key_id=key_id, wait=True)).must()
        assert time.monotonic() - began_s < AT_ONCE_S
