"""A restart: nothing is proven any more, and every key that comes must first be read and hashed once."""

from __future__ import annotations

from bench.installation import REAL_COST, install
from bench.load import Load
from bench.plan import Plan
from bench.processes import attempt, serving
from bench.report import Check, Section
from keystead.transport.dispatch import VERIFY_KEY

_PER_SECOND = 200.0
_BOUND_MS = 250.0


def measure_cold(plan: Plan) -> Section:
    """Call with each key once, 200 a second, on the server that ``keystead serve`` runs, on all cores."""
    installation = install(plan.data_dir("cold"), plan.population, keys=plan.cold_keys, real_hashes=True)
    with serving("bench.restarted", installation.data_dir, core=None) as server:
        load = Load(
            port=server.ports["native"],
            path=VERIFY_KEY,
            management_key=installation.management_key,
            population=installation.population,
            keys=installation.keys,
            access="once",
            per_second=_PER_SECOND,
        )
        run = attempt(load, server)
    result = run.result
    section = Section(
        f"Cold start: each of {plan.cold_keys:,} keys once, {_PER_SECOND:.0f} calls/s, bcrypt cost {REAL_COST}",
        ("calls", "good", "shed or failed", "p50 ms", "p99 ms", "longest ms", "server µs"),
    )
    section.rows.append(
        (
            result.calls + result.failed,
            result.calls,
            result.failed,
            result.p50_ms,
            result.p99_ms,
            result.maximum_ms,
            run.server_us,
        )
    )
    if result.failure:
        section.notes.append(f"the first that failed: {result.failure}")
    section.checks.append(Check("Cold start: calls shed", result.failed, 0, "calls", at_most=True))
    section.checks.append(Check("Cold start: 99 of 100 calls within", result.p99_ms, _BOUND_MS, "ms", at_most=True))
    return section
