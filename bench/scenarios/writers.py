"""Fifty writers on one PostgreSQL: events that get their place afterwards, against a head row that each must lock.

Two nodes write, in turns with the other way, each run on an empty database. Commits reach the disk. What a head row
costs is the time that it stays locked: the commit, and the questions before it. Both are very short where everything
runs on one machine, so both ways are measured once more with commits that take 2 ms, as a cloud's disk or a synchronous
standby does, and with a database that is 1 ms away, as another machine is.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.plan import Plan
from bench.processes import BenchError
from bench.report import Check, Section
from bench.summary import median, ratio
from bench.writers import ORIGIN, WAYS, WORKSPACE
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.migration import migrate
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.change import Action, Change
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.tenants.model import Owner, Workspace
from tests.services import PrivatePostgres

WRITERS = 50
NODES = 2
_ROUNDS_MAX = 4
_BOUND = 5.0
_GRACE_S = 180.0
_US = 1_000_000
_ROOT = Path(__file__).parent.parent.parent


class DurablePostgres(PrivatePostgres):
    """A PostgreSQL whose commits are on the disk before they are told."""

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return [*super().command(), "--fsync=on", "--full_page_writes=on"]


class SlowPostgres(DurablePostgres):
    """The same, with a wait of 2 ms before each write to the disk, in which others join it."""

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return [*super().command(), "--commit_delay=2000", "--commit_siblings=0"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the writers find their database; ``promised`` says whether the promise is about it."""

    name: str
    kind: type[PrivatePostgres]
    away_ms: int
    promised: bool


PLACES = (
    Place("on this machine", DurablePostgres, 0, promised=False),
    Place("on this machine, commits take 2 ms", SlowPostgres, 0, promised=True),
    Place("1 ms away, commits take 2 ms", SlowPostgres, 1, promised=True),
)


@dataclass(frozen=True, slots=True)
class Run:
    """Mutations a second of all nodes, and the processor time of the nodes for each."""

    per_second: float
    node_us: float


def measure_writers(plan: Plan) -> Section:
    """Measure both ways in every place."""
    section = Section(
        f"Mutations of {WRITERS} writers in {NODES} nodes on PostgreSQL, all cores",
        ("database", "events get their place", "mutations/s", "node µs", "ratio"),
        notes=[
            "node µs: processor time of the writing processes for each mutation; PostgreSQL runs on the same cores",
            "a mutation locks a row, changes it, and tells of it by one event",
        ],
    )
    for place in PLACES:
        with _running(place.kind) as server:
            found = _in_turns(server, plan, place)
        times = ratio(found["log"].per_second, found["head"].per_second)
        section.rows.append((place.name, "afterwards", found["log"].per_second, found["log"].node_us, times))
        section.rows.append((place.name, "under the lock", found["head"].per_second, found["head"].node_us, 1.0))
        if place.promised:
            promise = f"Mutations of {WRITERS} writers against a head row's lock, {place.name}"
            section.checks.append(Check(promise, times, _BOUND, "x", at_most=False))
    return section


@contextmanager
def _running(kind: type[PrivatePostgres]) -> Iterator[PrivatePostgres]:
    server = kind()
    try:
        yield server
    finally:
        server.remove()


def _in_turns(server: PrivatePostgres, plan: Plan, place: Place) -> dict[str, Run]:
    found: dict[str, list[Run]] = {way: [] for way in WAYS}
    for number in range(min(plan.rounds, _ROUNDS_MAX)):
        for way, runs in found.items():
            name = f"writers_{way}_{number}"
            url = server.create_database(name)
            asyncio.run(_furnish(url))
            runs.append(_run(way, url, plan.change_seconds, place.away_ms))
            asyncio.run(_demand_whole(url))
            server.drop_database(name)
    return {
        way: Run(median([run.per_second for run in runs]), median([run.node_us for run in runs]))
        for way, runs in found.items()
    }


def _run(way: str, url: str, seconds: float, away_ms: int) -> Run:
    each = WRITERS // NODES
    nodes = [
        subprocess.Popen(  # noqa: S603 -- runs this package's own module
            [sys.executable, "-m", "bench.writers", way, url, *map(str, (each, seconds, node * each, away_ms))],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in range(NODES)
    ]
    told = [node.communicate(timeout=seconds + _GRACE_S)[0] for node in nodes]
    if any(node.returncode for node in nodes):
        raise BenchError(f"a writing node ended with {[node.returncode for node in nodes]}")
    runs = [json.loads(text) for text in told]
    changes = sum(run["changes"] for run in runs)
    used_us = sum(run["used_s"] for run in runs) * _US
    return Run(sum(run["changes"] / run["seconds"] for run in runs), used_us / changes)


async def _furnish(url: str) -> None:
    """Make the workspace, an owner for each writer, and the heads."""
    await migrate(url)
    database = Database.connect(url)
    clock = SystemClock()
    async with SqlUnits(database, clock=clock, ids=IdSource(clock)).begin(None, ORIGIN) as unit:
        await unit.workspaces.add(Workspace(WORKSPACE, "bench", "Bench", 1, 1))
        for number in range(WRITERS):
            await unit.owners.add(Owner(WORKSPACE, f"owner-{number}", "Owner", 1, 1))
        unit.record(Change(WORKSPACE, Action.WORKSPACE_CREATED, WORKSPACE, touches=()))
    await SqlEventLog(database).place(limit=1)
    await database.close()


async def _demand_whole(url: str) -> None:
    """Hold that each mutation has its one event, and that no place is empty or taken twice."""
    database = Database.connect(url)
    log = SqlEventLog(database)
    while await log.place(limit=10_000):
        continue
    mutations = (await database.fetch("SELECT sum(version - 1) FROM owners"))[0][0]
    count, last = (await database.fetch("SELECT count(*), max(seq) FROM events"))[0]
    await database.close()
    if not count == last == mutations + 1:
        raise BenchError(f"{mutations} mutations have {count} events, the last of which is {last}")
