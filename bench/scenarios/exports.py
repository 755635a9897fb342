"""The export of a long log by the command line, and its check: seconds, bytes, and the memory of everybody's process.

The events are such as a mutation makes, stored and given their places by the product's own functions. A checkpoint of
them all is signed beforehand, as a server does each minute, so what is timed is reading, proving and writing.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bench.installation import Installation, install
from bench.plan import Plan
from bench.processes import BenchError, serving
from bench.report import Cell, Section
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope
from tests.services import PrivatePostgres

_KEYS = 1_000
_STORED_AT_ONCE = 1_000
_PLACED_AT_ONCE = 5_000
_MIB = 1_024 * 1_024
_KIB = 1_024
_LOOK_S = 0.02
_ACTOR = Actor(ActorType.KEY, "key_01hf7yat000000000000000001")
_ORIGIN = Origin(_ACTOR, "203.0.113.7", "Mozilla/5.0 (bench)", "req-bench")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended well: what it printed, how long it took, and the most memory it had."""

    printed: str
    seconds: float
    memory_mib: float


def measure_exports(plan: Plan) -> Section:
    """Export and check on SQLite, then on a PostgreSQL of our own."""
    section = Section(
        f"An export of {plan.events:,} events by `keystead audit export`, checked by `keystead audit verify`",
        ("database", "stored, placed s", "export s", "MB", "server MiB before", "server MiB at most", "client MiB",
         "verify s", "verify MiB"),
        notes=["at most: while it exports; the hashes of the whole tree are in memory as long as that lasts"],
    )  # fmt: skip
    data_dir = plan.data_dir("exports-sqlite")
    section.rows.append(_row("SQLite", install(data_dir, plan.population, keys=_KEYS), plan))
    with _postgres() as url:
        installation = install(plan.data_dir("exports-postgres"), plan.population, keys=_KEYS, database=url)
        section.rows.append(_row("PostgreSQL", installation, plan))
    return section


@contextmanager
def _postgres() -> Iterator[str]:
    server = PrivatePostgres()
    try:
        yield server.create_database("exports")
    finally:
        server.remove()


def _row(name: str, installation: Installation, plan: Plan) -> tuple[Cell, ...]:
    began_s = time.perf_counter()
    asyncio.run(_fill(installation, plan.events))
    filled_s = time.perf_counter() - began_s
    file = plan.folder / f"audit-{name}.jsonl"
    with serving("bench.restarted", installation.data_dir, core=None) as server:
        environment = {
            **os.environ,
            "KEYSTEAD_URL": f"http://127.0.0.1:{server.ports['http']}",
            "KEYSTEAD_MANAGEMENT_KEY": installation.management_key,
        }
        key_file = plan.folder / "audit.pub"
        told = json.loads(_keystead(environment, "audit", "public-key", "--json").printed)
        key_file.write_text(told["publicKey"], encoding="utf-8")
        _keystead(environment, "audit", "checkpoint", "--make", "--json")
        server.settle()
        before_mib = _memory_mib(server.pid, "VmRSS")
        exported = _keystead(environment, "audit", "export", "--output", str(file))
        most_mib = _memory_mib(server.pid, "VmHWM")
    verified = _keystead(dict(os.environ), "audit", "verify", str(file), "--public-key", f"@{key_file}", "--json")
    if json.loads(verified.printed)["events"] < plan.events:
        raise BenchError("the export does not hold every event")
    megabytes = file.stat().st_size / 1_000_000
    file.unlink()
    return (
        name, filled_s, exported.seconds, megabytes, before_mib, most_mib, exported.memory_mib,
        verified.seconds, verified.memory_mib,
    )  # fmt: skip


async def _fill(installation: Installation, count: int) -> None:
    """Let so much happen, and give it its places."""
    database = Database.connect(installation.settings().database_url)
    clock = SystemClock()
    units, log = SqlUnits(database, clock=clock, ids=IdSource(clock)), SqlEventLog(database)
    walls = TenantScope(installation.workspace_id, BOTH_ENVIRONMENTS)
    for start in range(0, count, _STORED_AT_ONCE):
        async with units.begin(walls, _ORIGIN) as unit:
            for number in range(start, min(start + _STORED_AT_ONCE, count)):
                unit.record(_change(installation.workspace_id, number))
        if start % _PLACED_AT_ONCE == 0:
            await log.place(limit=_PLACED_AT_ONCE)
    while await log.place(limit=_PLACED_AT_ONCE):
        continue
    await database.close()


def _change(workspace_id: str, number: int) -> Change:
    key_id = f"key_01hf7yat00{number % 10_000:016d}"
    return Change(
        workspace_id,
        Action.KEY_UPDATED,
        key_id,
        touches=(key_id,),
        environment="live",
        owner_id=f"customer-{number % 1_000}",
        changes={"name": (f"Key {number}", f"Key {number + 1}"), "tags": ([], ["blue"])},
    )


def _keystead(environment: dict[str, str], *words: str) -> Done:
    """Run the command line to its end."""
    began_s = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 -- runs this project's own command
        [sys.executable, "-m", "keystead", *words],
        cwd=Path(__file__).parent.parent.parent,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    memory_mib, pause = 0.0, Event()
    while process.poll() is None:
        with suppress(StopIteration):  # it has just ended
            memory_mib = max(memory_mib, _memory_mib(process.pid, "VmHWM"))
        pause.wait(_LOOK_S)
    seconds = time.perf_counter() - began_s
    printed = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise BenchError(f"keystead {' '.join(words[:2])} ended with {process.returncode}: {printed[-500:]}")
    return Done(printed, seconds, memory_mib)


def _memory_mib(pid: int, name: str) -> float:
    """Return how much memory a process has, or had at most."""
    lines: Sequence[str] = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * _KIB / _MIB for line in lines if line.startswith(f"{name}:"))
