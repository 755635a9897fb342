"""What a store does when its database is away, frozen, cut off or full: it says so in time, and goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.migration import migrate
from keystead.events.model import Cursor
from keystead.kernel.errors import UnavailableError
from keystead.kernel.paging import PageRequest
from keystead.tenants.model import Workspace
from tests.contract.stores import ORIGIN, Stores, sql_stores
from tests.polling import eventually
from tests.services import PrivatePostgres

IMPATIENT = DatabaseSettings(
    pool_size=3,
    verification_pool_size=2,
    pool_timeout_ms=500,
    connect_timeout_ms=500,
    command_timeout_ms=500,
    idle_timeout_ms=700,
)
_numbers = itertools.count(1)
# A statement's own bound, the driver's grace on top of it, and the machine's.
LATEST_S = 4.0


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """Lend one PostgreSQL to the tests of this module, each of which brings it back."""
    lent = PrivatePostgres()
    yield lent
    lent.remove()


@pytest.fixture
def cut_url(server: PrivatePostgres) -> Iterator[str]:
    """Lend an empty database of the test's own."""
    name = f"cut_{next(_numbers)}"
    yield server.create_database(name)
    server.thaw()
    server.drop_database(name)


@pytest.fixture
async def cut(cut_url: str) -> AsyncIterator[Stores]:
    """Lend stores on a PostgreSQL that the test may stop and freeze."""
    await migrate(cut_url)
    database = Database.connect(cut_url, settings=IMPATIENT)
    yield sql_stores(database)
    await database.close()


_ENDS_ITS_SESSION_AT_THE_COMMIT = (
    """
    CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER end_session AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_session()
    """,
)


async def add_workspace(stores: Stores) -> Workspace:
    """Store one more workspace, with its event."""
    workspace = stores.make.workspace()
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.add(workspace)
        unit.record(stores.make.change(workspace.id))
    return workspace


async def every_way_in(stores: Stores) -> list[float]:
    """Ask in every way; demand ``UnavailableError`` each time; return how long each took, in seconds."""

    async def read() -> None:
        async with stores.units.read(None) as unit:
            await unit.workspaces.get("wsp_x")

    async def write() -> None:
        await add_workspace(stores)

    ways: list[Callable[[], Awaitable[object]]] = [
        lambda: stores.snapshots.by_prefix("acme_live_x"),
        lambda: stores.log.poll(Cursor(), limit=10),
        lambda: stores.log.place(limit=10),
        stores.log.head,
        lambda: stores.last_use.save({"sec_x": ("key_x", 1)}),
        stores.masters.registered,
        lambda: stores.reply_keeper.forget(before_ms=0, secrets_before_ms=0),
        write,
        read,
    ]
    took = []
    for way in ways:
        begun = time.monotonic()
        with pytest.raises(UnavailableError) as refusal:
            await way()
        took.append(time.monotonic() - begun)
        assert "127.0.0.1" not in refusal.value.public
        assert refusal.value.internal
    return took


async def until_it_works(stores: Stores) -> int:
    """Look up and write until both work; return how often they were refused."""
    refused = 0
    while True:
        try:
            await stores.snapshots.by_prefix("acme_live_x")
            await add_workspace(stores)
        except UnavailableError:
            refused += 1
            assert refused < 20
        else:
            return refused


async def test_a_stopped_database_is_reported_and_found_again(cut: Stores, server: PrivatePostgres) -> None:
    """While PostgreSQL is down every call is refused at once as UNAVAILABLE; once it is back, calls work (P12)."""
    await add_workspace(cut)
    server.stop()
    assert max(await every_way_in(cut)) < LATEST_S
    server.restart()
    assert await until_it_works(cut) <= 1
    async with cut.units.read(None) as unit:
        assert len((await unit.workspaces.page(PageRequest(10))).items) == 2


async def test_a_restart_between_two_calls_is_hardly_noticed(cut: Stores, server: PrivatePostgres) -> None:
    """After a restart, in good order or by a crash, at most one call fails, and nothing committed is lost."""
    stored = [await add_workspace(cut)]
    for end in (server.stop, server.kill):
        await asyncio.gather(*[cut.snapshots.by_key("key_x") for _ in range(4)])
        end()
        server.restart()
        assert await until_it_works(cut) <= 1
        stored.append(await add_workspace(cut))
    async with cut.units.read(None) as unit:
        assert [await unit.workspaces.get(workspace.id) for workspace in stored] == stored
    assert len((await cut.log.poll(Cursor(), limit=50)).unplaced) == 5


