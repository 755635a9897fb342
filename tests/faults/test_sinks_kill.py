"""Servers that are killed or frozen in the midst of carrying leave out nothing, and no line half-written (P6, P12)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import ServerFarm
from tests.sink_receivers import TOKEN, RunningAuditLog, all_carried, audit_log, carried, log_of

ROUNDS = 2
WITHIN_S = 60.0
BEFORE_THE_LEASE_ENDS_S = 25.0
QUICK = timedelta(milliseconds=500)
PATIENT = timedelta(seconds=60)


async def make_owners(client: Client, prefix: str, count: int) -> None:
    """Have something happen, as far as the server lives."""
    for number in range(count):
        await client.call("CreateOwner", owner_id=f"{prefix}-{number}", name="An Owner")


def sink_to(service: RunningAuditLog, **http: Any) -> dict[str, Any]:
    """Describe a sink that carries to ``service`` in small batches."""
    fields = {"url": f"{service.url}/events", "bearer_token": TOKEN, "batch_max": 2, "timeout": QUICK}
    return {"name": "audit", "http": fields | http}


async def under_way(service: RunningAuditLog, events: int) -> None:
    """Wait until so many events more have come."""
    before = (await service.report())["received"]

    async def came() -> bool:
        return bool((await service.report())["received"] >= before + events)

    await eventually(came, within_s=WITHIN_S)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Read all files of a sink in the order in which they were written; every line is whole."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("audit.jsonl*"), key=lambda path: (path.name == "audit.jsonl", path.name)):
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n") or path.name == "audit.jsonl"
        found += [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return found


@pytest.mark.parametrize("kind", ("sqlite", "postgresql"))
async def test_kill_9_in_the_midst_of_carrying(
    servers: ServerFarm, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Killed again and again while it carries, a server goes on where it was: every event arrives, in order.

    What comes twice comes with the same id, over HTTP and in a file that was full several times. It goes on at
    once: the leases of the dead are 40 s for a file, and longer than anything here waits for the service.
    """
    database = {"database": request.getfixturevalue("postgres_url")} if kind == "postgresql" else {}
    folder = tmp_path / "sinks"
    folder.mkdir()
    server = servers.start(outbound="any", sink_files=folder, **database)
    random = Random(5)
    with audit_log() as service:
        async with client_for(server, "json", server.management_key) as client:
            (await client.call("CreateSink", sink=sink_to(service, timeout=PATIENT))).must()
            file = {"name": "file", "file": {"name": "audit.jsonl", "rotate_bytes": 65_536}}
            (await client.call("CreateSink", sink=file)).must()
        for number in range(ROUNDS):
            async with client_for(server, "json", server.management_key) as client:
                working = asyncio.create_task(make_owners(client, f"owner-{number}", 60))
                await under_way(service, random.randrange(5, 40))
                server.kill()
                await working
            server.start()
        async with client_for(server, "json", server.management_key) as client:
            await make_owners(client, "last", 120)
            await all_carried(client, service, within_s=WITHIN_S)
            ids = await log_of(client)

            async def in_files() -> bool:
                with suppress(FileNotFoundError):  # one became full while we looked
                    return {it["id"] for it in lines_of(folder)} >= set(ids)
                return False

            await eventually(in_files, within_s=BEFORE_THE_LEASE_ENDS_S)
            written = [it["id"] for it in lines_of(folder) if "sequence" in it]
            assert list(dict.fromkeys(written))[: len(ids)] == ids
        assert len(list(folder.rglob("audit.jsonl.*"))) >= 1, "no file was ever full"


async def test_a_frozen_node_is_replaced_and_harms_nothing_when_it_wakes(
    servers: ServerFarm, postgres_url: str
) -> None:
    """When the node that carries hangs, another goes on from the same place; both awake, the log is whole, in order."""
    first = servers.start(database=postgres_url, outbound="any")
    with audit_log() as service:
        async with client_for(first, "json", first.management_key) as client:
            await service.misbehave("hang=1")
            (await client.call("CreateSink", sink=sink_to(service, timeout=timedelta(seconds=5)))).must()
            await under_way(service, 1)
        first.freeze()
        second = servers.start(flags=(), database=postgres_url, outbound="any")
        async with client_for(second, "json", first.management_key) as client:
            await make_owners(client, "while-frozen", 5)
            await all_carried(client, service, within_s=WITHIN_S)
            first.thaw()
            await make_owners(client, "awake", 20)
            await all_carried(client, service, within_s=WITHIN_S)
            sinks = (await client.call("ListSinks")).must().sinks
            assert sinks[0].progress.next_index == len(await log_of(client))


async def test_two_nodes_carry_each_sink_once(servers: ServerFarm, postgres_url: str) -> None:
    """Two nodes at work on several sinks carry each of them once: nothing comes twice, and all of it in order."""
    first = servers.start(database=postgres_url, outbound="any")
    servers.start(flags=(), database=postgres_url, outbound="any")
    with audit_log() as one, audit_log() as other, audit_log() as hanging:
        await hanging.misbehave("hang=1000")
        async with client_for(first, "json", first.management_key) as client:
            for name, service in (("hanging", hanging), ("one", one), ("other", other)):
                (await client.call("CreateSink", sink=sink_to(service) | {"name": name})).must()
            await make_owners(client, "owner", 40)
            for service in (one, other):
                got = await all_carried(client, service, within_s=WITHIN_S)
                extra = [it for it in await service.events() if it not in carried([it])]
                assert (await service.report())["received"] == len(got) + len(extra), "something came twice"
