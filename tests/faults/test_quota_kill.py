"""P4: quotas and credits are never over, whoever is killed at whatever instant, and a clean stop loses nothing."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.migration import migrate
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.limits.allowances import BLOCK_MAX, PARTS, look
from tests.allowances import ORIGIN
from tests.contract.stores import Maker
from tests.fakes import ManualClock
from tests.polling import eventually
from tests.spender import allowances_of

PROCESSES = 3
LETTERS = b"qc"


class Spenders:
    """Processes that spend one quota and one balance; ``written`` is every unit that any of them was given."""

    def __init__(self, url: str, folder: Path, limit: int) -> None:
        """Begin with none; ``open`` makes the workspace."""
        self.url = url
        self.limit = limit
        self.written = folder / "written"
        self.written.touch()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workspace_id = ""

    async def open(self) -> None:
        """Make the schema and the workspace."""
        await migrate(self.url)
        database, workspace = Database.connect(self.url), Maker(ManualClock()).workspace()
        async with SqlUnits(database, clock=SystemClock(), ids=IdSource(SystemClock())).begin(None, ORIGIN) as unit:
            await unit.workspaces.add(workspace)
        await database.close()
        self.workspace_id = workspace.id

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        command = [sys.executable, "-m", "tests.spender", self.url, str(self.written), self.workspace_id]
        process = subprocess.Popen([*command, str(self.limit)])
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        """End what is left of them."""
        for process in self.processes:
            process.kill()
            process.wait(10)

    def spent(self) -> list[int]:
        """Return how many units of the quota and of the credits were given to anybody."""
        written = self.written.read_bytes()
        return [written.count(letter) for letter in LETTERS]

    async def left(self) -> list[int]:
        """Return what nobody has taken."""
        database = Database.connect(self.url)
        units = SqlUnits(database, clock=SystemClock(), ids=IdSource(SystemClock()))
        async with units.read(None) as unit:
            now_ms = SystemClock().now_ms()
            left = [(await look(unit, of, now_ms)).left for of in allowances_of(self.workspace_id, self.limit)]
        await database.close()
        return left

    async def spent_more(self, than: int) -> None:
        """Wait until more units than that were given, or everybody has ended."""

        async def more() -> bool:
            running = any(process.poll() is None for process in self.processes)
            return sum(self.spent()) > than or not running

        await eventually(more, within_s=30.0)


async def demand_never_over(spenders: Spenders, *, kills: int) -> None:
    """Kill and restart at random; then stop in good order, and spend the rest."""
    chance = random.Random(11)
    await spenders.open()
    running = [spenders.start() for _ in range(PROCESSES)]
    step = 2 * spenders.limit // (kills + 4)
    for _ in range(kills):
        await spenders.spent_more(sum(spenders.spent()) + chance.randrange(step // 2, step))
        victim = chance.randrange(PROCESSES)
        running[victim].kill()
        running[victim].wait(10)
        running[victim] = spenders.start()
    await spenders.spent_more(sum(spenders.spent()) + 1)
    for process in running:
        process.terminate()
    assert [process.wait(30) in {0, -15} for process in running] == [True] * PROCESSES
    spent, left = spenders.spent(), await spenders.left()
    lost = [spenders.limit - there - gone for there, gone in zip(left, spent, strict=True)]
    assert min(lost) >= 0, "more was given than there is"
    assert max(lost) <= kills * min(spenders.limit // PARTS + 1, BLOCK_MAX), "a kill costs a block at most"
    assert spenders.start().wait(60) == 0
    assert [now - before for now, before in zip(spenders.spent(), spent, strict=True)] == left


@pytest.mark.parametrize("store", ("sqlite", "postgresql"))
async def test_kill_9_never_hands_out_more(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Of three processes that spend one quota and one balance, one after the other is killed and started anew: what was
    given to all of them never exceeds the limit, a kill costs a block at most, and all that is left can be spent.
    """
    await kept(Spenders(url_of(store, tmp_path, request), tmp_path, 2_000), kills=6)


@pytest.mark.soak
@pytest.mark.parametrize("store", ("sqlite", "postgresql"))
async def test_kill_9_all_night(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The same with a hundred kills."""
    await kept(Spenders(url_of(store, tmp_path, request), tmp_path, 100_000), kills=100)


async def kept(spenders: Spenders, *, kills: int) -> None:
    """Run, and leave no process behind."""
    try:
        await demand_never_over(spenders, kills=kills)
    finally:
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(spenders.kill_all)


def url_of(store: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database."""
    if store == "sqlite":
        return f"sqlite:///{folder / 'keystead.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
