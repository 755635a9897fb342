"""Limits at the end of the line: asked last, counted whatever they say, and following their plan (P3, P4, P5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from keystead.kernel.errors import UnavailableError
from keystead.kernel.limit import Credits, Limit, On, OutagePolicy, Period, Quota, SlidingWindow
from keystead.keys.model import KeyState
from keystead.tenants.model import Environment
from keystead.usage.errors import JournalFullError
from keystead.verification.errors import StaleError
from keystead.verification.model import Code
from keystead.verification.service import Verdict, VerifyRequest
from tests.fakes import BEGINNING_MS
from tests.rig import STALENESS_MS, Rig

WINDOW = Limit("requests", On.KEY, SlidingWindow(100, 60_000))
CREDITS = Limit("credit", On.OWNER, Credits(5))
PLAN = {"plan_id": "pln_1", "plan_limits": (WINDOW,)}


@pytest.mark.parametrize("waits", (False, True))
async def test_a_spent_rate_is_rate_limited_and_counted(*, waits: bool) -> None:
    """Cold and warm, at once and awaited: the answer is 429's, usage knows, and the key was not used."""
    rig = Rig()
    rig.limits.rates.waits = waits
    rig.limits.rates.left = 2
    text, key = rig.mint(PLAN)
    assert [await rig.code(text) for _ in range(4)] == ["VALID", "VALID", "RATE_LIMITED", "RATE_LIMITED"]
    assert [code for _, code, _, _ in rig.journal.written] == ["VALID", "VALID", "RATE_LIMITED", "RATE_LIMITED"]
    entry = (await rig.ask(text)).entry
    assert entry is not None
    assert (entry.key_id, entry.last_used_at_ms) == (key.key_id, BEGINNING_MS)


async def test_a_spent_allowance_is_quota_exceeded() -> None:
    """The code tells a client that a minute's wait will not do."""
    rig = Rig()
    text, _ = rig.mint(owner_limits=(CREDITS,))
    rig.limits.allowances.left = 1
    assert [await rig.code(text) for _ in range(2)] == ["VALID", "QUOTA_EXCEEDED"]


async def test_what_is_refused_before_its_limits_spends_nothing() -> None:
    """A wrong state, environment, address or scope asks no limit at all (P4)."""
    rig = Rig()
    for wrong in (
        {"state": KeyState.SUSPENDED},
        {"environment": Environment.TEST},
        {"allowed_ips": ("192.0.2.0/24",)},
        {"scopes": ()},
    ):
        text, _ = rig.mint({**PLAN, **wrong})
        for _ in range(2):
            assert not (await rig.ask(text, scope="read:invoices", client_ip="198.51.100.1")).valid
    assert rig.limits.rates.asked == []


async def test_a_peek_is_neither_spent_nor_counted() -> None:
    """It tells what a call would be answered, limits and all."""
    rig = Rig()
    text, _ = rig.mint(PLAN)
    rig.limits.rates.left = 0
    verdict = await rig.verification.verify(rig.caller, VerifyRequest(text, Environment.LIVE, peek=True))
    assert verdict.code is Code.RATE_LIMITED
    assert (rig.limits.rates.asked, rig.journal.written) == ([(1, True)], [])


async def test_a_batch_spends_at_once_what_can_be() -> None:
    """Memory alone answers warm calls, denied ones among them, without a task for each."""
    rig = Rig()
    text, _ = rig.mint(PLAN)
    rig.limits.rates.left = 2
    await rig.ask(text)
    asked = VerifyRequest(text, Environment.LIVE)
    verdicts = [rig.verification.begin(rig.caller, asked) for _ in range(2)]
    codes = [verdict.code for verdict in verdicts if isinstance(verdict, Verdict)]
    assert codes == [Code.VALID, Code.RATE_LIMITED]


async def test_limits_that_must_be_awaited_leave_nothing_behind_at_first() -> None:
    """Answering at once says so before anything is counted, also in a batch, which then awaits."""
    rig = Rig()
    text, _ = rig.mint(PLAN)
    await rig.ask(text)
    rig.limits.rates.waits = True
    asked = VerifyRequest(text, Environment.LIVE)
    rest = rig.verification.begin(rig.caller, asked)
    assert isinstance(rest, Coroutine)
    rest.close()
    assert len(rig.journal.written) == len(rig.limits.rates.asked) == 1
    verdicts = await rig.verification.verify_batch(rig.caller, [asked] * 3)
    assert [verdict.code for verdict in verdicts] == [Code.VALID] * 3
    assert len({verdict.verification_id for verdict in verdicts}) == 3
    assert len(rig.journal.written) == 4


async def test_a_batch_spends_what_memory_alone_decides() -> None:
    """Each call for itself and in order, those that are denied among them."""
    rig = Rig()
    text, _ = rig.mint(PLAN)
    rig.limits.rates.left = 2
    verdicts = await rig.verification.verify_batch(rig.caller, [VerifyRequest(text, Environment.LIVE)] * 3)
    assert [verdict.code for verdict in verdicts] == [Code.VALID, Code.VALID, Code.RATE_LIMITED]


