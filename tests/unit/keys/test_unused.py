"""Grants that nobody used: what is called unused can be taken away, and what was used never is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.adapters.memory.usage import MemoryUsage
from keystead.kernel.paging import Page, PageRequest
from keystead.keys.model import Key, KeyKind
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.keys.unused import UnusedGrant, UnusedGrants, unused
from keystead.scopes.expression import missing
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment, TenantScope
from keystead.usage.model import Call, Stretch, Subject
from tests.world import World

DAY = 86_400_000
FIRST = PageRequest(10, ascending=True)
DRAFT = KeyDraft(
    name="Key", owner_id="customer-1", environment=Environment.LIVE, scopes=("read:invoices", "read:*", "write:reports")
)
GRANTED = ("read:a", "read:b", "read:*", "*:b", "*:*", "write:a")
ASKED = ("read:a", "read:b", "write:a", "read:a OR write:a", "read:b AND (write:a OR read:a)", "")


class Usage(MemoryUsage):
    """A store that remembers which keys it was asked about."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        super().__init__()
        self.asked: list[list[str]] = []
        self.place = 0

    async def used_expressions(
        self, scope: TenantScope, key_ids: Sequence[str], *, since_ms: int
    ) -> Mapping[str, frozenset[str]]:
        """Answer, and remember the question."""
        self.asked.append([*key_ids])
        return await super().used_expressions(scope, key_ids, since_ms=since_ms)

    async def used(self, key: Key, expression: str, *, at_ms: int) -> None:
        """Count a valid call of ``key``."""
        subject = Subject(key.workspace_id, key.environment, key.id, key.secrets[0].id, key.owner_id)
        call = Call(f"ver_{self.place}", at_ms, subject, 1, 1, "", "", expression)
        begin, self.place = self.place, self.place + 1
        assert await self.count(Stretch("jrn_1", begin, self.place, (call,), None))


@pytest.fixture
def usage() -> Usage:
    """Lend a store in which nothing was used."""
    return Usage()


async def page(
    world: World, root: Principal, usage: Usage, request: PageRequest = FIRST, **asked: Any
) -> Page[UnusedGrant]:
    """Ask what was unused for 30 days."""
    scope = root.scope
    assert scope is not None
    wanted: dict[str, Any] = {"unused_for_ms": 30 * DAY, "owner_id": "", "environment": None} | asked
    async with world.units.read(scope) as unit:
        return await UnusedGrants(usage, world.clock).page(unit, scope, request, **wanted)


async def make(world: World, root: Principal, draft: KeyDraft = DRAFT) -> Key:
    """Make a key, a millisecond after the one before: ids of one millisecond are in no order."""
    world.wait(1)
    return (await world.create(root, draft))[0]


async def test_scopes_that_no_call_asked_for_are_told(world: World, root: Principal, usage: Usage) -> None:
    """A wildcard counts as used when a scope under it was asked for, as does the exact grant beside it."""
    key = await make(world, root)
    world.wait(40 * DAY)
    await usage.used(key, "read:invoices OR admin:all", at_ms=world.clock.now_ms() - DAY)
    assert (await page(world, root, usage)).items == [UnusedGrant(key, idle=False, scopes=("write:reports",))]
    await usage.used(key, "write:reports", at_ms=world.clock.now_ms())
    assert (await page(world, root, usage)).items == []


async def test_a_key_without_a_call_is_idle(world: World, root: Principal, usage: Usage) -> None:
    """A key that was not used at all is told with all of its scopes, also when it has none."""
    key = await make(world, root)
    bare = await make(world, root, replace(DRAFT, scopes=()))
    world.wait(31 * DAY)
    await usage.used(key, "read:invoices", at_ms=world.clock.now_ms() - 31 * DAY)
    assert (await page(world, root, usage)).items == [
        UnusedGrant(key, idle=True, scopes=key.scopes),
        UnusedGrant(bare, idle=True, scopes=()),
    ]


