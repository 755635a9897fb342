"""What a database that was there before plans has after the migration that brings them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import Connection, text

from keystead.adapters.sql import migration
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE, kind_of
from keystead.kernel.limit import Limit, On, SlidingWindow
from keystead.kernel.paging import PageRequest
from keystead.limits.model import PlanUses
from keystead.tenants.model import SYSTEM_WORKSPACE_ID
from tests.contract.stores import sql_stores
from tests.contract.test_schema import asked, empty_url

__all__ = ["empty_url"]

BEFORE = (
    "INSERT INTO workspaces VALUES ('{id}', '{brand}', 'Acme', 1, 1, 3)",
    "INSERT INTO owners VALUES ('{id}', 'cust-1', 'Ada', '{{}}', {no}, 'ada', 1, 1, 1)",
    (
        "INSERT INTO keys VALUES ('key_{brand}', '{id}', 'live', 'customer', 'cust-1', 'K', '', 'active', '', '[]',"
        " '{{}}', '[]', '[]', 'k', 1, 'c', 1, NULL, NULL, NULL, 1)"
    ),
    "INSERT INTO secrets VALUES ('sec_{brand}', 'key_{brand}', '{brand}_live_x', 'h', 'm', 1, NULL, NULL)",
)


def before_plans(connection: Connection) -> None:
    """Bring a database to the revision before plans, and fill it as that version did."""
    config = migration._config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0005")
    no = "0" if connection.dialect.name == "sqlite" else "FALSE"
    for number, workspace_id in enumerate(("wsp_1", "wsp_2", SYSTEM_WORKSPACE_ID)):
        for statement in BEFORE:
            connection.execute(text(statement.format(id=workspace_id, brand=f"b{number}", no=no).replace(":", "\\:")))


async def test_every_workspace_gets_its_plans(empty_url: str) -> None:
    """``free`` as the default and ``enterprise``, each its own; keys and owners refer to none; the system has none."""
    if kind_of(empty_url) == SQLITE:
        migration._make_file(Path(empty_url.removeprefix("sqlite:///")))
    await asked(empty_url, before_plans)
    assert await migration.migrate(empty_url) == migration.head_revision()
    database = Database.connect(empty_url)
    stores = sql_stores(database)
    ids: set[str] = set()
    async with stores.units.read(None) as unit:
        for number, workspace_id in enumerate(("wsp_1", "wsp_2")):
            page = await unit.plans.page(workspace_id, PageRequest(10, ascending=True))
            enterprise, free = page.items
            assert (enterprise.name, enterprise.limits) == ("enterprise", ())
            assert (free.name, free.limits) == ("free", (Limit("requests", On.KEY, SlidingWindow(100, 60_000)),))
            workspace: Any = await unit.workspaces.get(workspace_id)
            assert (workspace.default_plan_id, workspace.version) == (free.id, 3)
            key: Any = await unit.keys.get(f"key_b{number}")
            assert (key.plan_id, key.limits) == ("", ())
            snapshot: Any = await stores.snapshots.by_key(key.id)
            assert (snapshot.plan_id, snapshot.plan_limits, snapshot.owner_limits) == (free.id, free.limits, ())
            assert await unit.plans.uses(free, now_ms=0) == PlanUses(is_default=True)
            ids |= {free.id, enterprise.id}
        assert len(ids) == 4
        assert (await unit.plans.page(SYSTEM_WORKSPACE_ID, PageRequest(10, ascending=True))).items == []
        system: Any = await unit.workspaces.get(SYSTEM_WORKSPACE_ID)
        assert system.default_plan_id == ""
    await database.close()
