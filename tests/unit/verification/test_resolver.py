"""From a secret to its entry: what it costs, who shares the work, and what is remembered of a no."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.kernel.errors import UnavailableError
from keystead.keys import secret_format
from keystead.keys.errors import OverloadedError
from keystead.keys.model import KeyState
from keystead.keys.ports import Lane
from keystead.verification import resolver
from keystead.verification.errors import StaleError
from keystead.verification.model import Code
from tests.rig import MASTER, OLD_MASTER, STALENESS_MS, Rig

OLD = MasterKeyring([OLD_MASTER])
NEW_AND_OLD = MasterKeyring([MASTER, OLD_MASTER])
NEW_AND_DISTRUSTED = MasterKeyring([MASTER, OLD_MASTER], distrusted={OLD.current_id})


def retagged(prefix: str, entropy: str, keyring: MasterKeyring) -> str:
    """Make what a thief of a master key can: any secret under anybody's prefix, with a right tag."""
    signed = prefix + entropy
    tagged = signed + secret_format.tag_text(keyring.tag(signed.encode()))
    return tagged + secret_format.checksum(tagged)


async def test_a_secret_is_read_and_hashed_once() -> None:
    """The first call costs one read and one bcrypt; every later one neither."""
    rig = Rig()
    text, _ = rig.mint()
    for _ in range(3):
        assert await rig.code(text) == "VALID"
    assert rig.work == (1, 1)


async def test_forged_secrets_cost_neither_a_read_nor_a_hash() -> None:
    """10,000 of the right shape and CRC with wrong tags: nobody is asked (P2)."""
    rig = Rig()
    for _ in range(10_000):
        verdict = await rig.ask(rig.forge())
        assert verdict.code is Code.NOT_FOUND
    assert rig.work == (0, 0)
    assert not rig.resolver._entries
    assert not rig.resolver._refused
    assert not rig.resolver._flights


@pytest.mark.parametrize("text", ("", "x", "acme_live_", "\x00" * 68, "\ud800", "é" * 68, "a" * 100_000))
async def test_what_is_no_secret_is_malformed(text: str) -> None:
    """Whatever is sent as a key gets a verdict, without a crash and without any work."""
    rig = Rig()
    assert await rig.code(text) == "MALFORMED"
    assert rig.work == (0, 0)


async def test_a_hundred_calls_of_one_cold_secret_share_the_work() -> None:
    """A restart meets each secret once, however many calls wait for it."""
    rig = Rig()
    text, _ = rig.mint()
    rig.store.gate.close()
    waiting = [asyncio.create_task(rig.ask(text)) for _ in range(100)]
    await rig.store.gate.arrival()
    rig.store.gate.open()
    verdicts = await asyncio.gather(*waiting)
    assert {verdict.code for verdict in verdicts} == {Code.VALID}
    assert len({verdict.verification_id for verdict in verdicts}) == 100
    assert rig.work == (1, 1)


async def test_a_caller_who_goes_away_takes_nobody_with_him() -> None:
    """The first caller's cancellation ends his own call alone; the others get their verdict from the same work."""
    rig = Rig()
    text, _ = rig.mint()
    rig.hasher.gate.close()
    first = asyncio.create_task(rig.ask(text))
    await rig.hasher.gate.arrival()
    second = asyncio.create_task(rig.ask(text))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    rig.hasher.gate.open()
    assert (await second).code is Code.VALID
    assert rig.work == (1, 1)


async def test_work_that_everybody_left_is_still_kept() -> None:
    """When all callers are gone the proof is finished for the next one, and a failure then disturbs nobody."""
    rig = Rig()
    text, _ = rig.mint()
    for failure in (UnavailableError("The database does not answer."), None):
        rig.store.failure = failure
        rig.store.gate.close()
        only = asyncio.create_task(rig.ask(text))
        await rig.store.gate.arrival()
        flight = next(iter(rig.resolver._flights.values()))
        only.cancel()
        await asyncio.wait([only])
        rig.store.gate.open()
        await asyncio.wait([flight])
    assert await rig.code(text) == "VALID"
    assert rig.work == (2, 1)
    assert not rig.resolver._flights


async def test_a_flight_that_was_cancelled_is_forgotten() -> None:
    """When the process ends the work itself, the next call begins it anew."""
    rig = Rig()
    text, _ = rig.mint()
    rig.store.gate.close()
    waiting = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    next(iter(rig.resolver._flights.values())).cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    rig.store.gate.open()
    assert await rig.code(text) == "VALID"


