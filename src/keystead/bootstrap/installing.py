"""What the command line does to an installation by itself: migrate it, and make what stands at its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext

from keystead.adapters.files import data_directory
from keystead.adapters.sql import migration
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.retention import SqlUsageShelf
from keystead.bootstrap.core import core, database_settings, retention_of
from keystead.bootstrap.usage_store import migrate_usage_store
from keystead.config import Settings
from keystead.kernel.clock import SystemClock
from keystead.kernel.paging import PageRequest
from keystead.kernel.secret import Secret
from keystead.keys.installation import SYSTEM_ORIGIN, FirstRun
from keystead.tenants.model import BOTH_ENVIRONMENTS, SYSTEM_WORKSPACE_ID, TenantScope
from keystead.worker.retention import UsageKeeper


def migrate(settings: Settings, *, alone: bool = False) -> tuple[str | None, str]:
    """Bring the database's schema to this version's; return the revisions before and after. Runs a loop of its own.

    With ``alone`` it is refused, rather than waited, while another process serves from the data directory.
    """
    data_directory.prepare(settings.data_dir)
    with data_directory.locked(settings.data_dir) if alone else nullcontext():
        return asyncio.run(_migrate(settings))


async def _migrate(settings: Settings) -> tuple[str | None, str]:
    before = await migration.current_revision(settings.database_url)
    after = await migration.migrate(settings.database_url)
    await _make_room(settings)
    await migrate_usage_store(settings, retention_of(settings))
    return before, after


async def _make_room(settings: Settings) -> None:
    """Make the partitions of the first days, so that the first server finds them; each server makes the next ones."""
    database = Database.connect(settings.database_url, settings=database_settings(settings))
    try:
        await UsageKeeper(SqlUsageShelf(database), retention_of(settings), SystemClock()).begin()
    finally:
        await database.close()


async def first_run(settings: Settings, *, keep: Callable[[FirstRun], None]) -> FirstRun | None:
    """Make a workspace with a management key and a sample key; return None when there is a workspace already.

    ``keep`` is called before the commit: what it stores may turn out to be of no use, but no key is ever made that was
    not kept. When it raises, nothing was made.
    """
    async with core(settings, create=True) as made:
        async with made.units.read(None) as unit:
            page = await unit.workspaces.page(PageRequest(size=2))
        if any(workspace.id != SYSTEM_WORKSPACE_ID for workspace in page.items):
            return None
        workspace_id = made.ids.new("wsp")
        async with made.units.begin(TenantScope(workspace_id, BOTH_ENVIRONMENTS), SYSTEM_ORIGIN) as unit:
            result = await made.installation.first_run(unit, workspace_id)
            keep(result)
        return result


async def mint_operator(settings: Settings, *, name: str, replace: bool = False) -> tuple[str, Secret]:
    """Make an operator key, in place of all there were with ``replace``; return its id and its secret, shown once."""
    async with core(settings, create=True) as made:
        async with made.units.begin(None, SYSTEM_ORIGIN) as unit:
            key, secret = await made.installation.mint_operator(unit, name=name, replace=replace)
        return key.id, secret


async def create_workspace(settings: Settings, *, brand: str, name: str) -> tuple[str, str, Secret]:
    """Make a workspace; return its id, and its first management key's id and secret."""
    async with core(settings, create=True) as made:
        async with made.units.begin(None, SYSTEM_ORIGIN) as unit:
            workspace, key, secret = await made.tenancy.create_workspace(
                unit, brand=brand, name=name, created_by=SYSTEM_ORIGIN.actor.id
            )
        return workspace.id, key.id, secret
