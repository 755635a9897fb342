"""Starts the benchmark's other processes, servers on one core and load on another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load import Load, Result

_STOP_S = 30.0
_LOAD_GRACE_S = 120.0
_ROOT = Path(__file__).parent.parent


class BenchError(Exception):
    """Raised when a measurement cannot be made."""


def cores() -> tuple[int | None, int | None]:
    """Return the core for servers and the one for load; None, which means any, where there are not two or no ``taskset``."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return None, None
    return usable[0], usable[1]


def on_core(core: int | None, command: Sequence[str]) -> list[str]:
    """Return ``command`` bound to ``core``, threads that it starts included."""
    return list(command) if core is None else ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def serving(
    module: str, *arguments: str, core: int | None, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Run ``module`` as a server while the block lasts, and lend what it announces."""
    process = subprocess.Popen(
        on_core(core, [sys.executable, "-m", module, *arguments]),
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ, **(environment or {})),
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BenchError(f"{module} {' '.join(arguments)} ended before it listened")
        yield json.loads(line)
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


def measure(load: Load) -> Result:
    """Run ``load`` in a process of its own; raise ``BenchError`` when it fails, or when any of its calls did."""
    result = attempt(load)
    if result.failed or not result.calls:
        raise BenchError(f"{load.path}: {result.calls} calls were good and {result.failed} not: {result.failure}")
    return result


def attempt(load: Load) -> Result:
    """Run ``load`` in a process of its own, whatever becomes of its calls."""
    lasts_s = load.warm_up_s + load.seconds + (load.keys / load.per_second if load.per_second else 0)
    done = subprocess.run(
        on_core(cores()[1], [sys.executable, "-m", "bench.load"]),
        cwd=_ROOT,
        input=load.to_json(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=lasts_s + _LOAD_GRACE_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"the load on {load.path} ended with {done.returncode}")
    return Result(**json.loads(done.stdout))