async def test_a_frozen_database_is_given_up_in_time(cut: Stores, server: PrivatePostgres) -> None:
    """A PostgreSQL that hangs keeps no call for longer than the bounds, and works again once it is thawed (P10)."""
    await add_workspace(cut)
    server.freeze()
    try:
        took = await every_way_in(cut)
    finally:
        server.thaw()
    assert max(took) < LATEST_S
    assert await until_it_works(cut) <= 6


async def test_a_lost_connection_inside_a_unit_undoes_the_unit(cut: Stores, server: PrivatePostgres) -> None:
    """A restart in the middle of a unit refuses it as UNAVAILABLE, and nothing of it is stored."""
    await add_workspace(cut)
    doomed = cut.make.workspace()

    async def lose_it() -> None:
        async with cut.units.begin(None, ORIGIN) as unit:
            await unit.workspaces.add(doomed)
            unit.record(cut.make.change(doomed.id))
            server.restart()
            await unit.workspaces.get(doomed.id)

    with pytest.raises(UnavailableError):
        await lose_it()
    await until_it_works(cut)
    async with cut.units.read(None) as unit:
        assert await unit.workspaces.get(doomed.id) is None


async def test_a_commit_that_nobody_heard_of_is_told_to_the_caches(cut: Stores) -> None:
    """When the connection is lost in the commit, nobody knows the outcome: caches are told, the caller is refused."""
    database = cut.database
    assert database is not None
    async with database.writers.begin() as connection:
        for statement in _ENDS_ITS_SESSION_AT_THE_COMMIT:
            await connection.execute(text(statement))
    change = cut.make.change("wsp_1")
    with pytest.raises(UnavailableError):
        await cut.happened(change)
    assert cut.committed == [change]


async def test_a_deadline_gives_the_connection_back(cut: Stores) -> None:
    """Calls that are cancelled while the database works leave every connection of the pool usable."""
    database = cut.database
    assert database is not None
    for _ in range(2 * IMPATIENT.pool_size):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await database.fetch("SELECT pg_sleep(?)", 0.4)
    assert await until_it_works(cut) == 0


async def test_a_slow_statement_is_ended_by_the_server(cut: Stores) -> None:
    """A statement that takes longer than the bound is refused, and the server does not go on with it."""
    database = cut.database
    assert database is not None
    with pytest.raises(UnavailableError):
        await database.fetch("SELECT pg_sleep(?)", 20.0)

    async def ended() -> bool:
        rows = await database.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
        )
        return bool(rows[0][0] == 0)

    await eventually(ended, within_s=5.0)


async def test_a_look_up_whose_connection_is_ended_is_tried_once_more(cut: Stores) -> None:
    """A look-up that loses its connection is asked again on a new one, and refused only when that is lost as well."""
    database = cut.database
    assert database is not None
    await database.fetch("CREATE SEQUENCE tries")
    with pytest.raises(UnavailableError):
        await database.fetch("SELECT nextval('tries'), pg_terminate_backend(pg_backend_pid())")
    assert (await database.fetch("SELECT last_value FROM tries"))[0][0] == 2


async def test_a_full_pool_refuses_in_time(cut: Stores) -> None:
    """When every connection is taken, the next call waits no longer than the pool's bound; verification has its own."""
    await add_workspace(cut)
    inside, leave = asyncio.Barrier(IMPATIENT.pool_size + 1), asyncio.Event()

    async def hold() -> None:
        async with cut.units.begin(None, ORIGIN) as unit:
            await unit.workspaces.add(cut.make.workspace())
            await inside.wait()
            await leave.wait()

    holders = [asyncio.create_task(hold()) for _ in range(IMPATIENT.pool_size)]
    await inside.wait()
    with pytest.raises(UnavailableError):
        await add_workspace(cut)
    assert await cut.snapshots.by_prefix("acme_live_x") is None
    leave.set()
    await asyncio.gather(*holders, return_exceptions=True)


