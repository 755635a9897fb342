"""The race between a read and a change (P3): what was read before a change never outlives it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.kernel.errors import UnavailableError
from keystead.keys.model import KeyState
from keystead.keys.ports import Lane
from keystead.tenants.model import Environment
from keystead.verification.model import Code
from keystead.verification.service import VerifyRequest
from tests.rig import Rig


async def test_a_read_that_began_before_a_revocation_never_brings_the_key_back() -> None:
    """The reply carries the old state and comes after the revocation was heard of: it is read again."""
    rig = Rig()
    text, key = rig.mint()
    rig.store.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    rig.change(key.key_id, state=KeyState.REVOKED)
    rig.store.gate.open()
    assert (await asked).code is Code.REVOKED
    assert await rig.code(text) == "REVOKED"
    assert rig.store.reads == 2


async def test_a_revocation_during_the_hash_is_noticed_as_well() -> None:
    """The proof takes time; what happened meanwhile counts, and the proof is not made twice."""
    rig = Rig()
    text, key = rig.mint()
    rig.hasher.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.hasher.gate.arrival()
    rig.change(key.key_id, state=KeyState.REVOKED)
    rig.hasher.gate.open()
    assert (await asked).code is Code.REVOKED
    assert rig.work == (2, 1)


async def test_a_batch_admits_nothing_that_was_revoked_while_it_waited_for_another() -> None:
    """A warm key without limits, revoked while a cold one is read: the batch says what is so when it answers (P3)."""
    rig = Rig()
    warm, key = rig.mint()
    cold, _ = rig.mint()
    assert await rig.code(warm) == "VALID"
    rig.store.gate.close()
    asked = [VerifyRequest(text, Environment.LIVE) for text in (warm, cold)]
    batch = asyncio.create_task(rig.verification.verify_batch(rig.caller, asked))
    await rig.store.gate.arrival()
    rig.change(key.key_id, state=KeyState.REVOKED)
    rig.store.gate.open()
    assert [verdict.code for verdict in await batch] == [Code.REVOKED, Code.VALID]


@pytest.mark.parametrize("subject", ("owner", "workspace"))
async def test_changes_of_owner_and_workspace_count_too(subject: str) -> None:
    """A suspension of the owner that was heard of during the read is not missed."""
    rig = Rig()
    text, key = rig.mint()
    rig.store.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    rig.store.change(key.key_id, owner_suspended=True)
    rig.touches.touch([key.workspace_id if subject == "workspace" else f"{key.workspace_id}/{key.owner_id}"])
    rig.store.gate.open()
    assert (await asked).code is Code.SUSPENDED


async def test_a_key_minted_during_the_read_is_found() -> None:
    """A read that saw nothing is not believed when the prefix was minted meanwhile."""
    rig = Rig()
    text, key = rig.mint()
    del rig.store.keys[key.key_id]
    rig.store.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    rig.store.put(key)
    rig.touches.touch([key.key_id, key.secrets[0].prefix])
    rig.store.gate.open()
    assert (await asked).code is Code.VALID


async def test_a_key_resumed_during_the_read_is_let_in() -> None:
    """Nor does a no outlive the change that ended its reason."""
    rig = Rig()
    text, key = rig.mint(state=KeyState.SUSPENDED)
    rig.store.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    rig.change(key.key_id, state=KeyState.ACTIVE)
    rig.store.gate.open()
    assert (await asked).code is Code.VALID


async def test_a_log_that_was_replaced_during_the_read_counts() -> None:
    """After a reset nothing that was read before is kept."""
    rig = Rig()
    text, _ = rig.mint()
    rig.store.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.store.gate.arrival()
    rig.touches.reset()
    rig.store.gate.open()
    assert (await asked).code is Code.VALID
    assert rig.work == (2, 1)


async def test_what_has_landed_is_not_handed_to_who_comes_after_a_change() -> None:
    """A change that returns just when a flight has landed: whoever asks after it is not given what was before it."""
    rig = Rig()
    text, key = rig.mint()
    rig.hasher.gate.close()
    asked = asyncio.create_task(rig.ask(text))
    await rig.hasher.gate.arrival()

    async def revoke_then_ask() -> Code:
        await rig.hasher.gate.pass_by()
        assert all(flight.done() for flight in rig.resolver._flights.values())
        rig.change(key.key_id, state=KeyState.REVOKED)
        return (await rig.ask(text)).code

    late = asyncio.create_task(revoke_then_ask())
    await asyncio.sleep(0)
    rig.hasher.gate.open()
    assert await late is Code.REVOKED
    assert (await asked).entry is not None
    assert not rig.resolver._flights


async def test_a_key_that_never_stands_still_is_an_error() -> None:
    """Reading again is bounded: a key that changes during every read is unavailable, not refused and not let in."""
    rig = Rig()
    text, key = rig.mint()
    prefix = key.secrets[0].prefix
    rig.store.after_read = lambda: rig.touches.touch([key.key_id, prefix])
    with pytest.raises(UnavailableError):
        await rig.ask(text)
    del rig.store.keys[key.key_id]
    with pytest.raises(UnavailableError):
        await rig.ask(text)
    assert rig.hasher.checks == {Lane.VERIFY: 1}


async def test_a_proven_secret_is_read_again_without_another_proof() -> None:
    """Every change of a key costs one read per process, never a bcrypt: the digest still proves the secret."""
    rig = Rig()
    text, key = rig.mint()
    assert await rig.code(text) == "VALID"
    for name in ("one", "two"):
        rig.change(key.key_id, name=name)
        verdict = await rig.ask(text)
        assert verdict.entry is not None
        assert verdict.entry.name == name
    assert rig.work == (3, 1)


async def test_a_warm_secret_that_is_revoked_is_answered_from_memory_afterwards() -> None:
    """The revocation costs one read; from then on the no is as cheap as the yes was."""
    rig = Rig()
    text, key = rig.mint()
    assert await rig.code(text) == "VALID"
    rig.change(key.key_id, state=KeyState.REVOKED)
    for _ in range(3):
        assert await rig.code(text) == "REVOKED"
    assert rig.work == (2, 1)


async def test_a_secret_that_is_gone_from_its_key_is_unknown() -> None:
    """What the store no longer names is refused, however well it was known."""
    rig = Rig()
    text, key = rig.mint()
    assert await rig.code(text) == "VALID"
    rig.change(key.key_id, secrets=(replace(key.secrets[0], prefix="acme_live_other0000000"),))
    assert await rig.code(text) == "NOT_FOUND"
