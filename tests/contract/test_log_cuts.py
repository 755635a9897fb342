"""Retention over real stores: what is old goes at a checkpoint, and everything stays provable (P6)."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest
from sqlalchemy import delete

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.signing import Ed25519Verifier, SigningKeyVault
from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.log_shelf import SqlLogShelf
from keystead.adapters.sql.session import transaction
from keystead.events.checkpointing import Checkpointer
from keystead.events.checkpoints import KeptCheckpoint, open_checkpoint, verifier_key
from keystead.events.errors import LogRewrittenError
from keystead.events.export import JsonLines
from keystead.events.merkle import Tree, consistent
from keystead.events.model import EventFilter, Retained
from keystead.events.proving import Prover
from keystead.events.retention import CHECKPOINTS_WHOLE_MS, DAY_MS, LogCutter
from keystead.events.signing_key import CheckpointKey
from keystead.events.verification import verify_export
from keystead.gen.v1 import audit_pb2
from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.paging import PageRequest
from keystead.keys.model import KeyKind
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from keystead.transport.services.exports import ExportHandlers
from tests.contract.stores import ORIGIN, Stores, sql_stores

WORKSPACE = "wsp_1"
WALLS = TenantScope(WORKSPACE, BOTH_ENVIRONMENTS)
DAYS = 30


class Shop:
    """A workspace's log and what keeps it."""

    def __init__(self, database: Database) -> None:
        """Begin with an empty log."""
        self.stores: Stores = sql_stores(database)
        self.carried_to: int | None = None
        self.shelf = SqlLogShelf(database, self._carried_to)
        self.key = CheckpointKey(self.stores.audit_keys, SigningKeyVault(MasterKeyring([b"m" * 32])))
        self.checkpointer = Checkpointer(
            log=self.stores.log,
            leaves=self.stores.audit,
            store=self.stores.checkpoints,
            key=self.key,
            clock=self.stores.clock,
        )
        self.cutter = LogCutter(self.shelf, self.stores.units, self.stores.clock)

    async def _carried_to(self, workspace_id: str) -> int | None:
        """Say how far sinks have come."""
        assert workspace_id == WORKSPACE
        return self.carried_to

    async def day(self, events: int) -> KeptCheckpoint:
        """Let so much happen in a day, and sign it."""
        await self.stores.happened(*[self.stores.make.change(WORKSPACE) for _ in range(events)])
        made = await self.sign()
        self.stores.clock.advance(DAY_MS)
        return made

    async def sign(self) -> KeptCheckpoint:
        """Place what happened, and make a checkpoint."""
        while await self.stores.log.place(limit=1_000):
            continue
        return await self.checkpointer.make(WORKSPACE)

    async def keep(self, days: int = DAYS) -> int:
        """Do all that retention does, and return how many events were swept."""
        return sum([swept async for swept in self.cutter.see_to(Retained(WORKSPACE, days))])

    async def hashes(self) -> list[bytes]:
        """Return the hashes of all leaves."""
        return list(await self.stores.audit.leaf_hashes(WORKSPACE, 0, 100_000))

    async def actions(self) -> list[str]:
        """Return what happened, as far as it is kept."""
        page = await self.stores.audit.page(WALLS, EventFilter(), PageRequest(10_000, (), ascending=True))
        return [event.action for event in page.items]


@pytest.fixture
def shop(database: Database) -> Shop:
    """Lend an empty one."""
    return Shop(database)


async def test_what_is_old_goes_at_a_checkpoint_and_all_proofs_stay(shop: Shop) -> None:
    """Records go, hashes stay: every checkpoint there ever was is still proven to be of the same log (P6)."""
    signed = [await shop.day(events) for events in (3, 1_200, 900, *[2] * 29)]
    before = await shop.hashes()
    assert await shop.keep() == 3 + 1_200 + 900
    first = signed[2].size
    assert await shop.stores.audit.first_index(WORKSPACE) == first
    kept = await shop.stores.audit.since(WALLS, EventFilter(), -1, 10_000)
    assert [event.leaf_index for event in kept] == list(range(first, signed[-1].size))
    last = await shop.sign()
    after = await shop.hashes()
    assert after[: len(before)] == before
    assert last.root_hash == Tree(after).root(last.size)
    prover = Prover(shop.stores.audit)
    for older in signed:
        proof = await prover.consistency(older.size, last)
        assert consistent(older.size, older.root_hash, last.size, last.root_hash, proof)
    assert await prover.inclusion(last, first, kept[0].leaf_hash)


async def test_the_log_tells_that_it_was_cut(shop: Shop) -> None:
    """Where it begins now, and what was signed there, is an event in it; repeating the cut changes nothing."""
    signed = [await shop.day(2) for _ in range(DAYS + 2)]
    assert await shop.keep() == 6
    assert await shop.keep() == 0
    await shop.sign()
    last = (await shop.stores.audit.since(WALLS, EventFilter(), -1, 1_000))[-1]
    assert last.action == Action.AUDIT_LOG_CUT
    assert last.actor_id == "retention"
    changes = json.loads(last.record)["changes"]
    assert changes["first_index"] == {"before": 0, "after": signed[2].size}
    assert changes["checkpoint"] == {"before": None, "after": signed[2].note}
    assert (await shop.actions()).count(Action.AUDIT_LOG_CUT) == 1


async def exported(shop: Shop, from_index: int = 0) -> bytes:
    """Export the log."""
    handlers = ExportHandlers(shop.stores.audit, shop.checkpointer)
    request = audit_pb2.ExportEventsRequest(from_index=from_index)
    caller = Principal("key_1", KeyKind.MANAGEMENT, WORKSPACE, "acme", Environment.ALL, Grants(("*",)))
    return b"".join([part.data async for part in handlers.export_events(caller, request)])