async def test_a_frozen_sequencer_is_succeeded(cut: Stores) -> None:
    """A sequencer that freezes with its work half done keeps the others out only for a while, and has done nothing."""
    database = cut.database
    assert database is not None
    for _ in range(4):
        await add_workspace(cut)
    frozen = await database.sequencers.connect()
    await frozen.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": int.from_bytes(b"keystead")})
    await frozen.execute(text("UPDATE events SET seq = 1, leaf_index = 0 WHERE id = (SELECT min(id) FROM events)"))
    log = SqlEventLog(database)
    assert await log.place(limit=10) == 0
    begun = time.monotonic()
    while await log.place(limit=10) == 0:
        assert time.monotonic() - begun < 10 * IMPATIENT.idle_timeout_ms / 1_000
        await asyncio.sleep(0.02)
    with pytest.raises(Exception, match=r"closed|terminat"):
        await frozen.commit()
    await frozen.close()
    page = await log.poll(Cursor(), limit=10)
    assert [event.seq for event in page.placed] == [1, 2, 3, 4]


async def test_two_units_that_would_wait_in_a_circle_are_told_to_try_again(cut: Stores) -> None:
    """Of two units in a deadlock one goes on, and the other is refused with a short delay, not as a defect of ours."""
    database = cut.database
    assert database is not None
    workspaces = [await add_workspace(cut), await add_workspace(cut)]
    both = asyncio.Barrier(2)

    async def lock_in(order: list[Workspace]) -> None:
        async with cut.units.begin(None, ORIGIN) as unit:
            await unit.workspaces.get(order[0].id, lock=True)
            await both.wait()
            await unit.workspaces.get(order[1].id, lock=True)

    async with database.writers.connect() as connection:
        name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        await connection.execute(text(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'"))
        await connection.commit()
    await database.close()
    outcomes = await asyncio.gather(lock_in(workspaces), lock_in(workspaces[::-1]), return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], UnavailableError)
    assert (refused[0].retry_after_ms or 0) <= 100


@pytest.mark.parametrize(
    "url",
    ("postgresql://keystead:s3cret-w0rd@127.0.0.1:1/none", "postgresql://keystead:s3cret-w0rd@nowhere.invalid/none"),
)
async def test_an_unreachable_database_gives_no_password_away(url: str) -> None:
    """Neither text of the error holds the password, nor does the error that caused it."""
    database = Database.connect(url, settings=IMPATIENT)
    with pytest.raises(UnavailableError) as refusal:
        await database.ping()
    causes: list[BaseException | None] = [refusal.value, refusal.value.__cause__]
    assert not any("s3cret" in f"{cause!r} {cause}" for cause in causes)
    assert "s3cret" not in refusal.value.internal
    await database.close()


async def test_a_locked_file_is_reported_in_time(tmp_path: Path) -> None:
    """Another process that holds SQLite's write lock delays a change up to the bound; reading goes on meanwhile."""
    url = f"sqlite:///{tmp_path / 'k.db'}"
    await migrate(url)
    ours, theirs = Database.connect(url, settings=IMPATIENT), Database.connect(url)
    stores, other = sql_stores(ours), sql_stores(theirs)
    async with other.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.add(other.make.workspace())
        begun = time.monotonic()
        with pytest.raises(UnavailableError):
            await add_workspace(stores)
        assert time.monotonic() - begun < LATEST_S
        assert await stores.snapshots.by_prefix("acme_live_x") is None
    await add_workspace(stores)
    await ours.close()
    await theirs.close()


async def test_a_full_disk_refuses_changes_and_loses_none(tmp_path: Path) -> None:
    """When SQLite can write no more, changes are refused as UNAVAILABLE, reading goes on, and space heals it (P12)."""
    url = f"sqlite:///{tmp_path / 'k.db'}"
    await migrate(url)
    database = Database.connect(url)
    stores = sql_stores(database)
    stored = await add_workspace(stores)
    async with database.writers.connect() as connection:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        await connection.commit()
    with pytest.raises(UnavailableError):
        await stores.add(*[stores.make.workspace() for _ in range(1_000)])
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(stored.id) == stored
    async with database.writers.connect() as connection:
        await connection.execute(text("PRAGMA max_page_count = 1000000"))
        await connection.commit()
    await add_workspace(stores)
    await database.close()


async def test_a_missing_file_is_not_made_by_looking(tmp_path: Path) -> None:
    """A SQLite file that is not there is reported, not made: only migrating makes one."""
    path = tmp_path / "none.db"
    database = Database.connect(f"sqlite:///{path}")
    with pytest.raises(UnavailableError):
        await database.ping()
    assert not path.exists()
    await database.close()
