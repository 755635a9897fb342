"""Processes that do one thing to a database and kill themselves at a chosen point of it: ``python -m tests.mortals``.

A point is the moment before a statement, and the moments before and after a commit. What is after a statement is before
the next one or before the commit, and nothing is done in between. The first process has imported everything and forks
for each line of its standard input; the child builds a whole core, as a server does, and does what the line says.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from google.protobuf.message import Message
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from keystead.adapters.sql.log_shelf import SqlLogShelf
from keystead.bootstrap.core import Core, core
from keystead.config import load_settings
from keystead.events.model import Retained
from keystead.events.retention import DAY_MS, LogCutter
from keystead.kernel.clock import SystemClock
from keystead.transport.calls import Call
from tests.clients import METHODS, STREAMS

ROOT = Path(__file__).parent.parent
ENDED = "after the commit"
PLACE, SIGN, CUT = "place", "sign", "cut"
"""What is no call: giving events their places in one transaction, signing a checkpoint of each workspace, and cutting
the log of one at its last checkpoint, as retention does ten days later.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to do on which database, and the point at which to die: the first is 1, and 0 is none.

    ``settings`` are those of ``config.py``; ``request`` is a message of ``method`` in hexadecimal; ``told`` is the file
    in which a process that lives to see its end tells of it.
    """

    settings: dict[str, Any]
    method: str
    request: str = ""
    token: str = ""
    workspace_id: str = ""
    dies_at: int = 0
    told: str = ""


@dataclass(slots=True)
class Fate:
    """Counts the points that are reached between ``begin`` and ``end``, and signals this process at one of them."""

    dies_at: int
    sends: signal.Signals = signal.SIGKILL
    points: list[str] = field(default_factory=list)
    _counting: bool = False
    _ending: bool = False

    def begin(self) -> None:
        """Count from here on."""
        self._counting = True

    def end(self) -> None:
        """Count no more."""
        self._counting = False

    def reach(self, point: str) -> None:
        """Be at a point."""
        if not self._counting:
            return
        self.points.append(point)
        if len(self.points) == self.dies_at:
            os.kill(os.getpid(), self.sends)

    def watch(self) -> None:
        """See every point of whatever connects from now on."""

        def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            self.reach(f"before {statement}")

        def commits(_connection: Any) -> None:
            self._ending = True
            self.reach("before COMMIT")

        def ended(*_: Any) -> None:
            """Be where a commit has ended: the first thing that happens then is that its connection goes home."""
            if self._ending:
                self._ending = False
                self.reach(ENDED)

        event.listen(Engine, "before_cursor_execute", before)
        event.listen(Engine, "commit", commits)
        event.listen(Pool, "reset", ended)


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: killed, or with the points that it has passed and its reply."""

    killed: bool
    points: tuple[str, ...] = ()
    reply: bytes = b""


class Mortals:
    """The process that forks; it ends with this one, when its standard input does."""

    def __init__(self) -> None:
        """Begin importing."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYSTEAD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mortals"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, orders: Orders) -> End:
        """Let a process do as ordered, to its end; raise ``AssertionError`` when that is neither of the two."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write(json.dumps(asdict(orders)) + "\n")
        asked.flush()
        code = int(told.readline())
        if code == -signal.SIGKILL:
            return End(killed=True)
        assert code == 0, "the process failed by itself"
        found = json.loads(Path(orders.told).read_text(encoding="utf-8"))
        return End(killed=False, points=tuple(found["points"]), reply=bytes.fromhex(found["reply"]))


def main() -> None:
    """Fork for every line of standard input, wait for the child, and print its exit code."""
    for line in sys.stdin:
        born = os.fork()
        if born == 0:
            _live(Orders(**json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(born, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _live(orders: Orders) -> None:
    fate = Fate(orders.dies_at)
    fate.watch()
    reply = asyncio.run(_do(orders, fate))
    found = {"points": fate.points, "reply": reply.hex()}
    Path(orders.told).write_text(json.dumps(found), encoding="utf-8")


async def _do(orders: Orders, fate: Fate) -> bytes:

    async with core(load_settings(**orders.settings)) as made:
        made.lease.renew(made.clock.monotonic_ms())
        fate.begin()
        reply = await perform(made, orders)
        fate.end()
        return reply


async def perform(made: Core, orders: Orders) -> bytes:
    """Do as ordered with a core that may vouch for keys; return the reply of a call."""
    if orders.method == PLACE:
        while await made.log.place(limit=1_000):
            continue
        return b""
    if orders.method == SIGN:
        for workspace_id in await made.checkpoints.due(confirmed_to_ms=0, after="", limit=1_000):
            await made.checkpointer.make(workspace_id)
        return b""
    if orders.method == CUT:
        return await _cut(made, orders.workspace_id)
    request = METHODS[orders.method].request.FromString(bytes.fromhex(orders.request))
    reply = await made.dispatcher()(call_of(orders.method, orders.token), request)
    return reply.SerializeToString() if isinstance(reply, Message) else bytes(reply)


async def _cut(made: Core, workspace_id: str) -> bytes:
    cutter = LogCutter(SqlLogShelf(made.database, _no_sinks), made.units, _TenDaysLater())
    async for _ in cutter.see_to(Retained(workspace_id, days=1)):
        continue
    return b""


async def _no_sinks(_workspace_id: str) -> None:
    return None


class _TenDaysLater(SystemClock):
    def now_ms(self) -> int:
        return super().now_ms() + 10 * DAY_MS


def call_of(name: str, token: str) -> Call:
    """Return what a transport would hand over beside the message."""
    method = METHODS.get(name) or STREAMS[name]
    return Call(method, (("authorization", f"Bearer {token}"),), "ipv4:127.0.0.1:9", None)


if __name__ == "__main__":
    main()
