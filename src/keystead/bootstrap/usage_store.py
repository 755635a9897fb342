"""Where usage is counted: in the database, or in ClickHouse when the settings name one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keystead.adapters.sql.attempts import SqlAttempts
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.journals import LateUsage
from keystead.adapters.sql.ledger import SqlLedger
from keystead.adapters.sql.ledger_apart import SqlLedgerApart
from keystead.adapters.sql.outcomes import SqlOutcomes
from keystead.adapters.sql.usage import SqlUsage
from keystead.config import Settings
from keystead.kernel.clock import SystemClock
from keystead.kernel.errors import StartError
from keystead.usage.feed_ports import Ledger
from keystead.usage.ports import AttemptStore, JournalRegister, OutcomeStore, UsageStore
from keystead.usage.retention import Retention

if TYPE_CHECKING:
    from keystead.adapters.clickhouse.connection import ClickHouse


class MissingExtraError(StartError):
    """Raised when a setting asks for what is not installed."""

    code = "extra_not_installed"

    def __init__(self) -> None:
        """Say how it is installed."""
        super().__init__(
            public="usage_store (KEYSTEAD_USAGE_STORE) needs ClickHouse's client: pip install 'keystead[clickhouse]'."
        )


@dataclass(frozen=True, slots=True)
class UsageStores:
    """Everything that is about usage, on the store that counts."""

    usage: UsageStore
    outcomes: OutcomeStore
    attempts: AttemptStore
    ledger: Ledger

    @classmethod
    def of_database(cls, database: Database) -> UsageStores:
        """Count in the database."""
        return cls(SqlUsage(database), SqlOutcomes(database), SqlAttempts(database), SqlLedger(database))


@asynccontextmanager
async def usage_stores(settings: Settings, database: Database, retention: Retention) -> AsyncIterator[UsageStores]:
    """Open the stores that count; raise ``StartError`` when one cannot be used or is not migrated.

    Past the database, ClickHouse counts, and the database keeps what needs transactions: the ledger, and outcomes until
    they are joined.
    """
    async with _clickhouse(settings) as clickhouse:
        if clickhouse is None:
            yield UsageStores.of_database(database)
            return
        from keystead.adapters.clickhouse import attempts, metering, outcomes, usage  # noqa: PLC0415 -- an extra, and large

        clock, lease_ms = SystemClock(), 0 if clickhouse.target.embedded else outcomes.LEASE_MS
        kept = metering.ClickHouseMetering(clickhouse, lambda: retention.kept(clock.now_ms()).hours_since_ms)
        yield UsageStores(
            usage.ClickHouseUsage(clickhouse, late=LateUsage(database)),
            outcomes.ClickHouseOutcomes(clickhouse, database, lease_ms=lease_ms),
            attempts.ClickHouseAttempts(clickhouse),
            SqlLedgerApart(database, kept),
        )


class ElsewhereStore(UsageStore, JournalRegister, Protocol):
    """A store of usage that is not the database, and keeps the journals' rows itself."""


@asynccontextmanager
async def store_elsewhere(settings: Settings) -> AsyncIterator[ElsewhereStore | None]:
    """Open the store that counts in the database's place; None when the database does."""
    async with _clickhouse(settings) as clickhouse:
        if clickhouse is None:
            yield None
            return
        from keystead.adapters.clickhouse import usage  # noqa: PLC0415 -- an extra, and large

        yield usage.ClickHouseUsage(clickhouse)


@asynccontextmanager
async def _clickhouse(settings: Settings) -> AsyncIterator[ClickHouse | None]:
    if not settings.usage_store:
        yield None
        return
    try:
        from keystead.adapters.clickhouse import connection, schema  # noqa: PLC0415 -- an extra, and large
    except ImportError:
        raise MissingExtraError from None
    target = connection.Target.parse(settings.usage_store, settings.data_dir)
    clickhouse = connection.ClickHouse(target)
    try:
        await clickhouse.writer.run(lambda lane: schema.check(lane, target))
        yield clickhouse
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
