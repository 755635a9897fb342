"""What limits would have denied of the calls that a store has: those inside the walls, that reached the limits."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.gen.v1 import limits_pb2, plans_pb2
from keystead.kernel.errors import InvalidRequestError, NotFoundError, UnavailableError
from keystead.kernel.ids import SequentialIds, new_id
from keystead.kernel.limit import Limit, On, SlidingWindow
from keystead.keys.errors import PermissionDeniedError
from keystead.keys.model import KeyKind
from keystead.keys.principal import Principal
from keystead.limits.model import Plan
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment
from keystead.transport.services.simulation import WAITING_MAX, SimulationHandlers
from keystead.usage.model import CODE_NUMBERS, Call, Stretch, Subject
from tests.contract.stores import ORIGIN, Stores, memory_stores
from tests.contract.usage_stores import DAY, OUR_KEY, OUR_TEST_KEY, T0, THEIR_KEY, Store, Writer, call
from tests.fakes import ManualClock

KEY_ID = new_id("key", now_ms=T0)
VALID, LIMITED, EXCEEDED, REVOKED = (
    CODE_NUMBERS[code] for code in ("VALID", "RATE_LIMITED", "QUOTA_EXCEEDED", "REVOKED")
)
Request = plans_pb2.SimulatePlanRequest


def caller(workspace_id: str = "wsp_ours", *scopes: str, environment: Environment = Environment.ALL) -> Principal:
    """Make a management key that may read plans and usage, or what ``scopes`` say."""
    grants = Grants(scopes or ("read:plans", "read:usage"))
    return Principal("key_caller", KeyKind.MANAGEMENT, workspace_id, "acme", environment, grants)


def question(*limits: limits_pb2.Limit, during_ms: tuple[int, int] = (T0, T0 + DAY), **given: Any) -> Request:
    """Ask about limits, or a plan, in the day that begins at ``T0`` or another time."""
    request = Request(limits=limits, **given)
    getattr(request, "from").FromMilliseconds(during_ms[0])
    request.to.FromMilliseconds(during_ms[1])
    return request


def window(limit: int, on: limits_pb2.Limit.Scope.ValueType = limits_pb2.Limit.KEY) -> limits_pb2.Limit:
    """Make a window of an hour."""
    made = limits_pb2.Limit(name="window", on=on)
    made.sliding_window.limit = limit
    made.sliding_window.window.FromSeconds(3_600)
    return made


def handlers(store: Store, stores: Stores | None = None, *, calls_max: int = 1_000_000) -> SimulationHandlers:
    """Make what is tested."""
    return SimulationHandlers(store, (stores or memory_stores()).units, ManualClock(), calls_max=calls_max)


async def test_calls_that_reached_the_limits_are_replayed_in_order(usage_store: Store) -> None:
    """Admitted calls and those that a limit denied count, the others and those outside the time or the walls do not."""
    other = Subject("wsp_ours", "live", KEY_ID, "sec_o", "customer-2")
    calls = [
        *(call(T0 + at, OUR_KEY, code=code) for at, code in enumerate((VALID, LIMITED, EXCEEDED, REVOKED))),
        *(call(T0 + at, other) for at in range(5)),
        call(T0 - 1, other),
        call(T0 + DAY, other),
        call(T0 + 2, THEIR_KEY),
        call(T0 + 2, OUR_TEST_KEY, cost=3),
    ]
    assert await usage_store.count(Writer().stretch(*Random(1).sample(calls, len(calls))))
    found = await handlers(usage_store).simulate_plan(caller(), question(window(2)))
    assert (found.calls, found.denied, found.truncated) == (9, 5, False)
    assert dict(found.denied_by_limit) == {"window": 5}
    assert [(key.key_id, key.owner_id, key.calls, key.denied) for key in found.keys] == [
        (KEY_ID, "customer-2", 5, 3),
        ("key_a", "customer-1", 3, 1),
        ("key_c", "customer-1", 1, 1),
    ]
    live = await handlers(usage_store).simulate_plan(caller(environment=Environment.LIVE), question(window(2)))
    assert (live.calls, live.denied) == (8, 4)
    shared = window(2, limits_pb2.Limit.OWNER)
    owner = await handlers(usage_store).simulate_plan(caller(), question(shared, owner_id="customer-1"))
    assert (owner.calls, owner.denied) == (4, 2)
    key = await handlers(usage_store).simulate_plan(caller(), question(window(1), key_id=KEY_ID))
    assert (key.calls, key.denied) == (5, 4)


async def test_the_latest_calls_are_left_out_when_there_are_too_many(usage_store: Store) -> None:
    """What is looked at is bounded, the oldest first, and the answer says that there was more."""
    assert await usage_store.count(Writer().stretch(*(call(T0 + at) for at in range(2_500))))
    found = await handlers(usage_store, calls_max=2_400).simulate_plan(caller(), question(window(1_000)))
    assert (found.calls, found.denied, found.truncated) == (2_400, 1_400, True)
    whole = await handlers(usage_store, calls_max=2_500).simulate_plan(caller(), question(window(1_000)))
    assert (whole.calls, whole.truncated) == (2_500, False)


async def test_a_plan_is_found_by_id_and_by_name(usage_store: Store, stores: Stores) -> None:
    """Its limits are tried; a plan of another workspace is none."""
    ours = stores.make.workspace()
    plan_id = new_id("pln", now_ms=T0)
    limits = (Limit("requests", On.KEY, SlidingWindow(1, 60_000)),)
    await stores.add(ours)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.plans.add(Plan(plan_id, ours.id, "tiny", T0, T0, limits=limits))
    subject = Subject(ours.id, "live", "key_a", "sec_a", "o")
    assert await usage_store.count(Writer().stretch(call(T0, subject), call(T0, subject)))
    simulating = handlers(usage_store, stores)
    for reference in (plan_id, "tiny"):
        found = await simulating.simulate_plan(caller(ours.id), question(plan_id=reference))
        assert dict(found.denied_by_limit) == {"requests": 1}
        with pytest.raises(NotFoundError):
            await simulating.simulate_plan(caller("wsp_theirs"), question(plan_id=reference))


@pytest.mark.parametrize(
    ("request_", "field"),
    (
        (question(), "plan_id"),
        (question(window(1), plan_id="free"), "plan_id"),
        (question(plan_id="No Plan"), "plan_id"),
        (question(window(1), key_id="key"), "key_id"),
        (question(window(1), owner_id="a b"), "owner_id"),
        (question(limits_pb2.Limit(name="x")), "limits[0]"),
        (question(window(1), window(1)), "limits"),
        (question(window(1), during_ms=(T0, T0)), "from"),
        (question(window(1), during_ms=(T0, T0 + 401 * DAY)), "from"),
    ),
)
async def test_a_question_that_makes_no_sense_is_refused(request_: Request, field: str) -> None:
    """Before anything is read, and naming the field."""
    with pytest.raises(InvalidRequestError) as caught:
        await handlers(memory_usage()).simulate_plan(caller(), request_)
    assert [violation.field for violation in caught.value.violations] == [field]


async def test_few_simulations_wait_for_one_another() -> None:
    """One runs at a time and a handful wait; whoever comes then is told to come again, and nobody is lost."""
    simulating = handlers(memory_usage())
    asked = [simulating.simulate_plan(caller(), question(window(1))) for _ in range(10)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, UnavailableError) for answer in answers] == [False] * WAITING_MAX + [True] * 6
    assert (await simulating.simulate_plan(caller(), question(window(1)))).calls == 0


async def test_a_simulation_needs_the_right_to_read_usage() -> None:
    """What would have been denied tells who called how often."""
    with pytest.raises(PermissionDeniedError, match="read:usage"):
        await handlers(memory_usage()).simulate_plan(caller("wsp_ours", "read:plans"), question(window(1)))


def memory_usage() -> Store:
    """Make an empty store."""
    return MemoryUsage()


@pytest.mark.soak
async def test_a_million_calls(
    database: Database, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """They are replayed in bounded time, and no other call of the process waits for long meanwhile."""
    usage, ids, random = SqlUsage(database), SequentialIds("ver"), Random(1)
    subjects = [Subject("wsp_ours", "live", f"key_{it}", f"sec_{it}", f"customer-{it % 20}") for it in range(200)]
    for begin in range(0, 1_000_000, 5_000):
        calls = tuple(
            Call(ids.next(T0 + at * 10), T0 + at * 10, random.choice(subjects), VALID, 1, "op", "192.0.2.1")
            for at in range(begin, begin + 5_000)
        )
        assert await usage.count(Stretch("jrn_simulation", begin, begin + 5_000, calls, calls[-1].at_ms))
    longest_ms = 0.0
    gc.collect()
    gc.freeze()  # as a server does when it has started

    async def feel() -> None:
        nonlocal longest_ms
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(0.001)
            longest_ms = max(longest_ms, (time.thread_time() - began_s) * 1_000)

    feeling = asyncio.create_task(feel())
    began_s = time.perf_counter()
    found = await handlers(usage).simulate_plan(caller(), question(window(3_000, limits_pb2.Limit.OWNER)))
    took_s = time.perf_counter() - began_s
    feeling.cancel()
    gc.unfreeze()
    record_property("simulated_per_second", found.calls / took_s)
    with capsys.disabled():
        sys.stdout.write(f"\n{database.kind}: {took_s:.1f} s, others waited for {longest_ms:.0f} ms of work at most\n")
    assert (found.calls, found.truncated) == (1_000_000, False)
    assert took_s <= 120
    assert longest_ms <= 50
