"""Limiters on one Redis in one run: ours, asked one by one and many at once, beside others, and the bare script.

Redis has a core of its own and whoever asks another, so that processor time on either side can be told apart.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis as clients

from bench.limits import LATER, NOW, Figures
from bench.plan import Plan
from bench.processes import BenchError, Server, cores, on_core, run_module
from bench.report import Check, Section
from bench.summary import median, ratio
from keystead.adapters.redis.rates import SCRIPT, SCRIPT_ID
from tests.services import PrivateRedis, find_program

TOGETHER = 128
"""As many calls as the native engine hands over in one turn."""
_OTHERS_TOGETHER = 50  # each takes a connection of its own, of which their client allows a hundred
_OURS = "keystead, Redis, bucket"
_ROUNDS_MAX = 3
_BOUND = 4.0
_US = 1_000_000
_SCRIPT_CALLS = 100_000
_BARE_S = 120.0
# A bucket whose numbers have no zero byte in them, which no word of a command line can have: 1.4e9 units, 1.07, 1.07.
_BARE_BUCKET = b"UUUUUU\xd5A" + b"\x11\x11\x11\x11\x11\x11\xf1?" * 2


@dataclass(frozen=True, slots=True)
class Row:
    """One way to ask; ``redis_us`` is the processor time of Redis for each decision, 0 when it has no part in it."""

    name: str
    at_once: int
    per_second: float
    client_us: float
    redis_us: float


class PinnedRedis(PrivateRedis):
    """A Redis on the core for servers."""

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return on_core(cores()[0], super().command())


def measure_limits(plan: Plan) -> Section:
    """Measure every limiter and every way, in turns, and take the median of the rounds."""
    with _redis() as server:
        rows = [_measured(server, plan, name, at_once) for name, at_once in _ways()]
        rows += [_bare(server, plan, pipelined) for pipelined in (1, TOGETHER)]
    section = Section(
        "Limits: decisions a second, and processor time for each",
        ("limiter", "at once", "decisions/s", "client µs", "Redis µs"),
        notes=[
            "at once: calls of one turn of the event loop; ours leave in one write on one connection",
            "client µs: all that the asking process does, making the calls included",
        ],
    )
    section.rows.extend(
        (one.name, one.at_once, one.per_second, one.client_us or "-", one.redis_us or "-") for one in rows
    )
    section.checks.append(_check(rows))
    return section


def _check(rows: list[Row]) -> Check:
    ours = next(one for one in rows if (one.name, one.at_once) == (_OURS, TOGETHER))
    best = min((one for one in rows if one.client_us and not one.name.startswith("keystead")), key=_client_us)
    name = f"Decisions of a client core on Redis, many at once, against {best.name}, {best.at_once} at once"
    return Check(name, ratio(best.client_us, ours.client_us), _BOUND, "x", at_most=False)


def _client_us(row: Row) -> float:
    return row.client_us


def _ways() -> Iterator[tuple[str, int]]:
    for name in NOW:
        yield name, 1
    for name in LATER:
        yield name, 1
        yield name, TOGETHER if name.startswith("keystead") else _OTHERS_TOGETHER


@contextmanager
def _redis() -> Iterator[PinnedRedis]:
    server = PinnedRedis()
    try:
        yield server
    finally:
        server.remove()


def _measured(server: PinnedRedis, plan: Plan, name: str, at_once: int) -> Row:
    found: list[tuple[float, float, float]] = []
    clients.Redis.from_url(server.url()).flushall()
    for _ in range(min(plan.rounds, _ROUNDS_MAX)):
        used_s = Server(server.pid, {}).used_s
        printed = run_module(
            "bench.limits", name, server.url(), str(at_once), str(plan.seconds / 2), lasts_s=plan.seconds
        )
        figures = Figures(**json.loads(printed.splitlines()[-1]))  # logs come before
        redis_us = (Server(server.pid, {}).used_s - used_s) * _US / figures.asked
        found.append((figures.per_second, figures.client_us, redis_us if "in process" not in name else 0.0))
    per_second, client_us, redis_us = (median(column) for column in zip(*found, strict=True))
    return Row(name, at_once, per_second, client_us, redis_us)


def _bare(server: PinnedRedis, plan: Plan, pipelined: int) -> Row:
    """Run the script by Redis's own benchmark: what one Redis can do at most, whoever asks."""
    clients.Redis.from_url(server.url()).script_load(SCRIPT)
    words: list[str | bytes] = [find_program("redis-benchmark"), "-p", str(server.port), "-n", str(_SCRIPT_CALLS)]
    words += ["-c", "1" if pipelined > 1 else "50", "-P", str(pipelined), "--csv"]
    words += ["EVALSHA", SCRIPT_ID, "1", "keystead:bare", _BARE_BUCKET, "1", "0"]
    found: list[tuple[float, float]] = []
    for _ in range(min(plan.rounds, _ROUNDS_MAX)):
        used_s = Server(server.pid, {}).used_s
        done = subprocess.run(  # noqa: S603 -- Redis's own program
            [*on_core(cores()[1], []), *words], capture_output=True, timeout=_BARE_S, check=False
        )
        numbers = re.findall(rb'"([0-9]+[.][0-9]+)"', done.stdout)
        if done.returncode or not numbers:
            raise BenchError(f"redis-benchmark ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        found.append((float(numbers[0]), (Server(server.pid, {}).used_s - used_s) * _US / _SCRIPT_CALLS))
    per_second, redis_us = (median(column) for column in zip(*found, strict=True))
    return Row("redis-benchmark, the bare script", pipelined if pipelined > 1 else 50, per_second, 0.0, redis_us)
