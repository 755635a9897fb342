"""A flood of keys that nobody has is counted to the last one, takes bounded room and harms no valid call (P2, P5)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from keystead.adapters.files.counters import GROUPS_PER_MINUTE_MAX
from keystead.gen.v1 import usage_pb2
from tests.clients import Client, client_for
from tests.flood import KINDS
from tests.forgeries import CODE_OF
from tests.nursery import ROOT
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

pytestmark = pytest.mark.alone

PAUSE_S = 0.005
FLOOD_WITHIN_S = 600.0
# Sums without addresses: one of each code.
OTHERS_PER_MINUTE = 2

Query = usage_pb2.QueryUsageRequest


async def flooded(server: KeysteadServer, master_key: str, count: int) -> Counter[str]:
    """Let a process of its own flood the server; return which answers it got."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.flood",
        server.grpc,
        str(count),
        "7",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told = f"{server.management_key}\n{master_key}\n".encode()
    output, _ = await asyncio.wait_for(process.communicate(told), FLOOD_WITHIN_S)
    assert process.returncode == 0
    return Counter(json.loads(output))


async def verified_meanwhile(client: Client, secret: str, flood: asyncio.Task[Counter[str]]) -> list[float]:
    """Verify a good key again and again until the flood is over; each call must be let in. Return seconds, sorted."""
    took_s = []
    while not flood.done():
        began_s = time.monotonic()
        assert await client.verify(secret) == "VALID"
        took_s.append(time.monotonic() - began_s)
        await asyncio.wait({flood}, timeout=PAUSE_S)
    return sorted(took_s)


async def by_code(client: Client) -> Counter[str]:
    """Return how many calls of each code are counted."""
    reply = (await client.call("QueryUsage", group_by=Query.CODE, interval=Query.HOUR)).must()
    return Counter({it.group: sum(point.calls for point in it.points) for it in reply.series})


def room_of(folder: Path) -> int:
    """Return how many bytes the files below ``folder`` have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ask(server: KeysteadServer, question: str) -> list[tuple[int, ...]]:
    """Ask the server's database."""
    connection = sqlite3.connect(f"file:{server.data_dir / 'keystead.db'}?mode=ro", uri=True)
    try:
        return list(connection.execute(question))
    finally:
        connection.close()


async def demand_harmless(servers: ServerFarm, count: int) -> None:
    """Flood a server with ``count`` texts."""
    server = servers.start(master_keys=servers.master_key)
    async with client_for(server) as client:
        made = (
            await client.call(
                "CreateKey",
                owner_id="o",
                create_owner=True,
                name="n",
                environment="LIVE",
                plan_id="enterprise",
                scopes=[],
            )
        ).must()
        assert await client.verify(made.secret) == "VALID"
        journal = server.data_dir / "journal"
        room_before = room_of(journal)
        began_s = time.monotonic()
        flood = asyncio.create_task(flooded(server, servers.master_key, count))
        took_s = await verified_meanwhile(client, made.secret, flood)
        flood_s = time.monotonic() - began_s
        answered = await flood
        expected = Counter(CODE_OF[kind] for kind in KINDS)
        assert answered == {code: parts * count // len(KINDS) for code, parts in expected.items()}
        told = answered + Counter({"VALID": len(took_s) + 1})

        async def all_counted() -> bool:
            counted = await by_code(client)
            assert counted <= told
            return counted == told

        settled_s = await eventually(all_counted, within_s=10.0)
        assert room_of(journal) <= room_before
    minutes = ask(server, "SELECT count(*), sum(count) FROM attempts GROUP BY minute_ms")
    assert max(rows for rows, _ in minutes) <= GROUPS_PER_MINUTE_MAX + OTHERS_PER_MINUTE
    assert sum(counted for _, counted in minutes) == count
    assert ask(server, "SELECT count(*) FROM calls") == [(len(took_s) + 1,)]
    p50_s, p99_s = took_s[len(took_s) // 2], took_s[len(took_s) * 99 // 100]
    sys.stdout.write(
        f"\n{count} attempts in {flood_s:.1f} s ({count / flood_s:.0f}/s), {len(minutes)} minutes, "
        f"{sum(rows for rows, _ in minutes)} rows; all counted {settled_s:.2f} s later; {len(took_s)} valid calls: "
        f"p50 {p50_s * 1_000:.1f} ms, p99 {p99_s * 1_000:.1f} ms, max {took_s[-1] * 1_000:.1f} ms\n"
    )


async def test_a_flood_is_counted_and_bounded(servers: ServerFarm) -> None:
    """100,000 forged, unknown and malformed keys from random addresses: exact totals by code, bounded rows, a journal
    that does not grow, no raw calls; and every valid call meanwhile is let in.
    """
    await demand_harmless(servers, 100_000)


@pytest.mark.soak
async def test_a_flood_of_half_a_million(servers: ServerFarm) -> None:
    """The same with 500,000."""
    await demand_harmless(servers, 500_000)
