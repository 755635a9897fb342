"""What ``KeyFilter`` means: every store finds exactly what the plain reading of the filter finds."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

from keystead.adapters.memory.keys import matches
from keystead.kernel.paging import PageRequest
from keystead.keys.model import Key, KeyFilter, KeyKind, KeyState
from keystead.tenants.model import Environment, Workspace
from tests.contract.stores import Stores, ids_of, walls

NOW_MS = 1_000_000
SINGLE: tuple[dict[str, object], ...] = (
    {"owner_id": "cust-1"},
    {"owner_id": "CUST-1"},
    {"environment": Environment.TEST},
    {"environment": Environment.ALL},
    {"state": KeyState.ACTIVE},
    {"state": KeyState.EXPIRED},
    {"state": KeyState.SUSPENDED},
    {"state": KeyState.REVOKED},
    {"kind": KeyKind.SERVICE},
    {"scope": "read:invoices"},
    {"scope": "read:*"},
    {"scope": "read:%"},
    {"tag": "blue"},
    {"tag": "BLUE"},
    {"prefix": "acme_live_"},
    {"prefix": "acme_live_A"},
    {"prefix": "acme%"},
    {"prefix": "äcme"},
    {"unused_since_ms": 5_000},
    {"expires_before_ms": NOW_MS + 1},
    {"query": "straSSE"},
    {"query": "100%"},
    {"query": "cust-1"},
    {"query": "nowhere"},
    {"not_revoked": True},
)


def varied_keys(stores: Stores, workspace: Workspace) -> list[Key]:
    """Make keys that differ in everything a filter asks for, mostly at once and in different rhythms."""
    environments = (Environment.LIVE, Environment.TEST, Environment.ALL)
    states = (KeyState.ACTIVE, KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED, KeyState.ACTIVE)
    ends = (None, NOW_MS, NOW_MS + 1, 3)
    scopes = (("read:invoices",), (), ("read:*", "write:invoices"), ("read:invoices", "read:*"))
    tags = (("blue",), (), ("blue", "Blue"), ("100%",))
    used = (None, 4_999, 5_000, 5_001)
    names = ("Straße 7", "100% sure", "plain", "cust-1's")
    keys = []
    for number in range(60):
        key = stores.make.key(workspace, environments[number % 3], ("cust-1", "cust-2", "")[number // 2 % 3])
        secret = stores.make.secret(f"acme_live_{'AaB'[number % 3]}{number:011d}")
        older = replace(stores.make.secret(f"acme_test_{number:012d}"), retires_at_ms=1)
        keys.append(
            replace(
                key,
                kind=(KeyKind.CUSTOMER, KeyKind.SERVICE)[number // 3 % 2],
                state=states[number % 5],
                expires_at_ms=ends[number // 5 % 4],
                scopes=scopes[number // 2 % 4],
                tags=tags[number // 7 % 4],
                last_used_at_ms=used[number // 3 % 4],
                name=names[number % 4],
                secrets=(secret, older) if number % 2 else (secret,),
            )
        )
    return keys


def questions() -> list[KeyFilter]:
    """Ask for nothing, for each thing, and for each two things that are not the same field."""
    pairs = [first | second for first, second in itertools.combinations(SINGLE, 2) if not first.keys() & second.keys()]
    return [KeyFilter(now_ms=NOW_MS, **asked) for asked in ({}, *SINGLE, *pairs)]  # type: ignore[arg-type] # by name


async def test_every_store_reads_a_filter_alike(stores: Stores) -> None:
    """Whatever is asked, the page, the count and the plain meaning of the filter agree."""
    workspace, elsewhere = stores.make.workspace(), stores.make.workspace()
    keys = varied_keys(stores, workspace)
    await stores.add(workspace, elsewhere, *keys, stores.make.key(elsewhere))
    async with stores.units.read(walls(workspace)) as unit:
        for wanted in questions():
            expected = [key.id for key in reversed(keys) if matches(key, wanted)]
            page = await unit.keys.page(wanted, PageRequest(100))
            assert ids_of(page.items) == expected, wanted
            assert await unit.keys.count(wanted) == len(expected), wanted


async def test_the_questions_reach_every_field() -> None:
    """A field that is added to the filter must be asked for here."""
    asked = {name for single in SINGLE for name in single}
    apart = {"now_ms", "key_ids", "workspace_id"}  # asked for below, and in the tests of walls
    assert asked | apart == {field.name for field in fields(KeyFilter)}


async def test_keys_are_named_one_by_one(stores: Stores) -> None:
    """Asked for by ids, exactly those keys come that exist and fit the rest of the filter."""
    workspace, elsewhere = stores.make.workspace(), stores.make.workspace()
    keys = [stores.make.key(workspace) for _ in range(4)]
    theirs = stores.make.key(elsewhere)
    await stores.add(workspace, elsewhere, *keys, theirs)
    named = KeyFilter(now_ms=0, key_ids=(keys[0].id, keys[2].id, theirs.id, "key_none", keys[0].id))
    async with stores.units.read(walls(workspace)) as unit:
        assert ids_of(await unit.keys.find(named, limit=9)) == [keys[2].id, keys[0].id]
    async with stores.units.read(None) as unit:
        assert ids_of(await unit.keys.find(named, limit=2)) == [theirs.id, keys[2].id]
        assert ids_of(await unit.keys.find(replace(named, workspace_id=elsewhere.id), limit=9)) == [theirs.id]
        assert await unit.keys.count(KeyFilter(now_ms=0)) == len(keys) + 1
        assert await unit.keys.count(KeyFilter(now_ms=0, workspace_id=workspace.id)) == len(keys)
