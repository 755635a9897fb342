"""That secrets which are too old are found by an index, whatever the size of the tables."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from keystead.adapters.sql.database import Database
from tests.contract.stores import ORIGIN, sql_stores
from tests.contract.test_query_plans import plan, reads_it_all


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Ask SQLite, whose planner goes by the indexes alone."""
    shutil.copy(migrated_file, tmp_path / "keystead.db")
    return f"sqlite:///{tmp_path / 'keystead.db'}"


async def test_the_walk_goes_by_the_index_of_current_secrets(database: Database) -> None:
    """Looking for secrets that are too old reads the next of them in the order of age, and joins those alone."""
    asked: list[tuple[str, tuple[Any, ...]]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[Any, ...], *_rest: object) -> None:
        asked.append((statement, parameters))

    stores = sql_stores(database)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.plans.add(replace(stores.make.plan(workspace), rotate_every_ms=3_600_000))
    event.listen(database.statements.sync_engine, "before_cursor_execute", note)
    await stores.overdue_keys.walk(now_ms=stores.clock.now_ms(), after=(1, "sec_x"), at_most=10)
    steps = await plan(database, *asked[-1])
    assert [step for step in steps if "secrets" in step] == [steps[1]]
    assert steps[1].startswith("SEARCH secrets USING INDEX secrets_by_age ((created_at_ms,id)>(?,?)")
    assert not [step for step in steps if reads_it_all(step)], steps
