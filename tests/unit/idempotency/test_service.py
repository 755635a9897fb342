"""Retries are safe (P9): the same reply, the secret for ten minutes, and nothing a thief of the database can use."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.idempotency.errors import IdempotencyConflictError, IdempotencyKeyWeakError, SlotTakenError
from keystead.idempotency.model import SECRET_REPLAY_MS, StoredReply
from keystead.idempotency.service import Attempt, ReplyMemory, check_idempotency_key
from tests.fakes import FakeReplies, ManualClock

IDEMPOTENCY_KEY = "5f0c4a4e-4b1f-4d52-9b63-0d2f6ce7a9b1"
SECRET = b"acme_live_THE-SECRET"
WHOLE = b'{"key":"key_1","secret":"' + SECRET + b'"}'
PUBLIC = b'{"key":"key_1"}'
OLD, NEW = b"o" * 32, b"n" * 32
ATTEMPT = Attempt("wsp_1", "key_9", "CreateKey", IDEMPOTENCY_KEY, b"request")


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


@pytest.fixture
def memory(clock: ManualClock) -> ReplyMemory:
    """Give a memory sealed by one master key."""
    return ReplyMemory(MasterKeyring([OLD]), clock)


async def stored_reply(memory: ReplyMemory) -> tuple[FakeReplies, StoredReply]:
    """Keep one reply with a secret."""
    replies = FakeReplies()
    await memory.keep(replies, ATTEMPT, whole=WHOLE, public=PUBLIC)
    return replies, next(iter(replies.kept.values()))


async def test_a_retry_gets_the_same_bytes(memory: ReplyMemory) -> None:
    """The reply to a repeated mutation is the first one byte for byte, secret included."""
    replies, _ = await stored_reply(memory)
    assert await memory.find(replies, ATTEMPT) == WHOLE


async def test_a_first_attempt_finds_nothing(memory: ReplyMemory) -> None:
    """A new idempotency key, method, credential or workspace has no reply yet: nobody reads another's."""
    replies, _ = await stored_reply(memory)
    for other in (
        replace(ATTEMPT, idempotency_key="another"),
        replace(ATTEMPT, method="RotateKey"),
        replace(ATTEMPT, credential_id="key_8"),
        replace(ATTEMPT, workspace_id="wsp_2"),
    ):
        assert await memory.find(replies, other) is None


async def test_the_secret_is_replayed_for_ten_minutes(memory: ReplyMemory, clock: ManualClock) -> None:
    """To the last millisecond of ten minutes a retry gets the secret; from then on the reply without it."""
    replies, _ = await stored_reply(memory)
    clock.advance(SECRET_REPLAY_MS - 1)
    assert await memory.find(replies, ATTEMPT) == WHOLE
    clock.advance(1)
    assert SECRET_REPLAY_MS == 600_000
    assert await memory.find(replies, ATTEMPT) == PUBLIC


async def test_another_request_under_the_same_key_is_refused(memory: ReplyMemory, clock: ManualClock) -> None:
    """A key that comes back with another request is a mistake of the caller: told so, now and later."""
    replies, _ = await stored_reply(memory)
    with pytest.raises(IdempotencyConflictError):
        await memory.find(replies, replace(ATTEMPT, request=b"request of another kind"))
    clock.advance(SECRET_REPLAY_MS)
    with pytest.raises(IdempotencyConflictError):
        await memory.find(replies, replace(ATTEMPT, request=b""))


async def test_of_two_racing_attempts_one_keeps_its_reply(memory: ReplyMemory) -> None:
    """The second of two calls under one key is told that it lost, so that it can read the winner's reply."""
    replies, kept = await stored_reply(memory)
    with pytest.raises(SlotTakenError):
        await memory.keep(replies, ATTEMPT, whole=b"other", public=b"other")
    assert list(replies.kept.values()) == [kept]


async def test_what_is_stored_holds_neither_secret_nor_idempotency_key(memory: ReplyMemory) -> None:
    """A thief of the database finds no secret, no idempotency key and no request in a remembered reply (P1)."""
    _, kept = await stored_reply(memory)
    everything = pickle.dumps(kept)
    for wanted in (SECRET, IDEMPOTENCY_KEY.encode(), ATTEMPT.request):
        assert wanted not in everything


