"""Any sequence of lifecycle calls agrees with a small model, on real databases as in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.snapshots import SqlSnapshots
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.ids import IdSource
from tests.contract.conftest import empty
from tests.fakes import ManualClock
from tests.lifecycle import machine_over
from tests.world import OnCommit, Ports, World


def test_any_life_of_a_key_agrees_with_the_model(database_url: str) -> None:
    """Made, changed, rotated, finished, cancelled, suspended, resumed, revoked, its owner too: in any order."""

    @asynccontextmanager
    async def sql_world() -> AsyncIterator[World]:
        database = Database.connect(database_url)

        def open_ports(clock: ManualClock, ids: IdSource, on_commit: OnCommit) -> Ports:
            return Ports(
                SqlUnits(database, clock=clock, ids=ids, on_commit=on_commit), SqlSnapshots(database, clock=clock)
            )

        try:
            yield World(open_ports)
        finally:
            await empty(database)

    run_state_machine_as_test(
        machine_over(sql_world),
        settings=settings(max_examples=8, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]),
    )
