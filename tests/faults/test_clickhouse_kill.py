"""P5 in ClickHouse: calls, outcomes and attempts are counted once in every table, wherever who counts them dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from keystead.adapters.clickhouse.schema import SUM_TARGETS
from tests.clickhouse_counter import ATTEMPTS, CALLS, OUTCOMES, PAGES, STRETCHES, TAGS

TIMEOUT_S = 120
WAYS = ("between", "partly", "0.02", "partly", "0.3", "partly", "between", "partly", "between")
SOAK_DEATHS = 60


def run(folder: Path, seed: int, way: str) -> subprocess.CompletedProcess[str]:
    """Count until the end, or until it dies."""
    program = [sys.executable, "-m", "tests.clickhouse_counter", str(folder), str(seed), way]
    return subprocess.run(program, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def demand_exact(folder: Path) -> None:
    """Count to the end, and demand that every table has every call, outcome and attempt once."""
    ended = run(folder, 0, "never")
    assert ended.returncode == 0, ended.stderr[-2_000:]
    told = json.loads(ended.stdout)
    calls = STRETCHES * CALLS
    once = dict.fromkeys(("usage_minutes", "usage_hours", "usage_days", "calls", "ids"), calls)
    expected = {**once, "usage_tags": len(TAGS) * calls, "cost": 2 * calls}
    outcomes, attempts = STRETCHES * OUTCOMES, 2 * PAGES * ATTEMPTS
    expected |= dict.fromkeys(("endings", "ended", "latencies"), outcomes) | {"attempts": attempts}
    for name in SUM_TARGETS:
        times = len(TAGS) if name == "usage_tags" else 1
        expected |= {f"outcomes of {name}": times * outcomes, f"errors of {name}": times * outcomes // 2}
        expected[f"attempts of {name}"] = 0 if name == "usage_tags" else attempts
    assert told == expected


def test_a_process_that_dies_while_it_counts_counts_once(tmp_path: Path) -> None:
    """Killed after the insert, in the middle of it or anywhere, the next process completes what was begun."""
    deaths = [run(tmp_path, seed, way).returncode for seed, way in enumerate(WAYS)]
    assert deaths.count(-signal.SIGKILL) == len([way for way in WAYS if way in {"between", "partly"}])
    demand_exact(tmp_path)


@pytest.mark.soak
def test_many_deaths_lose_nothing(tmp_path: Path) -> None:
    """However often the counting process dies, at random instants, nothing is lost and nothing counted twice."""
    random = Random(7)
    for round_number in range(SOAK_DEATHS // len(WAYS)):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        for seed in range(len(WAYS)):
            way = random.choice(("between", "partly", f"{random.uniform(0.01, 1):.3f}"))
            assert run(folder, 100 * round_number + seed, way).returncode in {0, -signal.SIGKILL, -signal.SIGALRM}
        demand_exact(folder)