async def test_a_sealed_reply_opens_only_with_its_idempotency_key(memory: ReplyMemory) -> None:
    """The master key alone does not open a reply: whoever holds it and the database still lacks the caller's key."""
    _, kept = await stored_reply(memory)
    keyring = MasterKeyring([OLD])
    assert kept.sealed is not None
    assert keyring.open(IDEMPOTENCY_KEY, kept.sealed) == WHOLE
    assert keyring.open(IDEMPOTENCY_KEY[:-1], kept.sealed) is None
    assert keyring.open("", kept.sealed) is None


async def test_what_holds_no_secret_is_kept_once(memory: ReplyMemory, clock: ManualClock) -> None:
    """A reply without a secret needs no seal and is replayed as it is, also after ten minutes."""
    replies = FakeReplies()
    await memory.keep(replies, ATTEMPT, whole=PUBLIC, public=PUBLIC)
    assert next(iter(replies.kept.values())).sealed is None
    clock.advance(SECRET_REPLAY_MS)
    assert await memory.find(replies, ATTEMPT) == PUBLIC


async def test_replies_survive_a_new_master_key(clock: ManualClock) -> None:
    """A retry after the master keys were rotated finds the reply that the older one sealed, while that one is kept."""
    replies = FakeReplies()
    await ReplyMemory(MasterKeyring([OLD]), clock).keep(replies, ATTEMPT, whole=WHOLE, public=PUBLIC)
    assert await ReplyMemory(MasterKeyring([NEW, OLD]), clock).find(replies, ATTEMPT) == WHOLE
    assert await ReplyMemory(MasterKeyring([NEW]), clock).find(replies, ATTEMPT) is None


async def test_a_damaged_seal_leaves_the_reply_without_its_secret(memory: ReplyMemory) -> None:
    """When the seal cannot be opened, the retry is still answered, without the secret."""
    replies, kept = await stored_reply(memory)
    assert kept.sealed is not None
    replies.kept[kept.slot] = replace(kept, sealed=kept.sealed[:-1] + bytes([kept.sealed[-1] ^ 1]))
    assert await memory.find(replies, ATTEMPT) == PUBLIC


@pytest.mark.parametrize("text", ("a", "A" * 128, IDEMPOTENCY_KEY, "order:2026.07~1_x-y"))
def test_well_formed_keys_are_taken(text: str) -> None:
    """1 to 128 characters of the alphabet will do where no secret is at stake."""
    check_idempotency_key(text, returns_secret=False)


@pytest.mark.parametrize("text", ("", "A" * 129, "a b", "é", "a\n", "a\x00", "１２"))  # noqa: RUF001 -- full-width digits
def test_ill_formed_keys_are_refused(text: str) -> None:
    """Anything outside the form is refused, with the form in the answer and the key left out of it."""
    for returns_secret in (False, True):
        with pytest.raises(IdempotencyKeyWeakError) as caught:
            check_idempotency_key(text, returns_secret=returns_secret)
        assert caught.value.violations[0].field == "idempotency_key"


@pytest.mark.parametrize("text", ("order-17", "a" * 36, "0123456" * 5, "2026-07-01T00:00:00Z"))
def test_keys_that_could_be_guessed_are_refused_where_a_secret_is_returned(text: str) -> None:
    """A reply with a secret is only as safe as its idempotency key: short and monotonous ones are refused."""
    check_idempotency_key(text, returns_secret=False)
    with pytest.raises(IdempotencyKeyWeakError) as caught:
        check_idempotency_key(text, returns_secret=True)
    assert text not in caught.value.public


@pytest.mark.parametrize("text", (IDEMPOTENCY_KEY, "V1StGXR8_Z5jdHi6B-myTq", IDEMPOTENCY_KEY.replace("-", "")))
def test_random_keys_are_taken_where_a_secret_is_returned(text: str) -> None:
    """A random UUID with or without dashes and 22 random characters are strong enough."""
    check_idempotency_key(text, returns_secret=True)