async def test_an_export_of_a_cut_log_verifies_and_names_the_cut(shop: Shop) -> None:
    """It begins with the first event that is kept, proves all that follow, and says where the cut is told of."""
    signed = [await shop.day(3) for _ in range(DAYS + 2)]
    await shop.keep()
    lines = (await exported(shop)).splitlines(keepends=True)
    key = verifier_key(WORKSPACE, (await shop.key.signer()).public_key)
    opened = partial(open_checkpoint, key=key, verifier=Ed25519Verifier())
    report = verify_export(lambda: lines, opened, (JsonLines(),))
    assert report.intact
    assert (report.first_index, report.cut_index) == (signed[2].size, signed[-1].size)
    assert report.events == signed[-1].size + 1 - signed[2].size
    with pytest.raises(InvalidRequestError, match="at least 9"):
        await exported(shop, 8)
    assert (await exported(shop, 9)).splitlines(keepends=True) == lines
    later = (await exported(shop, 10)).splitlines(keepends=True)
    assert verify_export(lambda: later, opened, (JsonLines(),)).cut_index is None


async def test_nothing_young_ever_goes(shop: Shop) -> None:
    """A checkpoint that covers one young event covers too much, whatever order things were placed in."""
    await shop.day(2)
    for _ in range(DAYS + 5):
        await shop.stores.happened(shop.stores.make.change(WORKSPACE))
        shop.stores.clock.advance(DAY_MS)
    await shop.sign()
    assert await shop.keep() == 2
    assert await shop.stores.audit.first_index(WORKSPACE) == 2


async def test_nothing_goes_that_a_sink_has_not_carried(shop: Shop) -> None:
    """A sink that is away holds its part of the log, however old it gets."""
    signed = [await shop.day(3) for _ in range(DAYS + 5)]
    shop.carried_to = 7
    assert await shop.keep() == signed[1].size == 6
    shop.carried_to = 1_000
    assert await shop.keep() == signed[5].size - 6


async def test_without_a_retention_all_is_kept(shop: Shop) -> None:
    """0 days are for ever."""
    for _ in range(40):
        await shop.day(1)
    shop.stores.clock.advance(10_000 * DAY_MS)
    assert await shop.keep(days=0) == 0
    assert await shop.stores.audit.first_index(WORKSPACE) == 0


async def test_a_cut_that_was_interrupted_is_finished(shop: Shop) -> None:
    """However far the sweep has come, the hashes of all leaves can be read, in whatever parts."""
    for _ in range(DAYS + 3):
        await shop.day(7)
    before = await shop.hashes()
    steps = shop.cutter.see_to(Retained(WORKSPACE, DAYS))
    point = await shop.shelf.cut_point(WORKSPACE, before_ms=shop.stores.clock.now_ms() - DAYS * DAY_MS)
    assert point is not None
    async with shop.stores.units.begin(WALLS, ORIGIN) as unit:
        assert await unit.events.cut(point, now_ms=shop.stores.clock.now_ms()) == 0
    for limit in (1, 4, 3, 1):
        assert await shop.shelf.sweep(WORKSPACE, limit=limit) == limit
        assert (await shop.hashes())[: len(before)] == before
        parts = [await shop.stores.audit.leaf_hashes(WORKSPACE, start, 5) for start in range(0, len(before), 5)]
        assert [leaf for part in parts for leaf in part][: len(before)] == before
    assert sum([swept async for swept in steps]) == point.size - 9
    assert await shop.hashes() == before


async def test_of_two_that_cut_at_once_one_does(shop: Shop) -> None:
    """There is one cut, one event, and no hash twice."""
    for _ in range(DAYS + 10):
        await shop.day(100)
    before = await shop.hashes()
    swept = await asyncio.gather(*[shop.keep() for _ in range(4)])
    assert sum(swept) == 1_100
    await shop.sign()
    assert (await shop.hashes())[: len(before)] == before
    assert (await shop.actions()).count(Action.AUDIT_LOG_CUT) == 1


async def test_of_old_checkpoints_the_last_of_each_day_is_kept(shop: Shop) -> None:
    """A checkpoint a minute does not fill the database for ever; what was signed in the last week stays whole."""
    clock = shop.stores.clock
    clock.advance(DAY_MS - clock.now_ms() % DAY_MS)
    for _ in range(10):
        for _ in range(4):
            await shop.stores.happened(shop.stores.make.change(WORKSPACE))
            await shop.sign()
            clock.advance(DAY_MS // 4 - 10)
        clock.advance(DAY_MS - clock.now_ms() % DAY_MS)
    thinned = await shop.shelf.thin_checkpoints(WORKSPACE, before_ms=clock.now_ms() - CHECKPOINTS_WHOLE_MS)
    assert thinned == 3 * 3
    assert await shop.shelf.thin_checkpoints(WORKSPACE, before_ms=clock.now_ms() - CHECKPOINTS_WHOLE_MS) == 0
    assert (await shop.sign()).size == 40


async def test_a_log_with_a_hole_is_not_swept(shop: Shop, database: Database) -> None:
    """Where somebody deleted an event by hand nothing else is deleted: what is left may prove it."""
    for _ in range(DAYS + 3):
        await shop.day(2)
    async with transaction(database) as session:
        await session.write(delete(schema.events).where(schema.events.c.leaf_index == 1))
    with pytest.raises(LogRewrittenError):
        await shop.keep()
    assert len(await shop.stores.audit.since(WALLS, EventFilter(), -1, 1_000)) == 2 * (DAYS + 3) - 1
