"""The domains on their adapters, without any transport."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from opentelemetry.trace import Tracer

from keystead.adapters.bcrypt.hashing import BcryptHasher, LaneSize
from keystead.adapters.cryptography.keyring import MasterKeyring, decode_master_key
from keystead.adapters.cryptography.signing import SigningKeyVault
from keystead.adapters.files import data_directory
from keystead.adapters.opentelemetry.ports import TracedHasher, TracedSnapshots
from keystead.adapters.sql.checkpoints import SqlAuditKeys, SqlCheckpoints
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.event_queries import SqlAuditReader
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.last_use import SqlLastUse
from keystead.adapters.sql.masters import SqlMasters
from keystead.adapters.sql.migration import check_schema
from keystead.adapters.sql.refusals import SqlRefusals
from keystead.adapters.sql.snapshots import SqlSnapshots
from keystead.adapters.sql.units import SqlUnits
from keystead.bootstrap.counting import Counting, NotCounting
from keystead.bootstrap.limiting import Limiting
from keystead.bootstrap.sinking import Sinking
from keystead.bootstrap.usage_store import UsageStores, usage_stores
from keystead.bootstrap.waking import Waking
from keystead.config import ConfigError, Settings
from keystead.events.checkpointing import Checkpointer
from keystead.events.signing_key import CheckpointKey
from keystead.idempotency.service import ReplyMemory
from keystead.kernel.change import Change
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource, SequentialIds
from keystead.kernel.paging import PageTokens
from keystead.keys.identification import Identifier
from keystead.keys.installation import Installation
from keystead.keys.masters import demand_masters
from keystead.keys.minting import Minter
from keystead.keys.ports import Lane, SecretHasher
from keystead.keys.service import KeyService
from keystead.keys.tenancy import TenancyService
from keystead.keys.tiers import TierService
from keystead.keys.unused import UnusedGrants
from keystead.limits.service import PlanService
from keystead.tenants.service import OwnerService, WorkspaceService
from keystead.transport.dispatch import CallDispatcher, free_handlers, stream_handlers, unit_handlers
from keystead.transport.services.audit_proofs import AuditProofHandlers
from keystead.transport.services.entitlements import EntitlementHandlers
from keystead.transport.services.erasure import ErasureHandlers
from keystead.transport.services.events import EventHandlers, EventTailHandlers
from keystead.transport.services.exports import ExportHandlers
from keystead.transport.services.grants import GrantHandlers
from keystead.transport.services.keys import KeyHandlers
from keystead.transport.services.limiter import CheckHandlers, LimitHandlers
from keystead.transport.services.nodes import NodeHandlers
from keystead.transport.services.outcome_streams import OutcomeStreamHandlers
from keystead.transport.services.outcomes import OutcomeHandlers
from keystead.transport.services.owners import OwnerHandlers
from keystead.transport.services.plans import EntitlingHandlers, PlanHandlers
from keystead.transport.services.simulation import SimulationHandlers
from keystead.transport.services.sinks import SinkHandlers, SinkTrialHandlers
from keystead.transport.services.tailing import TailingHandlers
from keystead.transport.services.usage import UsageHandlers
from keystead.transport.services.verification import VerificationHandlers
from keystead.transport.services.workspaces import WorkspaceHandlers
from keystead.transport.streaming import OpenStreams
from keystead.usage.retention import Retention
from keystead.verification.authentication import Authenticator
from keystead.verification.failures import RefusedCalls
from keystead.verification.freshness import Lease, Touches
from keystead.verification.gauges import LimitGauges
from keystead.verification.last_use import LastUses
from keystead.verification.ports import SnapshotStore
from keystead.verification.resolver import Limits, SecretResolver
from keystead.verification.service import VerificationService

_MINT_LANE = LaneSize(threads=1, waiting=200)
_IMPORT_LANE = LaneSize(threads=1, waiting=20)


class Core:
    """Everything that serves a call, and the stores beneath it."""

    def __init__(
        self,
        settings: Settings,
        keyring: MasterKeyring,
        database: Database,
        *,
        stores: UsageStores | None = None,
        counting: Counting | None = None,
        verification_ids: SequentialIds | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Wire; nothing is connected to yet. Without ``counting`` no verdict is given, since none is counted."""
        self.clock = SystemClock()
        self.counting = counting
        self.ids = IdSource(self.clock)
        self.keyring = keyring
        self.database = database
        self.touches = Touches()
        self.lease = Lease(settings.staleness_bound_ms)
        self.uses = LastUses()
        self.hasher = BcryptHasher(cost=settings.bcrypt_cost, lanes=_lanes(settings))
        self.units = SqlUnits(database, clock=self.clock, ids=self.ids, on_commit=self._touch)
        self.waking = Waking(settings, database, ids=self.ids, clock=self.clock)
        self.log = SqlEventLog(database)
        self.audit = SqlAuditReader(database)
        self.last_uses = SqlLastUse(database)
        self.masters = SqlMasters(database, clock=self.clock)
        self.retention = retention_of(settings)
        self._wire_tenants()
        self._wire_audit(settings)
        self.sinking = Sinking(settings, database, keyring, ids=self.ids, clock=self.clock)
        self._wire_usage(stores or UsageStores.of_database(database))
        self._wire_limits(settings)
        self._wire_verification(settings, verification_ids or SequentialIds("ver"), tracer)

    def _wire_tenants(self) -> None:
        """Wire what is done with workspaces, owners, plans and keys."""
        self.owners = OwnerService(self.clock)
        self.workspaces = WorkspaceService(self.clock)
        self.plans = PlanService(ids=self.ids, clock=self.clock)
        minter = Minter(keyring=self.keyring, hasher=self.hasher, ids=self.ids, clock=self.clock)
        self.keys = KeyService(minter=minter, owners=self.owners, ids=self.ids, clock=self.clock)
        self.tenancy = TenancyService(
            minter=minter,
            keys=self.keys,
            owners=self.owners,
            workspaces=self.workspaces,
            plans=self.plans,
            ids=self.ids,
            clock=self.clock,
        )
        self.tiers = TierService(plans=self.plans, owners=self.owners, workspaces=self.workspaces)
        self.installation = Installation(tenancy=self.tenancy, keys=self.keys, clock=self.clock)

    def _wire_audit(self, settings: Settings) -> None:
        """Wire what proves the event log, and what waits to be told there."""
        threshold = settings.failed_attempts_alert
        self.refusals = SqlRefusals(self.database, clock=self.clock, ids=self.ids, threshold=threshold)
        self.refused_calls = RefusedCalls(self.counting.refusals if self.counting else NotCounting(), self.clock)
        self.checkpoints = SqlCheckpoints(self.database)
        self.checkpoint_key = CheckpointKey(SqlAuditKeys(self.database, self.clock), SigningKeyVault(self.keyring))
        self.checkpointer = Checkpointer(
            log=self.log, leaves=self.audit, store=self.checkpoints, key=self.checkpoint_key, clock=self.clock
        )

    def _wire_usage(self, stores: UsageStores) -> None:
        self.usage = stores.usage
        self.outcomes = stores.outcomes
        self.attempt_store = stores.attempts
        self.ledger = stores.ledger

    def _wire_limits(self, settings: Settings) -> None:
        self.limiting = Limiting(settings, self.units, self.clock)
        self.gauges = LimitGauges(
            SqlSnapshots(self.database, clock=self.clock),
            self.limiting.limiter,
            self.limiting.rates,
            self.clock,
            checks=self.limiting.checks,
            changed=self.limiting.blocks.ask_again,
        )

    def _wire_verification(self, settings: Settings, ids: SequentialIds, tracer: Tracer | None) -> None:
        """Wire the way of a verification; without a journal it refuses every one."""
        store, prover = _cold_way(SqlSnapshots(self.database, clock=self.clock), self.hasher, tracer)
        self.resolver = SecretResolver(
            store=store,
            keyring=self.keyring,
            hasher=prover,
            touches=self.touches,
            lease=self.lease,
            clock=self.clock,
            limits=Limits(settings.cached_secrets, settings.serve_stale),
        )
        nowhere, counting = NotCounting(), self.counting
        self.verification = VerificationService(
            self.resolver,
            self.uses,
            counting.journal if counting else nowhere,
            self.clock,
            ids=ids,
            attempts=counting.attempts if counting else nowhere,
            refusals=counting.refusals if counting else nowhere,
            limiter=self.limiting.limiter,
        )

    def dispatcher(self) -> CallDispatcher:
        """Serve the contract's methods with the domains."""
        page_tokens = PageTokens(self.keyring.page_token_secret)
        identifier = Identifier(keyring=self.keyring, hasher=self.hasher)
        verification = VerificationHandlers(self.verification)
        return CallDispatcher(
            authenticator=Authenticator(self.resolver, self.uses, self.clock),
            refusals=self.refused_calls,
            units=self.units,
            propagated=self.waking.propagation.wait,
            memory=ReplyMemory(self.keyring, self.clock),
            verification=verification,
            stream_handlers=stream_handlers(
                TailingHandlers(self.usage, self.clock),
                OutcomeStreamHandlers(self.outcomes, self.clock),
                EventTailHandlers(self.audit),
                ExportHandlers(self.audit, self.checkpointer),
            ),
            streams=OpenStreams(),
            free_handlers=free_handlers(
                verification,
                OutcomeHandlers(self.outcomes, self.clock),
                UsageHandlers(self.usage, page_tokens, self.retention, self.clock),
                EntitlementHandlers(self.ledger, self.clock),
                CheckHandlers(self.gauges),
                AuditProofHandlers(self.checkpointer, self.audit, self.checkpoint_key),
                SimulationHandlers(self.usage, self.units, self.clock),
                EventHandlers(self.audit, page_tokens),
                NodeHandlers(self.waking.nodes),
                SinkTrialHandlers(self.sinking.service, self.units, self.sinking.destinations, self.ids, self.clock),
            ),
            handlers=unit_handlers(
                KeyHandlers(self.keys, identifier, self.usage, page_tokens, self.clock),
                GrantHandlers(UnusedGrants(self.usage, self.clock), page_tokens),
                OwnerHandlers(self.owners, self.tiers, self.tenancy, page_tokens),
                WorkspaceHandlers(self.workspaces, self.tiers, self.tenancy, page_tokens, self.clock),
                PlanHandlers(self.plans, self.tiers, page_tokens),
                EntitlingHandlers(self.tiers),
                LimitHandlers(self.gauges),
                ErasureHandlers(),
                SinkHandlers(self.sinking.service, page_tokens),
            ),
        )

    async def demand_masters(self) -> set[str]:
        """Refuse to go on with the wrong master keys; return the ids of those that are still referred to."""
        registered = await self.masters.registered()
        in_use = await self.masters.in_use()
        demand_masters(configured=self.keyring.checks, registered=registered, in_use=in_use)
        return in_use

    async def register_masters(self) -> None:
        """Make the database know every master key that is configured."""
        registered = await self.masters.registered()
        for master_id, check in self.keyring.checks.items():
            if master_id not in registered:
                await self.masters.register(master_id, check)

    def _touch(self, changes: Sequence[Change]) -> None:
        """Make what a committed unit changed old in this process at once, and soon in the others (P3)."""
        for change in changes:
            self.touches.touch(change.touches)
        self.waking.committed()