async def test_a_batch_is_counted_whole_or_not_at_all() -> None:
    """When one cannot be answered nobody is: nothing is written down, and no credit is spent (P5)."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    free, _ = rig.mint()
    await rig.ask(text)
    await rig.ask(free)
    written, left = len(rig.journal.written), rig.limits.allowances.left
    rig.limits.rates.waits = True
    rig.store.failure = UnavailableError("Away.")
    unknown = [rig.compose() for _ in range(150)]
    requests = [VerifyRequest(key, Environment.LIVE) for key in (text, free, *unknown, text)]
    with pytest.raises(UnavailableError):
        await rig.verification.verify_batch(rig.caller, requests)
    assert (len(rig.journal.written), rig.limits.allowances.left, rig.attempts.counted) == (written, left, [])


async def test_what_a_failing_batch_has_counted_stays_spent() -> None:
    """Of two keys that were touched the first is counted before the second cannot be read: its credit is not free."""
    rig = Rig()
    (one, first), (two, second) = [rig.mint({**PLAN, "owner_limits": (CREDITS,)}) for _ in range(2)]
    await rig.ask(one)
    await rig.ask(two)
    left, written = rig.limits.allowances.left, len(rig.journal.written)
    rig.limits.rates.waits = True
    rig.limits.rates.meanwhile = lambda: rig.touches.touch([first.key_id, second.key_id])

    reads = itertools.count(1)

    def fail_at_the_second() -> None:
        if next(reads) == 2:
            rig.store.failure = UnavailableError("Away.")

    rig.store.after_read = fail_at_the_second
    requests = [VerifyRequest(text, Environment.LIVE) for text in (one, two)]
    with pytest.raises(UnavailableError):
        await rig.verification.verify_batch(rig.caller, requests)
    assert (len(rig.journal.written) - written, left - rig.limits.allowances.left) == (1, 1)


async def test_a_batch_that_cannot_be_vouched_for_puts_back_what_it_took() -> None:
    """A lease that lapses while its limits are asked ends the whole batch."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits, rig.limits.rates.hold = True, asyncio.Event()
    batch = asyncio.create_task(rig.verification.verify_batch(rig.caller, [VerifyRequest(text, Environment.LIVE)] * 3))
    await asyncio.sleep(0)
    rig.clock.advance(STALENESS_MS)
    rig.limits.rates.hold.set()
    with pytest.raises(StaleError):
        await batch
    assert (rig.limits.allowances.left, len(rig.journal.written)) == (left, 1)


@pytest.mark.parametrize("batch", (False, True))
@pytest.mark.parametrize(
    ("change", "code"),
    (
        ({"state": KeyState.REVOKED}, Code.REVOKED),
        ({"state": KeyState.SUSPENDED}, Code.SUSPENDED),
        ({"expires_at_ms": BEGINNING_MS + 40}, Code.EXPIRED),
        ({"plan_limits": ()}, Code.VALID),
    ),
)
async def test_what_changed_while_limits_were_asked_is_judged_anew(
    change: dict[str, object], code: Code, *, batch: bool
) -> None:
    """Whoever was revoked before the answer is not admitted, and what he took is put back (P3)."""
    rig = Rig()
    text, key = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits, rig.limits.rates.hold = True, asyncio.Event()
    if batch:
        asked = [VerifyRequest(text, Environment.LIVE)]
        call: asyncio.Task[Any] = asyncio.create_task(rig.verification.verify_batch(rig.caller, asked))
    else:
        call = asyncio.create_task(rig.ask(text))
    await asyncio.sleep(0)
    rig.change(key.key_id, **change)
    rig.clock.advance(40)
    rig.limits.rates.hold.set()
    verdict = (await call)[0] if batch else await call
    assert verdict.code is code
    assert rig.limits.allowances.left == left - (code is Code.VALID)
    assert len(rig.journal.written) == 2


