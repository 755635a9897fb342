"""The contracts of ``CheckpointStore`` and ``AuditKeyStore``, and making checkpoints over real stores (P6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.signing import Ed25519Verifier, SigningKeyVault
from keystead.events.checkpointing import Checkpointer
from keystead.events.checkpoints import KeptCheckpoint, open_checkpoint, verifier_key
from keystead.events.merkle import consistent
from keystead.events.ports import SealedKey
from keystead.events.proving import Prover
from keystead.events.signing_key import CheckpointKey
from tests.contract.stores import Stores

MASTER = b"m" * 32
EDGE = bytes(range(32))
HOUR = 3_600_000
FIRST = KeptCheckpoint("wsp_1", 0, b"", "origin\n0\nroot\n\n\N{EM DASH} name signature\n", 1)
SECOND = replace(FIRST, size=4, frontier=EDGE, note="second\n", made_at_ms=2)
THIRD = replace(FIRST, size=7, frontier=EDGE * 3, note="third\n", made_at_ms=3)


def key_of(stores: Stores) -> CheckpointKey:
    """Return the key as one process sees it."""
    return CheckpointKey(stores.audit_keys, SigningKeyVault(MasterKeyring([MASTER])))


def checkpointer_of(stores: Stores) -> Checkpointer:
    """Return what one process makes checkpoints with."""
    return Checkpointer(
        log=stores.log, leaves=stores.audit, store=stores.checkpoints, key=key_of(stores), clock=stores.clock
    )


async def happen(stores: Stores, workspace_id: str, count: int) -> None:
    """Let so much happen in a workspace."""
    await stores.happened(*[stores.make.change(workspace_id) for _ in range(count)])
    while await stores.log.place(limit=1_000):
        continue


async def due(stores: Stores, confirmed_to_ms: int = 0, *, limit: int = 100) -> list[str]:
    """Walk over the workspaces that are due, so many at once."""
    found: list[str] = []
    while True:
        after = found[-1] if found else ""
        more = await stores.checkpoints.due(confirmed_to_ms=confirmed_to_ms, after=after, limit=limit)
        assert len(more) <= limit
        found += more
        if len(more) < limit:
            return found


async def test_what_is_kept_is_the_latest(stores: Stores) -> None:
    """Each workspace has its own chain, in which the last that was kept is found, byte for byte."""
    checkpoints = stores.checkpoints
    assert await checkpoints.latest("wsp_1") is None
    for made, after in ((FIRST, None), (SECOND, FIRST), (THIRD, SECOND)):
        assert await checkpoints.keep(made, after=after)
        assert await checkpoints.latest("wsp_1") == made
    other = replace(SECOND, workspace_id="wsp_2")
    assert await checkpoints.latest("wsp_2") is None
    assert await checkpoints.keep(other, after=None)
    assert await checkpoints.latest("wsp_2") == other
    assert await checkpoints.latest("wsp_1") == THIRD


async def test_only_the_last_can_be_extended(stores: Stores) -> None:
    """Whoever extends another than the last, also one of another tree, keeps nothing; so there is one chain."""
    checkpoints = stores.checkpoints
    assert not await checkpoints.keep(SECOND, after=FIRST)
    assert await checkpoints.keep(SECOND, after=None)
    wrong = [
        (FIRST, None),
        (SECOND, None),
        (THIRD, None),
        (THIRD, FIRST),
        (THIRD, replace(SECOND, frontier=EDGE[::-1])),
        (SECOND, SECOND),
        (replace(SECOND, size=3), SECOND),
        (replace(THIRD, size=8), THIRD),
    ]
    for made, after in wrong:
        assert not await checkpoints.keep(made, after=after)
        assert await checkpoints.latest("wsp_1") == SECOND
    assert await checkpoints.keep(THIRD, after=replace(SECOND, made_at_ms=77))  # confirmed meanwhile, and the same


async def test_of_many_at_once_one_is_kept(stores: Stores) -> None:
    """Twenty that extend the same checkpoint at the same time, each to another size."""
    assert await stores.checkpoints.keep(FIRST, after=None)
    made = [replace(SECOND, size=size) for size in range(4, 24)]
    kept = await asyncio.gather(*[stores.checkpoints.keep(it, after=FIRST) for it in made])
    assert sum(kept) == 1
    assert await stores.checkpoints.latest("wsp_1") == made[kept.index(True)]


async def test_a_confirmation_moves_the_moment_alone(stores: Stores) -> None:
    """It is the later of the moments that stands; one of a checkpoint that is not the last changes nothing of that."""
    assert await stores.checkpoints.keep(FIRST, after=None)
    assert await stores.checkpoints.keep(SECOND, after=FIRST)
    for at_ms in (9, 5):
        await stores.checkpoints.confirm(SECOND, at_ms=at_ms)
        assert await stores.checkpoints.latest("wsp_1") == replace(SECOND, made_at_ms=9)
    await stores.checkpoints.confirm(FIRST, at_ms=99)
    await stores.checkpoints.confirm(replace(FIRST, workspace_id="wsp_2"), at_ms=99)
    assert await stores.checkpoints.latest("wsp_1") == replace(SECOND, made_at_ms=9)


async def test_one_node_begins_a_turn(stores: Stores) -> None:
    """Of many that ask at once one is told to, and none before the time is over."""
    begin = stores.checkpoints.begin_turn
    for now_ms, told in ((1_000, 1), (1_000, 0), (60_999, 0), (61_000, 1)):
        begun = await asyncio.gather(*[begin(now_ms=now_ms, every_ms=60_000) for _ in range(4)])
        assert sum(begun) == told
    assert await stores.overdue_keys.begin_turn(now_ms=61_000, every_ms=60_000)  # another work's turn is its own


async def test_workspaces_with_news_are_due(stores: Stores) -> None:
    """News is what came since the last checkpoint; after an hour each is due anyway; they are found in their order."""
    checkpointer = checkpointer_of(stores)
    names = [f"wsp_{number}" for number in range(5)]
    for number, name in enumerate(names):
        await happen(stores, name, number + 1)
    assert await due(stores) == await due(stores, limit=2) == names
    for name in names:
        await checkpointer.make(name)
    made_ms = stores.clock.now_ms()
    assert await due(stores) == []
    await happen(stores, "wsp_3", 1)
    assert await due(stores) == ["wsp_3"]
    assert await due(stores, made_ms - 1) == ["wsp_3"]
    assert await due(stores, made_ms) == names
    stores.clock.advance(HOUR)
    for name in names:
        await checkpointer.make(name)
    assert await due(stores, made_ms) == []
    assert await due(stores, stores.clock.now_ms()) == names


async def test_two_processes_make_one_chain(stores: Stores) -> None:
    """While events come, two processes make checkpoints at once: each is proven to be the beginning of the last, with
    one key, and every event to be in the last.
    """
    one, two = checkpointer_of(stores), checkpointer_of(stores)
    made: set[KeptCheckpoint] = set()
    for count in (1, 2, 1, 60, 1_100, 3):
        await happen(stores, "wsp_1", count)
        made |= set(await asyncio.gather(*[it.make("wsp_1") for it in (one, two, one, two)]))
    chain = sorted(made, key=lambda it: it.size)
    assert [it.size for it in chain] == [1, 3, 4, 64, 1_164, 1_167]
    key = verifier_key("wsp_1", (await key_of(stores).signer()).public_key)
    last, prover = chain[-1], Prover(stores.audit)
    for it in chain:
        read = open_checkpoint(it.note, key, Ed25519Verifier())
        assert (read.size, read.root_hash) == (it.size, it.root_hash)
        hashes = await prover.consistency(it.size, last)
        assert consistent(it.size, it.root_hash, last.size, last.root_hash, hashes)
    leaves = await stores.audit.leaf_hashes("wsp_1", 0, 2_000)
    for index in (0, 3, 63, 64, 1_023, 1_024, 1_166):
        await prover.inclusion(last, index, leaves[index])


async def test_the_first_key_stays(stores: Stores) -> None:
    """There is one key, that of the first process; it is sealed anew only as long as it is sealed as was said."""
    keys = stores.audit_keys
    assert await keys.get() is None
    assert await stores.masters.in_use() == set()
    first, other = SealedKey(EDGE, "0a0b0c0d", b"sealed"), SealedKey(EDGE[::-1], "0a0b0c0d", b"other")
    await asyncio.gather(*[keys.add(first) for _ in range(3)])
    await keys.add(other)
    assert await keys.get() == first
    assert await stores.masters.in_use() == {"0a0b0c0d"}
    newer = replace(first, master_id="11111111", sealed=b"anew")
    await keys.replace(newer, sealed_under="22222222")
    await keys.replace(replace(other, master_id="11111111"), sealed_under="0a0b0c0d")
    assert await keys.get() == first
    await keys.replace(newer, sealed_under="0a0b0c0d")
    assert await keys.get() == newer
    assert await stores.masters.in_use() == {"11111111"}
