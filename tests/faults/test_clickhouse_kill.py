"""P5 in ClickHouse: a stretch is counted once in every table, wherever the process that counts it dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.clickhouse_counter import CALLS, STRETCHES, TAGS

TIMEOUT_S = 120
WAYS = ("between", "partly", "0.02", "0.1", "0.3", "partly", "between")
SOAK_DEATHS = 60


def run(folder: Path, seed: int, way: str) -> subprocess.CompletedProcess[str]:
    """Count until the end, or until it dies."""
    program = [sys.executable, "-m", "tests.clickhouse_counter", str(folder), str(seed), way]
    return subprocess.run(program, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def demand_exact(folder: Path) -> None:
    """Count to the end, and demand that every table has every call once."""
    ended = run(folder, 0, "never")
    assert ended.returncode == 0, ended.stderr[-2_000:]
    told = json.loads(ended.stdout)
    calls = STRETCHES * CALLS
    once = dict.fromkeys(("usage_minutes", "usage_hours", "usage_days", "calls", "ids"), calls)
    assert told == {**once, "usage_tags": len(TAGS) * calls, "cost": 2 * calls}


def test_a_process_that_dies_while_it_counts_counts_once(tmp_path: Path) -> None:
    """Killed after the insert, in the middle of it or anywhere, the next process completes what was begun."""
    deaths = [run(tmp_path, seed, way).returncode for seed, way in enumerate(WAYS)]
    assert deaths.count(-signal.SIGKILL) == len([way for way in WAYS if way in {"between", "partly"}])
    demand_exact(tmp_path)


@pytest.mark.soak
def test_many_deaths_lose_nothing(tmp_path: Path) -> None:
    """However often the counting process dies, at random instants, no call is lost and none counted twice."""
    random = Random(7)
    for round_number in range(SOAK_DEATHS // len(WAYS)):
        folder = tmp_path / str(round_number)
        for seed in range(len(WAYS)):
            run(
                folder,
                100 * round_number + seed,
                random.choice(("between", "partly", f"{random.uniform(0.01, 1):.3f}")),
            )
        demand_exact(folder)