async def test_flights_are_bounded() -> None:
    """Past 10,000 cold secrets at once the next is shed with a delay; those under way are not disturbed."""
    rig = Rig()
    text, _ = rig.mint()
    rig.resolver._flights = dict.fromkeys(str(number).encode() for number in range(resolver.FLIGHTS_MAX))  # type: ignore[assignment] # only their number counts
    with pytest.raises(OverloadedError) as caught:
        await rig.ask(text)
    assert caught.value.retry_after_ms == 1_000


async def test_a_full_lane_sheds_and_is_tried_again() -> None:
    """When bcrypt has no room the call is told when to come back, and nothing wrong is remembered."""
    rig = Rig()
    text, _ = rig.mint()
    rig.hasher.full.add(Lane.VERIFY)
    with pytest.raises(OverloadedError):
        await rig.ask(text)
    rig.hasher.full.clear()
    assert await rig.code(text) == "VALID"


async def test_a_store_that_is_away_says_so_and_is_asked_again() -> None:
    """A cold secret without a database is an error to retry, never a no; what is warm is still answered."""
    rig = Rig()
    warm, _ = rig.mint()
    cold, _ = rig.mint()
    assert await rig.code(warm) == "VALID"
    rig.store.failure = UnavailableError("The database does not answer.")
    with pytest.raises(UnavailableError):
        await rig.ask(cold)
    assert await rig.code(warm) == "VALID"
    rig.store.failure = None
    assert await rig.code(cold) == "VALID"


async def test_an_unknown_prefix_is_asked_for_once() -> None:
    """A secret with a right tag that the store does not know costs one read until the log says otherwise."""
    rig = Rig()
    text = rig.compose()
    for _ in range(3):
        assert await rig.code(text) == "NOT_FOUND"
    assert rig.work == (1, 0)


async def test_an_unknown_prefix_is_asked_for_again_once_it_was_minted() -> None:
    """Minting touches the prefix, so a negative entry never hides a new key."""
    rig = Rig()
    text, key = rig.mint()
    del rig.store.keys[key.key_id]
    assert await rig.code(text) == "NOT_FOUND"
    rig.store.put(key)
    rig.touches.touch([key.key_id])
    assert await rig.code(text) == "NOT_FOUND"
    rig.touches.touch([key.key_id, key.secrets[0].prefix])
    assert await rig.code(text) == "VALID"


async def test_negative_entries_expire_within_the_staleness_bound() -> None:
    """Even if the log never told of it, a key is found after ``staleness_bound``, and not before."""
    rig = Rig()
    text, key = rig.mint()
    del rig.store.keys[key.key_id]
    assert await rig.code(text) == "NOT_FOUND"
    rig.store.put(key)
    rig.wait(STALENESS_MS - 1)
    assert await rig.code(text) == "NOT_FOUND"
    rig.wait(1)
    assert await rig.code(text) == "VALID"


async def test_negative_entries_are_bounded() -> None:
    """Secrets of a deleted workspace, however many, do not fill the memory."""
    rig = Rig()
    rig.resolver._refused = dict.fromkeys((str(number), "") for number in range(resolver.REFUSED_KEPT))  # type: ignore[assignment] # only their number counts
    assert await rig.code(rig.compose()) == "NOT_FOUND"
    assert len(rig.resolver._refused) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    (
        ({"state": KeyState.REVOKED}, "REVOKED"),
        ({"state": KeyState.SUSPENDED}, "SUSPENDED"),
        ({"owner_suspended": True}, "SUSPENDED"),
        ({"expires_at_ms": 1}, "EXPIRED"),
    ),
)
async def test_a_dead_key_costs_one_read_and_no_hash(changes: dict[str, object], code: str) -> None:
    """A flood of a revoked key that somebody still uses is answered from memory: state before bcrypt (P11)."""
    rig = Rig()
    text, _ = rig.mint(changes)
    for _ in range(3):
        assert await rig.code(text) == code
    assert rig.work == (1, 0)


async def test_a_dead_key_that_comes_back_is_proven_then() -> None:
    """A suspension that ends is heard of, and only then the secret is hashed."""
    rig = Rig()
    text, key = rig.mint(state=KeyState.SUSPENDED)
    assert await rig.code(text) == "SUSPENDED"
    rig.change(key.key_id, state=KeyState.ACTIVE)
    assert await rig.code(text) == "VALID"
    assert rig.work == (2, 1)


async def test_a_wall_clock_that_is_set_back_skips_no_proof() -> None:
    """A key that was expired when it was read and is not any more is proven like any other."""
    rig = Rig()
    now_ms = rig.clock.now_ms()
    text, key = rig.mint(expires_at_ms=now_ms)
    assert await rig.code(text) == "EXPIRED"
    rig.clock.set_wall(now_ms - 10)
    wrong = replace(key.secrets[0], hash="another secret's")
    rig.store.change(key.key_id, secrets=(wrong,))
    assert await rig.code(text) == "NOT_FOUND"
    assert rig.work == (2, 1)


