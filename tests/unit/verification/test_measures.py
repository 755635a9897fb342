"""What verification counts of itself."""

from __future__ import annotations

from keystead.verification.measures import SAMPLED_EVERY
from keystead.verification.model import Code
from tests.rig import Rig


async def test_every_verdict_is_counted_by_its_code() -> None:
    """The sum over all codes is the number of verdicts that were given, whichever way they were found."""
    rig = Rig()
    text, _ = rig.mint()
    for asked in (text, text, rig.forge(), "nonsense"):
        await rig.ask(asked)
    measures = rig.verification.measures
    counted = {code: count for code, count in measures.verdicts.items() if count}
    assert counted == {Code.VALID: 2, Code.NOT_FOUND: 1, Code.MALFORMED: 1}
    assert (measures.hits, measures.misses, measures.degraded) == (1, 3, 0)


async def test_only_what_was_looked_for_is_timed_as_cold() -> None:
    """Forged keys, which cost nothing, do not make the cold way look quick."""
    rig = Rig()
    text, _ = rig.mint()
    for asked in (rig.forge(), "nonsense", text):
        await rig.ask(asked)
    assert rig.verification.measures.cold.count == 1


async def test_one_warm_verdict_in_sixteen_is_timed() -> None:
    """The sample is large enough to see and small enough not to be felt."""
    rig = Rig()
    text, _ = rig.mint()
    for _ in range(10 * SAMPLED_EVERY):
        await rig.ask(text)
    assert rig.verification.measures.warm.count == 10
    assert rig.verification.measures.hits == 10 * SAMPLED_EVERY - 1


async def test_verdicts_that_nobody_vouches_for_are_counted() -> None:
    """An operator sees that answers are given from memory alone (P10)."""
    rig = Rig(serve_stale=True)
    text, _ = rig.mint()
    await rig.ask(text)
    rig.clock.advance(rig.lease.bound_ms + 1)
    await rig.ask(text)
    assert rig.verification.measures.degraded == 1


async def test_what_is_held_can_be_seen() -> None:
    """Secrets in memory, refusals that are remembered and evictions are told as they are."""
    rig = Rig(cached_secrets=1)
    for _ in range(2):
        await rig.ask(rig.mint()[0])
    await rig.ask(rig.compose())
    held = rig.resolver.held
    assert (held.secrets, held.refused, held.flights, held.evicted) == (1, 1, 0, 1)
