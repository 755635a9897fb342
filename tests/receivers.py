"""The example Entitlements service as a process of its own, and usage of hours ago for a server to tell it.

Windows are hours, so no test waits for one: verdicts are counted straight into the server's store, as its flusher
would have counted them in the past.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.ids import new_id
from keystead.usage.meters import WINDOW_MS, window_of
from keystead.usage.model import CODE_NUMBERS, Call, Stretch, Subject
from tests.servers import KeysteadServer
from tests.services import find_program
from tests.web import web_client

PROGRAM = Path(__file__).parent.parent / "examples" / "sisters" / "entitlements" / "receiver.py"
TOKEN = "a token of the tests"
HOURS = 30
_TIMEOUT_S = 10.0

Totals = dict[str, dict[str, int]]


@dataclass(frozen=True)
class RunningReceiver:
    """The service, listening at ``url``."""

    url: str

    @property
    def settings(self) -> dict[str, Any]:
        """What a server is told to tell it of the last hours."""
        began = datetime.fromtimestamp(window_of(int(time.time() * 1_000)) // 1_000 - HOURS * 3_600, UTC)
        return {
            "entitlements_url": f"{self.url}/api/v1/events",
            "entitlements_token": TOKEN,
            "entitlements_from": began.isoformat(),
            "entitlements_retry_max_ms": 1_000,
        }

    async def report(self) -> dict[str, Any]:
        """Return what it has counted."""
        async with web_client(timeout=_TIMEOUT_S) as client:
            told: dict[str, Any] = (await client.get(f"{self.url}/totals")).json()
            return told

    async def misbehave(self, query: str) -> None:
        """Tell it what is to go wrong."""
        async with web_client(timeout=_TIMEOUT_S) as client:
            assert (await client.post(f"{self.url}/misbehave?{query}")).status_code == 204


@contextmanager
def receiver() -> Iterator[RunningReceiver]:
    """Run the service on a free port; it ends with the block, and with the tests."""
    command = [find_program("setpriv"), "--pdeathsig=KILL", "--", sys.executable, str(PROGRAM)]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        env=os.environ | {"RECEIVER_TOKEN": TOKEN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        try:
            yield RunningReceiver(url)
        finally:
            process.kill()


@dataclass
class PastUsage:
    """Verdicts of the last hours in a server's store, and what they come to."""

    server: KeysteadServer
    seed: int = 1
    billed: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def totals(self) -> Totals:
        """What is to be billed, as the receiver reports it."""
        found: Totals = {}
        for (owner, meter), value in sorted(self.billed.items()):
            found.setdefault(owner, {})[meter] = value
        return found

    async def add(
        self, calls: int, *, owners: Sequence[str] = ("cust_1", "cust_2", "cust_3"), hours: int = HOURS
    ) -> None:
        """Count so many verdicts of each owner, and some that nobody pays for, in the last ``hours`` that are over."""
        random = Random(self.seed)
        self.seed += 1
        over_ms = window_of(int(time.time() * 1_000))
        made: list[Call] = []
        for owner in [*owners, ""]:
            for number in range(calls):
                code = "RATE_LIMITED" if number % 5 == 4 else "VALID"
                cost = random.randrange(9)
                at_ms = over_ms - 1 - random.randrange(hours * WINDOW_MS)
                made.append(self._call(owner, code, cost, at_ms))
                if owner and code == "VALID":
                    self.billed[owner, "api_calls"] += 1
                    self.billed[owner, "api_cost"] += cost
        await self._count(made)

    def _call(self, owner: str, code: str, cost: int, at_ms: int) -> Call:
        subject = Subject(str(self.server.told["workspace_id"]), "live", f"key_{owner}", "sec_1", owner)
        return Call(new_id("ver", now_ms=at_ms), at_ms, subject, CODE_NUMBERS[code], cost, "", "")

    def _count_in_clickhouse(self, stretch: Stretch) -> None:
        program = [sys.executable, "-m", "tests.past_calls", str(self.server.data_dir)]
        subprocess.run(program, input=pickle.dumps(stretch), check=True, timeout=60)

    async def _count(self, calls: Sequence[Call]) -> None:
        """Count as a journal that is at its end, so that nobody waits for more of it."""
        now_ms = int(time.time() * 1_000)
        stretch = Stretch(new_id("jrn", now_ms=now_ms), 0, len(calls), tuple(calls), now_ms)
        if self.server.settings.get("usage_store"):  # then the server must be stopped
            await asyncio.to_thread(self._count_in_clickhouse, stretch)
            return
        url = str(self.server.settings.get("database") or f"sqlite:///{self.server.data_dir / 'keystead.db'}")
        database = Database.connect(url)
        try:
            store = SqlUsage(database)
            await store.register(stretch.journal_id, at_ms=now_ms)
            assert await store.count(stretch)
            await store.close(stretch.journal_id)
        finally:
            await database.close()