async def test_a_wrong_secret_with_a_right_tag_is_not_found() -> None:
    """Who could make tags alone still lacks the entropy that bcrypt protects."""
    rig = Rig()
    text, key = rig.mint()
    thief = retagged(key.secrets[0].prefix, "0" * 32, rig.keyring)
    assert await rig.code(thief) == "NOT_FOUND"
    assert await rig.code(text) == "VALID"


async def test_secrets_of_an_older_master_still_verify() -> None:
    """After the master keys were rotated, what the older one made is proven in the ordinary lane."""
    rig = Rig(keyring=NEW_AND_OLD)
    text, _ = rig.mint(under=OLD)
    assert await rig.code(text) == "VALID"
    assert rig.hasher.checks == {Lane.VERIFY: 1}


async def test_behind_a_distrusted_master_nothing_is_told_before_the_proof() -> None:
    """Its tags prove nothing: bcrypt decides, in the import lane, and the state is told only to who has the secret."""
    rig = Rig(keyring=NEW_AND_DISTRUSTED)
    text, key = rig.mint(under=OLD, state=KeyState.REVOKED)
    thief = retagged(key.secrets[0].prefix, "0" * 32, OLD)
    for _ in range(2):
        assert await rig.code(thief) == "NOT_FOUND"
        assert await rig.code(text) == "REVOKED"
    assert rig.hasher.checks == {Lane.IMPORT: 3}


async def test_a_stolen_master_locks_nobody_out() -> None:
    """Tags under one master on the prefix of another's secret spoil nothing for the one who holds that secret (P11)."""
    rig = Rig(keyring=NEW_AND_DISTRUSTED)
    text, key = rig.mint()
    thief = retagged(key.secrets[0].prefix, "0" * 32, OLD)
    assert await rig.code(thief) == "NOT_FOUND"
    assert await rig.code(text) == "VALID"


async def test_a_stolen_master_learns_nothing_of_anothers_secret() -> None:
    """What is remembered of a revoked key is told under the master that made its secret, and under no other."""
    rig = Rig(keyring=NEW_AND_DISTRUSTED)
    text, key = rig.mint(state=KeyState.REVOKED)
    assert await rig.code(text) == "REVOKED"
    assert await rig.code(retagged(key.secrets[0].prefix, "0" * 32, OLD)) == "NOT_FOUND"


async def test_a_lapsed_lease_vouches_for_nothing() -> None:
    """Cut off for ``staleness_bound``, warm and cold are errors to retry elsewhere; forged keys still get their no."""
    rig = Rig()
    warm, _ = rig.mint()
    cold, _ = rig.mint()
    assert await rig.code(warm) == "VALID"
    rig.clock.advance(STALENESS_MS - 1)
    assert await rig.code(warm) == "VALID"
    rig.clock.advance(1)
    for text in (warm, cold):
        with pytest.raises(StaleError) as caught:
            await rig.ask(text)
        assert caught.value.retry_after_ms == 1_000
    assert await rig.code(rig.forge()) == "NOT_FOUND"
    assert await rig.code("no key") == "MALFORMED"
    assert rig.work == (1, 1)
    rig.renew()
    assert await rig.code(warm) == "VALID"


async def test_serving_stale_is_chosen_and_shown() -> None:
    """With ``serve_stale`` what is cached is still answered, marked as degraded, until the log is heard again."""
    rig = Rig(serve_stale=True)
    text, _ = rig.mint()
    assert not (await rig.ask(text)).degraded
    rig.clock.advance(STALENESS_MS)
    for asked in (text, rig.forge()):
        assert (await rig.ask(asked)).degraded
    assert (await rig.ask(text)).valid
    rig.renew()
    assert not (await rig.ask(text)).degraded


async def test_the_cache_is_bounded() -> None:
    """More secrets than there is room for: all are answered, some are proven again."""
    rig = Rig(cached_secrets=10)
    texts = [rig.mint()[0] for _ in range(30)]
    for text in texts:
        assert await rig.code(text) == "VALID"
    assert len(rig.resolver._entries) == 10


def test_digests_are_of_this_process_alone() -> None:
    """What is cached is found under a keyed digest, so two processes' memories cannot be compared (DESIGN §3)."""
    one, two = Rig(), Rig()
    assert one.resolver.digest("a") == one.resolver.digest("a") != one.resolver.digest("b")
    assert one.resolver.digest("a") != two.resolver.digest("a")
    assert len(one.resolver.digest("\ud800")) == resolver.DIGEST_BYTES