@asynccontextmanager
async def core(
    settings: Settings, *, create: bool = False, serving: bool = False, tracer: Tracer | None = None
) -> AsyncIterator[Core]:
    """Open the stores; ``serving`` begins a journal in the data directory, for a process that gives verdicts.

    ``create`` makes a master key when none is configured and the database knows none.
    """
    await check_schema(settings.database_url)
    async with AsyncExitStack() as stack:
        database = Database.connect(settings.database_url, settings=database_settings(settings))
        stack.push_async_callback(database.close)
        counted = usage_stores(settings, database, retention_of(settings))
        stores = await stack.enter_async_context(counted) if serving else None
        known = await SqlMasters(database, clock=SystemClock()).registered()
        keyring = open_keyring(settings, create=create and not known)
        verification_ids = SequentialIds("ver")
        counting = Counting.begun(settings, verification_ids.process) if serving else None
        if counting is not None:
            stack.callback(counting.let_go)
        made = Core(
            settings,
            keyring,
            database,
            stores=stores,
            counting=counting,
            verification_ids=verification_ids,
            tracer=tracer,
        )
        stack.callback(made.hasher.close)
        await made.demand_masters()
        await made.register_masters()
        if serving:
            await made.checkpoint_key.signer()  # so that it is soon sealed under the newest master key
            await stack.enter_async_context(made.limiting.running())
        yield made


