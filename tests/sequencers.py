"""One of several sequencers of one log: ``python -m tests.sequencers '<JSON of Orders>'``.

It gives events their places as fast as they come until its standard input ends, and prints how many. It may freeze
itself, as SIGSTOP does, at one point of one transaction (``mortals`` says what a point is), and goes on when woken.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.events import SqlEventLog
from keystead.kernel.errors import UnavailableError
from tests.mortals import Fate
from tests.services import send

ROOT = Path(__file__).parent.parent
BEGUN = "begun\n"
_PATIENT_MS = 30_000
_TICK_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Which log, how many events at once, after how long the server ends an idle transaction, and where to freeze.

    The first point of the first transaction that places something is 1; 0 is none.
    """

    url: str
    limit: int = 50
    idle_timeout_ms: int = 10_000
    freezes_at: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """How many events were placed, and how many turns failed because the database took a transaction back."""

    placed: int
    failed: int


class Sequencer:
    """The process, in the hands of a test."""

    def __init__(self, orders: Orders) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.sequencers", json.dumps(asdict(orders))]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wake()
        self._process.kill()
        self._process.communicate()

    @property
    def is_frozen(self) -> bool:
        """Whether the process is stopped."""
        status = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii", errors="replace")
        return status.rpartition(")")[2].split()[0] == "T"

    def wait_for_a_place(self) -> None:
        """Wait until it has given an event its place; the end of the process ends the wait."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == BEGUN

    def wake(self) -> None:
        """Let a frozen process go on."""
        send(self._process.pid, signal.SIGCONT)

    def end(self, *, within_s: float) -> Account:
        """Let it place what is left and end; return what it did."""
        told, _ = self._process.communicate(timeout=within_s)
        assert self._process.returncode == 0
        return Account(**json.loads(told.removeprefix(BEGUN)))


async def run(orders: Orders) -> Account:
    """Place until standard input ends and nothing waits any more."""
    settings = DatabaseSettings(idle_timeout_ms=orders.idle_timeout_ms, command_timeout_ms=_PATIENT_MS)
    database = Database.connect(orders.url, settings=settings)
    log, fate = SqlEventLog(database), Fate(orders.freezes_at, signal.SIGSTOP)
    fate.watch()
    fate.begin()
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    placed = failed = 0
    while True:
        last = ended.done()
        try:
            count = await log.place(limit=orders.limit)
        except UnavailableError:
            failed += 1
            continue
        if count and not placed:
            _say(BEGUN)
        placed += count
        if last and not count:
            break
        if not count:
            await asyncio.sleep(_TICK_S)
    await database.close()
    return Account(placed, failed)


def main() -> None:
    """Do as ordered."""
    found: Any = asyncio.run(run(Orders(**json.loads(sys.argv[1]))))
    _say(json.dumps(asdict(found)) + "\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
