"""The limiter as people see it: what is left, what is given back, and limits without a key."""

from __future__ import annotations

from typing import Any

import pytest

from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError, NotFoundError, UnavailableError
from keystead.kernel.limit import (
    Credits,
    Limit,
    On,
    OutagePolicy,
    Period,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from keystead.keys.errors import PermissionDeniedError
from keystead.keys.model import Key, KeyKind
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from keystead.verification.gauges import Check, LimitGauges
from tests.limiters import FakeLimiter
from tests.world import World, narrowed

LIVE = Environment.LIVE
WINDOW = Limit("requests", On.KEY, SlidingWindow(100, 60_000))
SHARED = Limit("all", On.OWNER, TokenBucket(1, 1_000, 10))
QUOTA = Limit("daily", On.KEY, Quota(10, Period.DAY))
CREDIT = Limit("credit", On.KEY, Credits(50))


class Bench:
    """A world with one workspace, and gauges over fakes of what is counted."""

    def __init__(self) -> None:
        """Wire; ``begin`` makes the workspace."""
        self.world = World()
        self.fake = FakeLimiter()
        self.changed: list[str] = []
        self.gauges = LimitGauges(
            self.world.snapshots,
            self.fake.limiter,
            self.fake.rates,
            self.world.clock,
            checks=self.fake.limiter,
            changed=lambda allowances: self.changed.extend(it.name for it in allowances),
        )
        self.caller: Principal

    async def begin(self) -> Bench:
        """Make a workspace."""
        _, self.caller, _ = await self.world.workspace()
        return self

    async def key(self, *limits: Limit, **fields: Any) -> Key:
        """Make a key with limits of its own, on ``enterprise`` unless told otherwise."""
        chosen: dict[str, Any] = {"plan_id": "enterprise", "owner_id": "owner", "create_owner": True, **fields}
        key, _ = await self.world.create(self.caller, KeyDraft(name="n", environment=LIVE, limits=limits, **chosen))
        return key

    async def reset(self, key: Key, *names: str, reason: str = "") -> list[str]:
        """Reset in a unit of its own."""
        return await self.world.change(
            self.caller, lambda unit: self.gauges.reset(unit, self.caller, key.id, names=names, reason=reason)
        )

    async def adjust(self, key: Key, name: str, delta: int) -> int:
        """Adjust in a unit of its own."""
        return await self.world.change(
            self.caller,
            lambda unit: self.gauges.adjust(unit, self.caller, key.id, name=name, delta=delta, reason="asked"),
        )

    async def show(self, key_id: str, caller: Principal | None = None) -> Any:
        """Read the gauges."""
        async with self.world.units.read(self.caller.scope) as unit:
            return await self.gauges.gauges(unit, caller or self.caller, key_id)


async def test_gauges_tell_where_each_limit_comes_from_and_stands() -> None:
    """In the order of verdicts, spending nothing."""
    bench = await Bench().begin()
    bench.fake.rates.left = 40
    key = await bench.key(QUOTA, plan_id="free")
    found = await bench.show(key.id)
    assert [(it.limit.name, it.source) for it in found.gauges] == [("requests", "plan"), ("daily", "key")]
    assert [it.state is not None and it.state.remaining for it in found.gauges] == [40, 1_000_000]
    assert (found.plan_name, found.degraded, bench.fake.rates.asked) == ("free", False, [(0, True)])
    assert found.plan_id.startswith("pln_")


async def test_gauges_say_what_is_not_known() -> None:
    """While the store of rates is away their levels are left out, and allowances are told."""
    bench = await Bench().begin()
    key = await bench.key(WINDOW, QUOTA)
    bench.fake.rates.away = True
    found = await bench.show(key.id)
    assert [(it.limit.name, it.state is None) for it in found.gauges] == [("requests", True), ("daily", False)]
    assert found.degraded


async def test_a_key_without_limits_has_no_gauges() -> None:
    """Nothing is asked of anybody."""
    bench = await Bench().begin()
    found = await bench.show((await bench.key()).id)
    assert (found.gauges, found.plan_name, bench.fake.rates.asked) == ((), "enterprise", [])
    service, _ = await bench.world.create(bench.caller, KeyDraft(name="n", environment=LIVE, kind=KeyKind.SERVICE))
    assert (await bench.show(service.id)).plan_id == ""


async def test_others_keys_are_unknown() -> None:
    """Of another workspace, of the other environment, and of nobody: all the same answer (P8)."""
    bench = await Bench().begin()
    key = await bench.key(WINDOW)
    _, stranger, _ = await bench.world.workspace("other")
    for caller in (stranger, narrowed(bench.caller, environment=Environment.TEST)):
        with pytest.raises(NotFoundError):
            await bench.show(key.id, caller)
    with pytest.raises(NotFoundError):
        await bench.show("key_01h455vb4pex5vsknk084sn02q")
    assert (await bench.show(key.id, narrowed(bench.caller, environment=LIVE))).gauges


async def test_a_reset_forgets_and_is_recorded() -> None:
    """All limits of the key itself; a shared one only by its name; each in one event with its reason (P6)."""
    bench = await Bench().begin()
    key = await bench.key(WINDOW, SHARED, QUOTA)
    before = len(bench.world.changes)
    assert await bench.reset(key, reason="asked for") == ["requests", "daily"]
    change = bench.world.changes[before]
    assert (change.action, change.target, change.reason) == (Action.LIMITS_RESET, key.id, "asked for")
    assert change.changes == {"names": (None, ["requests", "daily"])}
    assert [counter.split(":")[-2] for counter in bench.fake.rates.forgotten] == ["requests"]
    assert await bench.reset(key, "all") == ["all"]
    assert [counter.split(":")[-2] for counter in bench.fake.rates.forgotten] == ["requests", "all"]
    assert await bench.reset(key, "daily") == ["daily"]
    assert len(bench.fake.rates.forgotten) == 2
    assert bench.changed == ["daily", "daily"]


async def test_a_reset_that_resets_nothing_is_no_event() -> None:
    """And one that names what is not there, or cannot be done, changes nothing."""
    bench = await Bench().begin()
    empty, key = await bench.key(), await bench.key(WINDOW)
    before = len(bench.world.changes)
    assert await bench.reset(empty) == []
    with pytest.raises(InvalidRequestError, match="nothing"):
        await bench.reset(key, "nothing")
    with pytest.raises(InvalidRequestError, match="reason"):
        await bench.reset(key, reason="x" * 501)
    bench.fake.rates.away = True
    with pytest.raises(UnavailableError):
        await bench.reset(key)
    assert len(bench.world.changes) == before


async def test_credits_are_adjusted_by_name() -> None:
    """Only credits that apply to the key can be."""
    bench = await Bench().begin()
    key = await bench.key(WINDOW, QUOTA, CREDIT)
    assert await bench.adjust(key, "credit", 7) == 57
    assert bench.changed == ["credit"]
    for name in ("nothing", "daily", "requests"):
        with pytest.raises(InvalidRequestError):
            await bench.adjust(key, name, 1)
    with pytest.raises(InvalidRequestError):
        await bench.adjust(await bench.key(), "credit", 1)


async def test_limits_are_checked_without_a_key() -> None:
    """Each subject in each environment counts for itself, apart from every key."""
    bench = await Bench().begin()
    asked = Check("address 192.0.2.1", LIVE, (WINDOW, SHARED), cost=3, on_outage=OutagePolicy.LOCAL)
    limited = await bench.gauges.check(bench.caller, asked)
    assert (limited.admitted, [state.name for state in limited.states]) == (True, ["requests", "all"])
    assert bench.fake.rates.asked == [(3, False)]
    bench.fake.rates.away = True
    assert (await bench.gauges.check(bench.caller, asked)).degraded
    assert [rate.counter for rate in bench.fake.shared[0].rates] == [
        f"{{{bench.caller.workspace_id}/live/!address 192.0.2.1}}:requests:w60000",
        f"{{{bench.caller.workspace_id}/live/!address 192.0.2.1}}:all:b1000",
    ]
    with pytest.raises(PermissionDeniedError):
        await bench.gauges.check(narrowed(bench.caller, environment=Environment.TEST), asked)


@pytest.mark.parametrize(
    ("check", "field"),
    (
        (Check("", LIVE, (WINDOW,)), "subject"),
        (Check("s", LIVE, ()), "limits"),
        (Check("s", LIVE, (QUOTA,)), "limits[0]"),
        (Check("s", LIVE, (WINDOW, WINDOW)), "limits"),
        (Check("s", LIVE, (SHARED,), cost=11), "limits[0].token_bucket.burst"),
        (Check("s", LIVE, (WINDOW,), cost=1_000_001), "cost"),
        (Check("s", LIVE, (Limit("long", On.KEY, SlidingWindow(1, 86_401_000)),)), "limits[0]"),
        (Check("s", LIVE, (Limit("slow", On.KEY, TokenBucket(1, 86_400_000, 2)),)), "limits[0]"),
    ),
)
def test_checks_that_cannot_be_are_refused(check: Check, field: str) -> None:
    """Each names what is wrong with it."""
    with pytest.raises(InvalidRequestError) as caught:
        check.demand()
    assert [violation.field for violation in caught.value.violations] == [field]
