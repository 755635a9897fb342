"""What is kept of proven secrets: bounded, told apart from what is old, and shared where it is equal."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from keystead.kernel.change import owner_subject
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment
from keystead.verification.cache import NEVER_MS, Entry, EntryCache, compiled_networks, environment_named
from keystead.verification.freshness import Touches
from keystead.verification.last_use import LastUses
from keystead.verification.model import SecretSnapshot
from tests.fakes import WORKSPACE_ID, snapshot_of

SECRET = SecretSnapshot("sec_1", "acme_live_000000000000", "hash", "m", None)
KEY = snapshot_of(SECRET)


def entry(epoch: int = 1, *, used_at_ms: int = 0, key_id: str = "key_1", number: int = 1) -> Entry:
    """Make an entry."""
    made = Entry(replace(KEY, key_id=key_id), replace(SECRET, id=f"sec_{number}"), epoch)
    made.last_used_at_ms = used_at_ms
    return made


@pytest.mark.parametrize(
    ("expires", "retires", "ends"), ((None, None, NEVER_MS), (5, None, 5), (None, 7, 7), (5, 7, 5), (7, 5, 5))
)
def test_an_entry_ends_with_its_key_or_its_secret(expires: int | None, retires: int | None, ends: int) -> None:
    """Whichever is earlier, in one number that each call compares."""
    made = Entry(replace(KEY, expires_at_ms=expires), replace(SECRET, retires_at_ms=retires), 1)
    assert (made.ends_at_ms, made.expires_at_ms, made.retires_at_ms) == (ends, expires, retires)


def test_an_entry_is_usable_only_while_key_and_owner_are() -> None:
    """A key that is suspended or revoked, or whose owner is suspended, is not."""
    assert entry().usable
    for key in (
        replace(KEY, state=KeyState.SUSPENDED),
        replace(KEY, state=KeyState.REVOKED),
        replace(KEY, owner_suspended=True),
    ):
        assert not Entry(key, SECRET, 1).usable


@pytest.mark.parametrize("kind", tuple(KeyKind))
def test_keys_for_keystead_itself_are_told_apart(kind: KeyKind) -> None:
    """Management and operator keys call Keystead; customers' and services' keys call the platform."""
    assert Entry(replace(KEY, kind=kind), SECRET, 1).own is (kind in {KeyKind.MANAGEMENT, KeyKind.OPERATOR})


@pytest.mark.parametrize("subject", ("key_1", owner_subject(WORKSPACE_ID, "customer-1"), WORKSPACE_ID))
def test_an_entry_is_good_until_what_it_depends_on_is_touched(subject: str) -> None:
    """Key, owner and workspace; a change of anything else only moves the entry's epoch on."""
    touches, made = Touches(), entry()
    touches.touch(["key_2", owner_subject("wsp_x", "customer-1"), "acme_live_000000000001"])
    assert made.good(touches)
    assert made.epoch == touches.epoch
    touches.touch([subject])
    assert not made.good(touches)
    assert not made.good(touches)


def test_the_cache_never_outgrows_its_capacity() -> None:
    """Each entry past it takes another's place."""
    cache = EntryCache(10, chooser=random.Random(1))
    for number in range(1_000):
        cache.put(number.to_bytes(2), entry())
    assert len(cache.entries) == len(cache._digests) == 10
    assert set(cache._digests) == set(cache.entries)
    assert (999).to_bytes(2) in cache.entries


def test_a_newer_entry_of_the_same_secret_takes_the_older_ones_place() -> None:
    """A key that is read again costs no second place."""
    cache = EntryCache(2)
    old, new = entry(), entry()
    cache.put(b"1", old)
    cache.put(b"1", new)
    assert cache.entries == {b"1": new}
    assert cache._digests == [b"1"]


def test_eviction_spares_what_is_in_use() -> None:
    """Under a flood of new secrets, those used lately stay longest: of each sample the oldest goes."""
    cache = EntryCache(1_000, chooser=random.Random(1))
    for number in range(1_000):
        cache.put(number.to_bytes(4), entry(used_at_ms=number))
    for number in range(1_000, 1_500):
        cache.put(number.to_bytes(4), entry(used_at_ms=number))
    kept = [number for number in range(1_000) if number.to_bytes(4) in cache.entries]
    newer = sum(1 for number in kept if number >= 500)
    assert newer > 3 * (len(kept) - newer)


def test_equal_grants_and_ranges_are_shared() -> None:
    """A million keys with the same scopes hold them once."""
    one, two = entry(key_id="key_1"), entry(key_id="key_2")
    assert one.grants is two.grants
    assert one.networks is two.networks
    assert dict(zip(one.metadata_names, one.metadata_values, strict=True)) == {"team": "billing"}


def test_an_unreadable_stored_range_opens_nothing() -> None:
    """Damaged data fails loudly; leaving the range out would open the key to every address."""
    assert [str(network) for network in compiled_networks(("192.0.2.0/24", "2001:db8::1"))] == [
        "192.0.2.0/24",
        "2001:db8::1/128",
    ]
    with pytest.raises(ValueError, match="cannot be read"):
        compiled_networks(("192.0.2.0/24", "damaged"))


def test_secrets_name_their_environment() -> None:
    """``live`` and ``test``, as the format has them."""
    assert environment_named("live") is Environment.LIVE
    assert environment_named("test") is Environment.TEST


def test_last_uses_are_taken_once_and_in_batches() -> None:
    """However often a secret is used between two writes, it is stored once, with its latest use."""
    uses, first, second = LastUses(), entry(), entry(number=2, key_id="key_2")
    for now_ms in (1, 2, 3):
        uses.note(first, now_ms)
    uses.note(second, 4)
    assert uses.take(1) == {"sec_1": ("key_1", 3)}
    assert uses.take(10) == {"sec_2": ("key_2", 4)}
    assert uses.take(10) == {}
    uses.note(first, 5)
    assert uses.take(10) == {"sec_1": ("key_1", 5)}