async def test_only_old_working_keys_with_usage_are_told(world: World, root: Principal, usage: Usage) -> None:
    """Keys that are new, revoked or for management are neither told nor looked up."""
    old = await make(world, root)
    revoked = await make(world, root)
    await world.create(root, KeyDraft(name="m", kind=KeyKind.MANAGEMENT, environment=Environment.LIVE))
    service = await make(world, root, replace(DRAFT, kind=KeyKind.SERVICE, owner_id=""))
    await world.change(root, lambda unit: world.keys.revoke(unit, root, revoked.id, reason=""))
    world.wait(30 * DAY - 2)
    assert (await page(world, root, usage)).items == []
    assert usage.asked == []
    world.wait(3)
    await world.create(root, DRAFT)
    assert [it.key.id for it in (await page(world, root, usage)).items] == [old.id, service.id]
    assert usage.asked == [[old.id, service.id]]


async def test_filters_narrow_what_is_told(world: World, root: Principal, usage: Usage) -> None:
    """An owner and an environment may be asked for."""
    await world.owner(root, "customer-2")
    live = await make(world, root)
    test = await make(world, root, replace(DRAFT, environment=Environment.TEST, owner_id="customer-2"))
    world.wait(31 * DAY)
    for asked, expected in (
        ({"owner_id": "customer-1"}, live),
        ({"owner_id": "customer-2"}, test),
        ({"environment": Environment.TEST}, test),
    ):
        assert [it.key.id for it in (await page(world, root, usage, **asked)).items] == [expected.id]


async def test_pages_go_on_past_used_keys_and_end_before_young_ones(
    world: World, root: Principal, usage: Usage
) -> None:
    """A page may hold fewer keys than were looked at; the list ends where keys are too young."""
    keys = [await make(world, root) for _ in range(4)]
    world.wait(31 * DAY)
    young = [await make(world, root) for _ in range(6)]
    for key in keys[:2]:
        await usage.used(key, "read:invoices AND write:reports", at_ms=world.clock.now_ms())
    # The workspace's first management key is the oldest of all.
    first = await page(world, root, usage, PageRequest(3, ascending=True))
    assert first.items == []
    assert first.next_position == (keys[1].id,)
    second = await page(world, root, usage, PageRequest(3, first.next_position, ascending=True))
    assert [it.key.id for it in second.items] == [keys[2].id, keys[3].id]
    assert second.next_position is None
    assert young


def test_a_use_that_is_still_to_be_counted_is_none_we_know_of() -> None:
    """A key that was used a moment ago is neither idle nor told with scopes before its calls are counted."""
    key = Key("key_a", "wsp", Environment.LIVE, KeyKind.CUSTOMER, "", "n", 0, "", 0, (), scopes=("read:a",))
    assert unused(replace(key, last_used_at_ms=99), None, since_ms=100) == UnusedGrant(
        replace(key, last_used_at_ms=99), idle=True, scopes=("read:a",)
    )
    assert unused(replace(key, last_used_at_ms=100), None, since_ms=100) is None


def test_what_this_version_cannot_read_is_not_guessed() -> None:
    """When a newer version noted an expression that this one cannot read, nothing of the key is called unused."""
    key = Key("key_a", "wsp", Environment.LIVE, KeyKind.CUSTOMER, "", "n", 0, "", 0, (), scopes=("read:a",))
    assert unused(key, ["NOT read:b"], since_ms=0) is None


@given(
    scopes=st.lists(st.sampled_from(GRANTED), unique=True, min_size=1),
    expressions=st.lists(st.sampled_from(ASKED), unique=True),
)
def test_what_is_unused_can_be_taken_away(scopes: list[str], expressions: list[str]) -> None:
    """No call that was admitted is refused once the unused scopes are gone; what is left was asked for."""
    key = Key("key_a", "wsp", Environment.LIVE, KeyKind.CUSTOMER, "", "n", 0, "", 0, (), scopes=tuple(scopes))
    admitted = [text for text in expressions if not missing(text, Grants(scopes))]
    found = unused(key, admitted, since_ms=0)
    gone = found.scopes if found else ()
    left = [scope for scope in scopes if scope not in gone]
    assert all(not missing(text, Grants(left)) for text in admitted)
    named = " ".join(admitted)
    assert all(any(Grants([scope]).allow(word.strip("()")) for word in named.split()) for scope in left)
