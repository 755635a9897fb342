"""Refusals are told exactly, also when processes are killed at any instant, counting, staging and telling (P6)."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.migration import migrate
from keystead.adapters.sql.refusal_schema import refusal_pages, refusals
from keystead.adapters.sql.refusals import SqlRefusals
from keystead.adapters.sql.schema import events
from keystead.adapters.sql.session import Session
from keystead.kernel.change import Action
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from tests.clients import Client, client_for
from tests.forgeries import CODE_OF, FORGED, MALFORMED, UNKNOWN, Forger
from tests.nursery import ROOT
from tests.polling import eventually
from tests.refusals_teller import REFUSALS_PER_PAGE
from tests.servers import KeysteadServer, ServerFarm

CALLERS = 4
ROUNDS = 6
KINDS = (FORGED, MALFORMED, UNKNOWN)
NOBODY = "malformed"
_ENDLESS_MS = 1 << 60


def url_of(server: KeysteadServer) -> str:
    """Return the URL of the server's database."""
    return str(server.settings.get("database") or f"sqlite:///{server.data_dir / 'keystead.db'}")


async def told(url: str, *, tell: bool = False) -> Counter[str]:
    """Return how often each reason is in the database: in sums that wait, and in events."""
    database = Database.connect(url)
    counts: Counter[str] = Counter()
    try:
        if tell:
            clock = SystemClock()
            store = SqlRefusals(database, clock=clock, ids=IdSource(clock), threshold=0)
            while await store.tell(before_ms=_ENDLESS_MS, limit=500):
                pass
        session = Session(database, read_only=True)
        waiting: Sequence[Any] = await session.read(select(refusals.c.reason, refusals.c["count"]))
        for reason, count in waiting:
            counts[reason] += count
        wanted = events.c.action.in_([Action.AUTHENTICATION_FAILED, Action.CALL_REFUSED])
        for (record,) in await session.read(select(events.c.record).where(wanted)):
            found = json.loads(record)
            counts[found["reason"]] += found["group"]["count"]
        await session.rollback()
    finally:
        await database.close()
    return counts


class Tally:
    """What clients saw, by reason: refusals they received, and calls under way when the server died."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.answered: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()


async def verify_until_it_dies(client: Client, forger: Forger, tally: Tally) -> None:
    """Verify what is no key again and again."""
    while True:
        kind = KINDS[tally.answered.total() % len(KINDS)]
        client_ip = forger.address() if tally.answered.total() % 2 else "192.0.2.7"
        answer = await client.call("VerifyKey", key=forger.text(kind), environment="LIVE", client_ip=client_ip)
        if not answer.ok:
            tally.unanswered[CODE_OF[kind]] += 1
            return
        tally.answered[CODE_OF[kind]] += 1


async def call_until_it_dies(client: Client, tally: Tally) -> None:
    """Call a method again and again with a key that nobody has."""
    while True:
        answer = await client.call("ListKeys")
        if answer.refusal[0] != "UNAUTHENTICATED":
            tally.unanswered[NOBODY] += 1
            return
        tally.answered[NOBODY] += 1


async def killed_under_load(server: KeysteadServer, forger: Forger, tally: Tally, *, after: int) -> None:
    """Let callers call, and kill the server when ``after`` more answers were received."""
    async with client_for(server) as client, client_for(server, token=forger.text(MALFORMED)) as nobody:
        calls = [verify_until_it_dies(client, forger, tally) for _ in range(CALLERS)]
        tasks = [asyncio.create_task(it) for it in (*calls, call_until_it_dies(nobody, tally))]
        target = tally.answered.total() + after

        async def answered() -> bool:
            return tally.answered.total() >= target

        await eventually(answered, within_s=30.0)
        server.kill()
        await asyncio.gather(*tasks)


async def demand_exact_counts(server: KeysteadServer, master_key: str) -> None:
    """Kill and restart again and again; each refusal that was received is told, and at most what was under way too."""
    forger, tally, chance = Forger(master_key), Tally(), random.Random(7)
    for _ in range(ROUNDS):
        await killed_under_load(server, forger, tally, after=chance.randrange(20, 400))
        server.start()

        async def complete() -> bool:
            return await told(url_of(server)) >= tally.answered

        await eventually(complete, within_s=15.0)
        assert await told(url_of(server)) <= tally.answered + tally.unanswered
    assert min(tally.answered.values()) > 0
    assert tally.answered.keys() == {*CODE_OF.values(), NOBODY}
    server.stop()
    assert list((server.data_dir / "journal").glob("jrn_*")) == []  # all of it is staged, so no journal stays
    staged = await told(url_of(server))
    assert await told(url_of(server), tell=True) == staged


async def test_kill_9_on_sqlite(servers: ServerFarm) -> None:
    """Refusals received ≤ told ≤ received + in flight, by reason, again and again; and telling changes no count."""
    await demand_exact_counts(servers.start(master_keys=servers.master_key), servers.master_key)


async def test_kill_9_on_postgresql(servers: ServerFarm, postgres_url: str) -> None:
    """Refusals received ≤ told ≤ received + in flight, by reason, again and again; and telling changes no count."""
    await demand_exact_counts(servers.start(database=postgres_url), servers.master_key)


def run_and_kill(url: str, journal_ids: Sequence[str], *, after_s: float) -> None:
    """Let processes stage and tell, one for each journal, and kill them together when some time has passed."""
    programs = [[sys.executable, "-m", "tests.refusals_teller", url, journal_id] for journal_id in journal_ids]
    processes = [subprocess.Popen(it, cwd=ROOT, stdout=subprocess.PIPE) for it in programs]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
    with pytest.raises(subprocess.TimeoutExpired):
        processes[0].wait(after_s)
    for process in processes:
        process.kill()
        process.communicate()


async def kill_tellers(url: str, *, rounds: int, at_once: int) -> None:
    """Kill several who stage and tell, time and again; what is told is what the staged pages say."""
    await migrate(url)
    chance = random.Random(5)
    for number in range(rounds):
        journal_ids = [f"jrn_{number}_{it}" for it in range(at_once)]
        await asyncio.to_thread(run_and_kill, url, journal_ids, after_s=chance.uniform(0.05, 1.0))
    pages = await staged_pages(url)
    assert pages > rounds
    assert (await told(url)).total() == pages * REFUSALS_PER_PAGE
    assert (await told(url, tell=True)).total() == pages * REFUSALS_PER_PAGE


async def staged_pages(url: str) -> int:
    """Return how many pages were staged, of all journals together."""
    database = Database.connect(url)
    try:
        rows = await Session(database, read_only=False).read(select(func.sum(refusal_pages.c.staged_to)))
        return int(rows[0][0])
    finally:
        await database.close()


async def test_killed_tellers_on_sqlite(tmp_path: Path) -> None:
    """Processes that stage and tell at once are killed together, time and again: nothing is lost or told twice."""
    await kill_tellers(f"sqlite:///{tmp_path / 'keystead.db'}", rounds=5, at_once=2)


async def test_killed_tellers_on_postgresql(postgres_url: str) -> None:
    """Processes that stage and tell at once are killed together, time and again: nothing is lost or told twice."""
    await kill_tellers(postgres_url, rounds=5, at_once=3)


@pytest.mark.soak
async def test_many_killed_tellers(postgres_url: str) -> None:
    """The same 60 times."""
    await kill_tellers(postgres_url, rounds=60, at_once=3)
