"""How long a revocation takes to the last of three nodes on one PostgreSQL, with wake-ups and by polling alone (P3)."""

from __future__ import annotations

import asyncio
import statistics

from bench.plan import Plan
from bench.report import Check, Section
from tests.servers import ServerFarm
from tests.services import PrivatePostgres
from tests.spreading import three, times_to_all_ms

_WAYS = (("auto", "woken by PostgreSQL", 100.0), ("off", "polling every 250 ms", 1_000.0))
_UNMEASURED = 10
_AT_ONCE = 2


def measure_propagation(plan: Plan) -> Section:
    """Revoke one key after the other, and ask all nodes every 10 ms until the last refuses."""
    section = Section(
        f"Revocation on three nodes, {plan.revocations} keys, until the last node refuses",
        ("nodes hear of it", "p50 ms", "p99 ms", "max ms"),
    )
    postgres = PrivatePostgres()
    try:
        for wake_up, name, bound_ms in _WAYS:
            url = postgres.create_database(f"propagation_{wake_up}")
            took_ms = asyncio.run(_measured(plan, url, wake_up))
            cuts = statistics.quantiles(took_ms, n=100, method="inclusive")
            section.rows.append((name, cuts[49], cuts[98], max(took_ms)))
            section.checks.append(Check(f"P3: revoked everywhere, {name}, p99", cuts[98], bound_ms, "ms", at_most=True))
    finally:
        postgres.remove()
    section.notes.append("the asking is part of what is measured, up to 10 ms; PostgreSQL runs beside, without fsync")
    return section


async def _measured(plan: Plan, url: str, wake_up: str) -> list[float]:
    farm = ServerFarm(plan.data_dir(f"propagation-{wake_up}"))
    try:
        async with three(farm, database=url, wake_up=wake_up, log_level="warning") as clients:
            await times_to_all_ms(clients, tries=_UNMEASURED, at_once=_AT_ONCE)
            return await times_to_all_ms(clients, tries=plan.revocations, at_once=_AT_ONCE)
    finally:
        farm.end()
