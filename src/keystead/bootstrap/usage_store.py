"""Where usage is counted: in the database, or in ClickHouse when the settings name one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.config import Settings
from keystead.kernel.errors import StartError
from keystead.usage.ports import UsageStore
from keystead.usage.retention import Retention


class MissingExtraError(StartError):
    """Raised when a setting asks for what is not installed."""

    code = "extra_not_installed"

    def __init__(self) -> None:
        """Say how it is installed."""
        super().__init__(
            public="usage_store (KEYSTEAD_USAGE_STORE) needs ClickHouse's client: pip install 'keystead[clickhouse]'."
        )


@asynccontextmanager
async def usage_store(settings: Settings, database: Database) -> AsyncIterator[UsageStore]:
    """Open the store that counts; raise ``StartError`` when it cannot be used or is not migrated."""
    if not settings.usage_store:
        yield SqlUsage(database)
        return
    try:
        from keystead.adapters.clickhouse import connection, schema, usage  # noqa: PLC0415 -- an extra, and large
    except ImportError:
        raise MissingExtraError from None
    target = connection.Target.parse(settings.usage_store, settings.data_dir)
    clickhouse = connection.ClickHouse(target)
    try:
        await clickhouse.writer.run(lambda lane: schema.check(lane, target))
        yield usage.ClickHouseUsage(clickhouse)
    finally:
        await clickhouse.close()


async def migrate_usage_store(settings: Settings, retention: Retention) -> None:
    """Bring ClickHouse's tables to this version, and to how long usage is kept; without ClickHouse do nothing."""
    if not settings.usage_store:
        return
    try:
        from keystead.adapters.clickhouse import connection, schema  # noqa: PLC0415 -- an extra, and large
    except ImportError:
        raise MissingExtraError from None
    target = connection.Target.parse(settings.usage_store, settings.data_dir)
    clickhouse = connection.ClickHouse(target)
    try:
        await clickhouse.writer.run(lambda lane: schema.make(lane, target, retention))
    finally:
        await clickhouse.close()