def _cold_way(store: SnapshotStore, hasher: SecretHasher, tracer: Tracer | None) -> tuple[SnapshotStore, SecretHasher]:
    """Return what finds and proves a secret, in spans when there is a tracer."""
    if tracer is None:
        return store, hasher
    return TracedSnapshots(store, tracer), TracedHasher(hasher, tracer)


def open_keyring(settings: Settings, *, create: bool) -> MasterKeyring:
    """Read the master keys from the settings, else the data directory; raise ``ConfigError`` when there is none."""
    texts = [text for text in re.split(r"[\s,]+", settings.master_keys.get_secret_value()) if text]
    try:
        secrets = [decode_master_key(text) for text in texts]
        if not secrets and (kept := data_directory.master_key(settings.data_dir, create=create)) is not None:
            secrets = [kept]
        distrusted = frozenset(re.findall(r"[^\s,]+", settings.distrusted_masters))
        keyring = MasterKeyring(secrets, distrusted=distrusted)
    except ValueError as error:
        raise ConfigError([f"master_keys (KEYSTEAD_MASTER_KEYS): {error}"]) from None
    if unknown := ", ".join(sorted(distrusted - keyring.checks.keys())):
        raise ConfigError([f"distrusted_masters (KEYSTEAD_DISTRUSTED_MASTERS): no configured master key is {unknown}"])
    return keyring


def retention_of(settings: Settings) -> Retention:
    """Say how long usage is kept."""
    return Retention(
        calls_days=settings.raw_calls_days,
        minutes_days=settings.minutes_days,
        hours_days=settings.hours_days,
        told_days=settings.entitlements_days,
    )


def database_settings(settings: Settings) -> DatabaseSettings:
    """Bound the ways to the database."""
    return DatabaseSettings(
        pool_size=settings.database_connections,
        pool_timeout_ms=settings.database_timeout_ms,
        connect_timeout_ms=settings.database_timeout_ms,
        command_timeout_ms=settings.database_timeout_ms,
    )


def _lanes(settings: Settings) -> dict[Lane, LaneSize]:
    return {
        Lane.VERIFY: LaneSize(min(settings.verify_threads, os.cpu_count() or 1), settings.verify_waiting),
        Lane.MINT: _MINT_LANE,
        Lane.IMPORT: _IMPORT_LANE,
    }