async def test_a_key_that_ends_while_limits_were_asked_has_ended() -> None:
    """To the millisecond, whatever the wait: nothing else changed."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "expires_at_ms": BEGINNING_MS + 40})
    await rig.ask(text)
    rig.limits.rates.waits, rig.limits.rates.hold = True, asyncio.Event()
    call = asyncio.create_task(rig.ask(text))
    await asyncio.sleep(0)
    rig.clock.advance(40)
    rig.limits.rates.hold.set()
    assert (await call).code is Code.EXPIRED


async def test_a_key_that_never_stands_still_is_given_up() -> None:
    """Somewhere the reading must end; the caller may try again, and has spent nothing."""
    rig = Rig()
    text, key = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits = True
    numbers = itertools.count(101)

    def change() -> None:
        rig.change(key.key_id, plan_limits=(replace(WINDOW, kind=SlidingWindow(next(numbers), 60_000)),))

    rig.limits.rates.meanwhile = change
    with pytest.raises(UnavailableError, match="changed faster"):
        await rig.ask(text)
    assert rig.limits.allowances.left == left


async def test_a_key_that_was_only_touched_spends_once() -> None:
    """Reading again finds the same limits, so what they said stands, and nothing is asked a second time."""
    rig = Rig()
    text, key = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    asked, left = len(rig.limits.rates.asked), rig.limits.allowances.left
    rig.limits.rates.waits = True
    rig.limits.rates.meanwhile = lambda: rig.touches.touch([key.key_id])
    assert (await rig.ask(text)).code is Code.VALID
    assert (len(rig.limits.rates.asked), rig.limits.allowances.left) == (asked + 1, left - 1)


async def test_what_was_denied_is_not_judged_anew() -> None:
    """A denial admits nobody, so no caller waits a second time for it."""
    rig = Rig()
    text, key = rig.mint(PLAN)
    await rig.ask(text)
    reads = rig.store.reads
    rig.limits.rates.waits, rig.limits.rates.left = True, 0
    rig.limits.rates.meanwhile = lambda: rig.touches.touch([key.key_id])
    assert (await rig.ask(text)).code is Code.RATE_LIMITED
    assert rig.store.reads == reads


async def test_a_key_that_cannot_be_read_again_is_no_verdict() -> None:
    """The database went away while the limits were asked: what was taken is put back."""
    rig = Rig()
    text, key = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits = True
    rig.limits.rates.meanwhile = lambda: rig.touches.touch([key.key_id])
    rig.store.failure = UnavailableError("Away.")
    with pytest.raises(UnavailableError):
        await rig.ask(text)
    assert rig.limits.allowances.left == left


async def test_a_lease_that_lapses_while_limits_were_asked_is_no_verdict() -> None:
    """Nobody can vouch for the key any more, and what was taken is put back (P3)."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits, rig.limits.rates.hold = True, asyncio.Event()
    call = asyncio.create_task(rig.ask(text))
    await asyncio.sleep(0)
    rig.clock.advance(STALENESS_MS)
    rig.limits.rates.hold.set()
    with pytest.raises(StaleError):
        await call
    assert rig.limits.allowances.left == left


@pytest.mark.parametrize("waits", (False, True))
async def test_a_full_journal_spends_no_credit(*, waits: bool) -> None:
    """There is no answer, so nothing was bought (P4, P5)."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "owner_limits": (CREDITS,)})
    await rig.ask(text)
    left = rig.limits.allowances.left
    rig.limits.rates.waits, rig.journal.full = waits, True
    with pytest.raises(JournalFullError):
        await rig.ask(text)
    assert rig.limits.allowances.left == left


async def test_a_verdict_is_dated_when_it_is_written_down() -> None:
    """Usage is complete up to a moment: nothing may be written later and dated before it."""
    rig = Rig()
    text, _ = rig.mint(PLAN)
    await rig.ask(text)
    rig.limits.rates.waits, rig.limits.rates.hold = True, asyncio.Event()
    call = asyncio.create_task(rig.ask(text))
    await asyncio.sleep(0)
    rig.clock.advance(40)
    rig.limits.rates.hold.set()
    assert (await call).now_ms == rig.clock.now_ms()


async def test_an_outage_is_seen_in_the_verdict() -> None:
    """``degraded`` is told, and counted as what it is, when a plan chose to admit without its limits (P10)."""
    rig = Rig()
    text, _ = rig.mint({**PLAN, "on_limiter_outage": OutagePolicy.ALLOW})
    rig.limits.rates.away = True
    verdict = await rig.ask(text)
    assert (verdict.code, verdict.degraded) == (Code.VALID, True)
    assert rig.limits.limiter.measures.allowed_away == 1
    assert rig.verification.measures.degraded == 0, "somebody vouches for the key itself"


async def test_a_key_follows_its_plan() -> None:
    """A change of the plan is a change of every key it applies to, without any bcrypt (P3)."""
    rig = Rig()
    text, key = rig.mint(PLAN)
    first = await rig.ask(text)
    rig.store.put(replace(key, plan_limits=()))
    assert (await rig.ask(text)).limited is not None
    rig.touches.touch(["pln_1"])
    assert (await rig.ask(text)).limited is None
    assert (first.limited is not None, rig.hasher.calls) == (True, 1)


async def test_an_entitlement_ends_to_the_millisecond() -> None:
    """From then on the plan before it applies, which is read again; the secret is proven still."""
    rig = Rig()
    text, key = rig.mint({**PLAN, "plan_ends_at_ms": BEGINNING_MS + 1_000})
    first = await rig.ask(text)
    rig.store.put(replace(key, plan_limits=(), plan_ends_at_ms=None))
    rig.clock.advance(999)
    assert (await rig.ask(text)).limited is not None
    rig.clock.advance(1)
    assert (await rig.ask(text)).limited is None
    assert (first.limited is not None, rig.hasher.calls) == (True, 1)


async def test_limits_of_an_owner_apply_to_no_key_without_one() -> None:
    """Such a key has no limits left, and asks none."""
    rig = Rig()
    text, _ = rig.mint(owner_id="", plan_limits=(Limit("daily", On.OWNER, Quota(0, Period.DAY)),))
    assert (await rig.ask(text)).limited is None
