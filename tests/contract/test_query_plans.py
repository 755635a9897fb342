"""That nothing reads a whole table where an index knows better: what holds for ten keys must hold for a million."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, func, text

from keystead.adapters.sql import event_queries, events, plans, snapshots
from keystead.adapters.sql.database import Database
from keystead.events.model import EventFilter
from keystead.kernel.ids import new_id
from keystead.kernel.paging import PageRequest
from keystead.tenants.model import Environment
from tests.contract.stores import sql_stores, walls
from tests.contract.test_audit_reader import OUR_LIVE, OURS
from tests.contract.test_audit_reader import questions as audit_questions
from tests.contract.test_key_filter import questions

TABLES = ("keys", "secrets", "key_labels", "events", "owners", "workspaces", "plans")
WHOLE_TABLES = tuple(f"SCAN {table}" for table in TABLES)


def reads_it_all(step: str) -> bool:
    """Say whether a step goes through a table from end to end."""
    return step.startswith(WHOLE_TABLES) or (step.startswith("SEARCH") and " USING " not in step)


@pytest.fixture
def database_url(migrated_file: object) -> str:
    """Ask SQLite, whose planner knows nothing of how many rows there are: its plan depends on the indexes alone."""
    return f"sqlite:///{migrated_file}"


async def plan(database: Database, statement: str, parameters: tuple[Any, ...]) -> list[str]:
    """Return the steps by which SQLite would answer."""
    rows = await database.fetch(f"EXPLAIN QUERY PLAN {statement}", *parameters)
    return [row[3] for row in rows]


WAITING = {"events_unplaced", "events_unheard"}
"""Indexes that hold nothing but what waits for its place, so all of them may be read."""


@pytest.mark.parametrize(
    ("statement", "parameters"),
    (
        (snapshots._BY_PREFIX, (1, 1, "acme_live_x")),
        (snapshots._BY_KEY, (1, 1, "key_x")),
        (events._POLL, (5, 10)),
        (events._HEAD, ()),
        (events._ANY_UNPLACED, ()),
    ),
)
async def test_the_hot_statements_search(database: Database, statement: str, parameters: tuple[Any, ...]) -> None:
    """Verification and the log find their rows by an index, in order, whatever the size of the tables."""
    steps = await plan(database, statement, parameters)
    assert not [step for step in steps if reads_it_all(step) and not WAITING & set(step.split())], steps
    if statement is events._POLL:
        assert not [step for step in steps if "TEMP B-TREE" in step]


async def test_no_list_reads_a_whole_table(database: Database) -> None:
    """Whatever is asked of the keys inside walls, no step of the answer goes through a table from end to end."""
    asked: set[tuple[str, tuple[Any, ...]]] = set()

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[Any, ...], *_rest: object) -> None:
        if statement.startswith("SELECT"):
            asked.add((statement, parameters))

    stores = sql_stores(database)
    workspace = stores.make.workspace()
    event.listen(database.snapshots.sync_engine, "before_cursor_execute", note)
    for environments in ((), (Environment.TEST,)):
        async with stores.units.read(walls(workspace, *environments)) as unit:
            for wanted in questions():
                await unit.keys.page(wanted, PageRequest(10, ("key_x",)))
            await unit.owners.page(PageRequest(10, ("000000000000001", "x")))
            await unit.keys.by_prefix("acme_live_x")
            await unit.plans.get(workspace.id, "free")
            await unit.plans.get(workspace.id, new_id("pln", now_ms=1))
            await unit.plans.page(workspace.id, PageRequest(10, ("free",), ascending=True))
            tier = stores.make.plan(workspace)
            await unit.plans.uses(tier, now_ms=1)
            await unit.plans.reach(tier, now_ms=1, samples=20)
            by_default = plans._by_default(tier, 1).with_only_columns(func.count())
            await unit.plans._number(by_default)  # type: ignore[attr-defined] # of the SQL repository
    assert len(asked) > len(questions())
    for statement, parameters in asked:
        steps = await plan(database, statement, parameters)
        assert not [step for step in steps if reads_it_all(step)], (statement, steps)


async def test_the_log_is_read_by_an_index_and_in_its_order(database: Database) -> None:
    """Whatever is asked of the log, nothing is sorted but a merge of short lists, and no row before the page is read:
    the index that answers begins with the narrowest thing asked for, and is bounded by time from both sides.
    """
    position = ("1700000000000", "evt_x")
    for scope, ascending in ((OURS, True), (OUR_LIVE, False)):
        for wanted in audit_questions(1_700_000_000_000):
            request = PageRequest(10, position, ascending=ascending)
            statements = [
                event_queries.page_statement(scope, wanted, request),
                event_queries.since_statement(scope, wanted, 5, 10),
                event_queries.hashes_statement(scope.workspace_id, 5, 10),
            ]
            for statement in statements:
                if statement is None:
                    continue
                steps = await steps_of(database, statement)
                sorted_rows = [step for step in steps if "TEMP B-TREE" in step]
                assert not [step for step in steps if reads_it_all(step)], (wanted, steps)
                merges = statement is statements[0] and len(wanted.actions or ()) > 1
                assert merges or not sorted_rows, (wanted, steps)
            if statements[0] is not None:
                searched = [it for it in await steps_of(database, statements[0]) if it.startswith("SEARCH events")]
                assert searched
                assert all(index_for(wanted) in step and "occurred_at_ms" in step for step in searched), searched


async def steps_of(database: Database, statement: Any) -> list[str]:
    """Return the steps of a statement that is not written out yet."""
    compiled = statement.compile(dialect=database.writers.dialect, compile_kwargs={"render_postcompile": True})
    return await plan(database, str(compiled), tuple(compiled.params[name] for name in compiled.positiontup or ()))


def index_for(wanted: EventFilter) -> str:
    """Name the index that begins with the narrowest of what is asked for."""
    for given, name in (
        (wanted.request_id, "events_by_request"),
        (wanted.target or wanted.key_id, "events_by_target"),
        (wanted.owner_id, "events_by_owner"),
        (wanted.actor_id, "events_by_actor"),
        (wanted.actions, "events_by_action"),
    ):
        if given:
            return name
    return "events_by_time"


async def test_the_trap_works(database: Database) -> None:
    """A statement that no index serves is seen by the test above for what it is."""
    steps = await plan(database, "SELECT id FROM keys WHERE name = 'x'", ())
    assert [step for step in steps if reads_it_all(step)]
    async with database.statements.connect() as connection:
        assert (await connection.execute(text("PRAGMA query_only"))).scalar_one() == 1
