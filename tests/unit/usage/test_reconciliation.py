"""Reconciling: the span that is compared, what makes it unequal, and the second look that this asks for."""

from __future__ import annotations

import pytest

from keystead.adapters.memory.ledger import MemoryLedger
from keystead.kernel.errors import InvalidRequestError
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope
from keystead.usage.meters import WINDOW_MS, KnownMeter, entries_of, parse_meters
from keystead.usage.model import VALID_NUMBER, Call, Subject
from keystead.usage.reconciliation import ReconcileQuestion, Reconciliation, reconcile

T0 = 1_700_006_400_000
DAY = 24 * WINDOW_MS
NOW = T0 + 10 * WINDOW_MS + 5
WALLS = TenantScope("wsp_1", BOTH_ENVIRONMENTS)


class Books:
    """A ledger of two meters, told up to the present hour."""

    def __init__(self) -> None:
        """Begin without usage."""
        self.calls: list[Call] = []
        self.ledger = MemoryLedger(lambda: self.calls)

    async def begin(self) -> None:
        """Make the meters known."""
        await self.ledger.begin(parse_meters("api_calls=calls, api_cost=cost"), since_ms=T0)
        for meter in ("api_calls", "api_cost"):
            await self.ledger.told(meter, to_ms=T0 + 10 * WINDOW_MS)

    def use(self, at_ms: int, owner_id: str = "customer-1") -> None:
        """Count a call that costs 3."""
        subject = Subject("wsp_1", "live", "key_1", "sec_1", owner_id)
        self.calls.append(Call("ver_1", at_ms, subject, VALID_NUMBER, 3, "", ""))

    async def tell(self, *, acknowledge: bool) -> None:
        """Write events for what is used."""
        for meter in await self.ledger.meters():
            gaps = await self.ledger.gaps(meter, from_ms=T0, to_ms=NOW, limit=100)
            entries = entries_of(meter.name, gaps)
            await self.ledger.record(entries, at_ms=NOW)
            if acknowledge:
                await self.ledger.acknowledge([entry.id for entry in entries], at_ms=NOW)

    async def ask(self, question: ReconcileQuestion | None = None) -> Reconciliation:
        """Reconcile."""
        return await reconcile(self.ledger, WALLS, question or ReconcileQuestion(), now_ms=NOW)

    async def again(self) -> dict[str, int | None]:
        """Return from where each meter is to be looked at again."""
        return {meter.name: meter.again_from_ms for meter in await self.ledger.meters()}


@pytest.fixture
async def books() -> Books:
    """Lend books that have begun."""
    lent = Books()
    await lent.begin()
    return lent


async def test_what_was_acknowledged_is_equal(books: Books) -> None:
    """Usage that was told and acknowledged is proven equal, over the span that was asked and told."""
    books.use(T0)
    await books.tell(acknowledge=True)
    found = await books.ask()
    assert found == Reconciliation(
        equal=True, comparisons=(), from_ms=T0 + 10 * WINDOW_MS - 30 * DAY, to_ms=T0 + 10 * WINDOW_MS, pending_events=0
    )
    shown = await books.ask(ReconcileQuestion(include_equal=True))
    assert [(it.meter, it.used, it.acknowledged) for it in shown.comparisons] == [
        ("api_calls", 1, 1),
        ("api_cost", 3, 3),
    ]
    assert shown.equal
    assert await books.again() == {"api_calls": None, "api_cost": None}


async def test_what_waits_is_unequal_and_needs_no_second_look(books: Books) -> None:
    """Events on their way make the sums differ, and nothing is told twice for it."""
    books.use(T0)
    await books.tell(acknowledge=False)
    found = await books.ask()
    assert (found.equal, found.pending_events) == (False, 2)
    assert [(it.used, it.acknowledged, it.pending) for it in found.comparisons] == [(1, 0, 1), (3, 0, 3)]
    assert await books.again() == {"api_calls": None, "api_cost": None}


async def test_what_was_never_told_is_looked_at_again(books: Books) -> None:
    """Usage that came long after its window was told is found, and the feed is sent back to it."""
    books.use(T0 + WINDOW_MS)
    asked = ReconcileQuestion(from_ms=T0 + WINDOW_MS + 7, meter="api_cost", owner_id="customer-1")
    found = await books.ask(asked)
    assert (found.equal, found.from_ms) == (False, T0 + WINDOW_MS)
    assert await books.again() == {"api_calls": None, "api_cost": T0 + WINDOW_MS}
    assert (await books.ask(ReconcileQuestion(owner_id="customer-2"))).equal


async def test_a_look_that_is_under_way_goes_on(books: Books) -> None:
    """Asking again and again does not send the feed back to where it began: it comes to the end of what was asked."""
    books.use(T0)
    await books.ask()
    for name in ("api_calls", "api_cost"):
        (meter,) = [it for it in await books.ledger.meters() if it.name == name]
        await books.ledger.looked_again(meter, to_ms=T0 + WINDOW_MS)
    assert not (await books.ask()).equal
    assert set((await books.again()).values()) == {T0 + WINDOW_MS}


async def test_a_span_without_told_windows_is_equal_and_empty(books: Books) -> None:
    """Nothing past the last told window, or before a meter began, is compared, and the answer says so."""
    books.use(T0 + 10 * WINDOW_MS)
    books.use(T0 - 1)
    found = await books.ask(ReconcileQuestion(to_ms=NOW + DAY))
    assert (found.equal, found.to_ms) == (True, T0 + 10 * WINDOW_MS)
    early = await books.ask(ReconcileQuestion(from_ms=T0 - DAY, to_ms=T0))
    assert (early.equal, early.from_ms, early.to_ms) == (True, T0 - DAY, T0)
    late = await books.ask(ReconcileQuestion(from_ms=NOW + DAY, to_ms=NOW + DAY))
    assert (late.from_ms, late.to_ms) == (T0 + 10 * WINDOW_MS, T0 + 10 * WINDOW_MS)
    never = await reconcile(MemoryLedger(list), WALLS, ReconcileQuestion(), now_ms=NOW)
    assert (never.equal, never.from_ms, never.to_ms) == (True, never.to_ms, never.to_ms)


@pytest.mark.parametrize(
    ("question", "field"),
    (
        (ReconcileQuestion(meter="other"), "meter"),
        (ReconcileQuestion(from_ms=T0 + WINDOW_MS, to_ms=T0), "from"),
        (ReconcileQuestion(from_ms=T0 - 401 * DAY, to_ms=T0), "from"),
    ),
)
async def test_a_bad_question_is_refused_by_its_field(books: Books, question: ReconcileQuestion, field: str) -> None:
    """Whoever asks for what cannot be compared is told which field to change."""
    with pytest.raises(InvalidRequestError) as refused:
        await books.ask(question)
    assert [it.field for it in refused.value.violations] == [field]


async def test_too_many_sums_are_refused(books: Books) -> None:
    """An answer is bounded over all meters, and never silently cut."""
    for number in range(2):
        books.use(T0, f"customer-{number}")
    with pytest.raises(InvalidRequestError, match="ask for one meter or one owner"):
        await reconcile(books.ledger, WALLS, ReconcileQuestion(), now_ms=NOW, at_most=3)
    assert len((await reconcile(books.ledger, WALLS, ReconcileQuestion(), now_ms=NOW, at_most=4)).comparisons) == 4


def test_a_known_meter_reads_its_meaning() -> None:
    """What a meter counts is read back from the ledger as it was written."""
    assert KnownMeter("m", "calls:tag:a:b", 0, 0).meter.tag == "a:b"
