"""What sinks cost those who have none: one search by an index that holds strict ones alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import transaction
from keystead.adapters.sql.sinks_schema import sink_dead_letters
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.sinks.model import LETTERS_MAX, Kind, SinkState
from tests.contract.stores import ORIGIN, sql_stores
from tests.contract.test_query_plans import plan, reads_it_all
from tests.contract.test_sinks import sink_of

Asked = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Ask SQLite, whose planner knows nothing of how many rows there are: its plan depends on the indexes alone."""
    path = tmp_path / "keystead.db"
    shutil.copy(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def asked(database: Database) -> Asked:
    """Note what is asked of the database."""
    found: Asked = []

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[Any, ...], *_rest: object) -> None:
        if statement.startswith("SELECT"):
            found.append((statement, parameters))

    event.listen(database.snapshots.sync_engine, "before_cursor_execute", note)
    return found


async def test_no_strict_sink_costs_one_search(database: Database, asked: Asked) -> None:
    """A change in a workspace without a strict sink pays for one look into an index that is all but empty."""
    async with sql_stores(database).units.read(None) as unit:
        assert await unit.sinks.behind("wsp_1") is None
    [(statement, parameters)] = asked
    assert await plan(database, statement, parameters) == ["SEARCH sinks USING INDEX sinks_strict (workspace_id=?)"]


async def test_nothing_about_a_sink_reads_a_whole_table(database: Database, asked: Asked) -> None:
    """However long a log is and however many sinks there are, one is looked at by indexes."""
    stores = sql_stores(database)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    sink = sink_of(stores, workspace, strict_lag_ms=1_000)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.sinks.add(sink, next_index=0)
    async with stores.units.read(None) as unit:
        await unit.sinks.behind(workspace.id)
        await unit.sinks.progress(sink)
        await unit.sinks.start(workspace.id, 5)
        await unit.sinks.get(workspace.id, sink.id)
    assert len(asked) > 6
    plans = {statement: await plan(database, statement, parameters) for statement, parameters in asked}
    [unplaced] = [steps for statement, steps in plans.items() if "seq IS NULL" in statement]
    assert unplaced == ["SEARCH events USING INDEX events_unplaced"], "it looks through more than what has no place yet"
    for steps in plans.values():
        assert not [step for step in steps if reads_it_all(step) and step not in {*unplaced, "SEARCH anon_1"}], steps
        assert not [step for step in steps if step.startswith("SCAN sink")], steps


async def test_what_is_due_reads_nothing_that_was_set_aside(database: Database) -> None:
    """However much was set aside, whoever asks what is due looks only for what is to be sent again."""
    places = sql_stores(database).sink_places
    found: Asked = []

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[Any, ...], *_rest: object) -> None:
        found.append((statement, parameters))

    event.listen(database.statements.sync_engine, "before_cursor_execute", note)
    await places.due(kinds=(Kind.HTTP,), limit=9)
    await places.again("snk_1", limit=9)
    event.remove(database.statements.sync_engine, "before_cursor_execute", note)
    assert len(found) == 2
    for statement, parameters in found:
        steps = [step for step in await plan(database, statement, parameters) if "sink_dead_letters" in step]
        assert len(steps) == 1
        assert "sink_dead_letters_again" in steps[0], steps


async def test_a_sink_is_full_at_its_bound(database: Database) -> None:
    """What may be set aside has an end, another sink's does not count, and why a sink was paused is kept with it."""
    stores = sql_stores(database)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    sink, other = sink_of(stores, workspace), sink_of(stores, workspace)
    row = {"sink_id": sink.id, "is_checkpoint": False, "at_ms": 1, "error": "no", "again": False}
    rows = [row | {"event_id": f"evt_{number}", "leaf_index": number} for number in range(LETTERS_MAX)]
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.sinks.add(sink, next_index=0)
        await unit.sinks.add(other, next_index=0)
    full = []
    for some in (rows[1:], rows[:1]):
        async with transaction(database) as session:
            await session.write(insert(sink_dead_letters), some)
        async with stores.units.read(None) as unit:
            full.append((await unit.sinks.is_full(sink), await unit.sinks.is_full(other)))
    assert full == [(False, False), (True, False)]
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.sinks.save(replace(sink, state=SinkState.PAUSED, version=2), reason="full")
        assert (await unit.sinks.progress(sink)).last_error == "full"


async def test_what_is_told_late_is_not_late(database: Database) -> None:
    """Lag counts from when an event came into the log, for strict sinks and for what is shown, placed or not."""
    stores, clock = sql_stores(database), SystemClock()
    workspace = stores.make.workspace()
    await stores.add(workspace)
    sink = sink_of(stores, workspace, strict_lag_ms=3_600_000)
    assert clock.now_ms() - stores.clock.now_ms() > 2 * sink.strict_lag_ms, "what happens now is told as long ago"
    late = SqlUnits(database, clock=stores.clock, ids=IdSource(clock))
    async with late.begin(None, ORIGIN) as unit:
        await unit.sinks.add(sink, next_index=0)
        unit.record(stores.make.change(workspace.id))
    async with stores.units.read(None) as unit:
        assert await unit.sinks.behind(workspace.id) is None
    await stores.log.place(limit=9)
    async with stores.units.read(None) as unit:
        assert await unit.sinks.behind(workspace.id) is None
        lag_ms = (await unit.sinks.progress(sink)).lag_ms
    assert lag_ms is not None
    assert lag_ms < sink.strict_lag_ms
    assert (await stores.sink_places.summary())[Kind.HTTP].lag_ms < sink.strict_lag_ms
    await stores.happened(stores.make.change(workspace.id))
    async with stores.units.read(None) as unit:
        assert await unit.sinks.behind(workspace.id) is not None
