"""Starts the benchmark's other processes, servers on one core and load on another, and reads what they cost.

Time on the wall depends on who else uses the machine; processor time hardly does. So each run also says how many
microseconds of processor time the server took for a call, whatever that call left to do afterwards included.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bench.load import Load, Result

_STOP_S = 30.0
_LOAD_GRACE_S = 120.0
_ROOT = Path(__file__).parent.parent
_US = 1_000_000
_QUIET_S = 0.4
_QUIET_SHARE = 0.06
_SETTLE_S = 60.0


class BenchError(Exception):
    """Raised when a measurement cannot be made."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server process, and the port of each of its listeners by name."""

    pid: int
    ports: Mapping[str, int]

    @property
    def used_s(self) -> float:
        """How much processor time all its threads have used, in seconds, to the hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Wait until it works no more on what earlier calls left to do."""
        ends_at_s = time.monotonic() + _SETTLE_S
        pause = Event()
        while time.monotonic() < ends_at_s:
            before_s = self.used_s
            pause.wait(_QUIET_S)
            if self.used_s - before_s <= _QUIET_S * _QUIET_SHARE:
                return


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one server; ``server_us`` is the server's processor time for each call."""

    result: Result
    server_us: float


def cores() -> tuple[int | None, int | None]:
    """Return the core for servers and the one for load; None, which means any, without two of them or ``taskset``."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return None, None
    return usable[0], usable[1]


def on_core(core: int | None, command: Sequence[str]) -> list[str]:
    """Return ``command`` bound to ``core``, threads that it starts included."""
    return list(command) if core is None else ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def serving(module: str, *arguments: str, core: int | None) -> Iterator[Server]:
    """Run ``module`` as a server while the block lasts, and lend what it announces."""
    process = subprocess.Popen(  # noqa: S603 -- runs this package's own modules
        on_core(core, [sys.executable, "-m", module, *arguments]),
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BenchError(f"{module} {' '.join(arguments)} ended before it listened")
        yield Server(process.pid, json.loads(line))
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
    if process.stdout:
        process.stdout.close()


def measure(load: Load, server: Server) -> Run:
    """Run ``load`` in a process of its own; raise ``BenchError`` when any of its calls failed."""
    run = attempt(load, server)
    result = run.result
    if result.failed or not result.calls:
        raise BenchError(f"{load.path}: {result.calls} calls were good and {result.failed} not: {result.failure}")
    return run


def attempt(load: Load, server: Server) -> Run:
    """Run ``load`` on ``server`` in a process of its own, whatever becomes of its calls."""
    server.settle()
    used_s = server.used_s
    result = Result(**json.loads(run_module("bench.load", given=load.to_json(), lasts_s=load.lasts_s)))
    server.settle()
    return Run(result, (server.used_s - used_s) * _US / max(1, result.ended))


def run_module(module: str, *arguments: str, given: str = "", lasts_s: float = 0.0) -> str:
    """Run ``module`` on the core for load and return what it prints; it gets two minutes more than it should need."""
    done = subprocess.run(  # noqa: S603 -- see serving
        on_core(cores()[1], [sys.executable, "-m", module, *arguments]),
        cwd=_ROOT,
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        timeout=lasts_s + _LOAD_GRACE_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{module} ended with {done.returncode}")
    return done.stdout
