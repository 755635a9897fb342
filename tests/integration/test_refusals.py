"""Refused calls in the log: a workspace is told of its own keys, by method and reason, and of no other (P6, P8)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from keystead.adapters.files.counter_pages import MappedPages
from keystead.events.model import EventFilter
from keystead.events.refusals import MINUTE_MS
from keystead.gen.v1 import audit_pb2, keys_pb2
from keystead.kernel.errors import KeysteadError
from keystead.kernel.paging import PageRequest
from keystead.keys.installation import SYSTEM_ORIGIN
from keystead.keys.model import Key, KeyKind
from keystead.keys.service import KeyDraft
from keystead.tenants.model import BOTH_ENVIRONMENTS, SYSTEM_WORKSPACE_ID, Environment, TenantScope
from keystead.transport.calls import Call
from keystead.transport.contract import service_methods
from keystead.transport.services.events import event_of
from keystead.worker.refusals import RefusalStager
from tests.cores import Bench, bench

CREATE = next(it for it in service_methods() if it.name == "CreateKey")
LIVE_ONLY, TEST_ONLY = frozenset({Environment.LIVE}), frozenset({Environment.TEST})


class Office:
    """A core, and callers who are refused."""

    def __init__(self, opened: Bench) -> None:
        """Answer calls as a server does."""
        self.bench = opened
        self.dispatch = opened.core.dispatcher()

    async def hire(self, environment: Environment) -> tuple[Key, str]:
        """Make a management key that may read and nothing else."""
        draft = KeyDraft(name="Reader", environment=environment, kind=KeyKind.MANAGEMENT, scopes=("read:audit",))
        async with self.bench.core.units.begin(self.bench.caller.scope, SYSTEM_ORIGIN) as unit:
            key, secret = await self.bench.core.keys.create(unit, self.bench.caller, draft)
        return key, secret.reveal()

    async def refused(self, secret: str) -> str:
        """Ask for a key, and return the code of the refusal."""
        call = Call(CREATE, (("authorization", f"Bearer {secret}"),), "ipv4:198.51.100.7:5", None)
        with pytest.raises(KeysteadError) as caught:
            await self.dispatch(call, keys_pb2.CreateKeyRequest())
        return caught.value.code

    async def tell(self) -> None:
        """Stage and tell everything, as the loops do when the minute is over."""
        core = self.bench.core
        assert core.counting is not None
        await RefusalStager(MappedPages(core.counting.refusals, core.clock), core.refusals).turn()
        assert await core.refusals.tell(before_ms=core.clock.now_ms() + MINUTE_MS, limit=500)

    async def read(
        self, workspace_id: str, environments: frozenset[Environment] = BOTH_ENVIRONMENTS
    ) -> Counter[tuple[str, str]]:
        """Return how often, by actor and reason, somebody inside these walls reads of refused calls."""
        walls = TenantScope(workspace_id, environments)
        page = await self.bench.core.audit.page(walls, EventFilter(action="call.refused"), PageRequest(100))
        told: Counter[tuple[str, str]] = Counter()
        for message in map(event_of, page.items):
            assert (message.method, message.result) == ("CreateKey", audit_pb2.Event.REFUSED)
            assert message.client_ip == "198.51.100.7"
            told[message.actor.id, message.reason] += message.count
        return told


async def test_who_was_refused_is_told_to_whom_it_concerns(tmp_path: Path) -> None:
    """A key without the right and a revoked one are told to their workspace, inside the walls of their environments;
    who proved nothing, to the system's own alone.
    """
    async with bench(tmp_path) as opened:
        office = Office(opened)
        (live, live_secret), (both, both_secret) = (
            await office.hire(Environment.LIVE),
            await office.hire(Environment.ALL),
        )
        for _ in range(3):
            assert await office.refused(live_secret) == "permission_denied"
        assert await office.refused(both_secret) == "permission_denied"
        await opened.revoke(both)
        assert await office.refused(both_secret) == "unauthenticated"
        assert await office.refused("nobody") == "unauthenticated"
        await office.tell()
        ours = opened.caller.workspace_id
        in_live = {(live.id, "scope"): 3}
        assert await office.read(ours) == in_live | {(both.id, "scope"): 1, (both.id, "revoked"): 1}
        assert await office.read(ours, LIVE_ONLY) == in_live
        assert await office.read(ours, TEST_ONLY) == {}
        assert await office.read(opened.core.ids.new("wsp")) == {}
        assert await office.read(SYSTEM_WORKSPACE_ID) == {("", "malformed"): 1}
        by_reason = {str(reason): count for reason, count in opened.core.refused_calls.by_reason.items()}
        assert by_reason == {"scope": 4, "revoked": 1, "malformed": 1}


async def test_a_flood_of_refused_calls_makes_no_row_each(tmp_path: Path) -> None:
    """A thousand calls of somebody who may not make them are one row while they wait, and one event afterwards."""
    async with bench(tmp_path) as opened:
        office = Office(opened)
        _, secret = await office.hire(Environment.LIVE)
        before_ms = opened.core.clock.now_ms()
        for _ in range(1_000):
            await office.refused(secret)
        minutes = opened.core.clock.now_ms() // MINUTE_MS - before_ms // MINUTE_MS + 1
        await office.tell()
        told = await office.read(opened.caller.workspace_id)
    with closing(sqlite3.connect(tmp_path / "keystead.db")) as file:
        assert file.execute("SELECT count(*) FROM refusals").fetchall() == [(0,)]
        query = "SELECT count(*) FROM events WHERE action = 'call.refused'"
        assert file.execute(query).fetchall()[0][0] <= minutes
    assert told.total() == 1_000
