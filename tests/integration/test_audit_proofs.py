"""Checkpoints and proofs over the wire, checked as an auditor does: offline, with the public key alone (P6)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.signing import Ed25519Verifier
from keystead.events.checkpoints import Checkpoint, open_checkpoint
from keystead.events.merkle import consistent, leaf_hash, root, root_from_inclusion
from keystead.events.notes import VerifierKey
from tests.clients import Client, client_for
from tests.databases import ask, change
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

NO_EVENT = "evt_01h455vb4pex5vsknk084sn02q"
TOUCHED = ("DATA_LOSS", "LOG_REWRITTEN")
OLD, NEW = (bytes([letter]) * 32 for letter in b"on")
OLD_ID, NEW_ID = (MasterKeyring([secret]).current_id for secret in (OLD, NEW))


async def make(client: Client, environment: str = "LIVE", **fields: Any) -> Any:
    """Make a key, which is an event."""
    wanted = {"owner_id": "o", "create_owner": True, "name": "Key", "environment": environment, **fields}
    return (await client.call("CreateKey", **wanted)).must()


async def event_of(server: KeysteadServer, target: str) -> str:
    """Return the id of the event that made ``target``."""
    rows = await ask(server, f"SELECT id FROM events WHERE target = '{target}' AND action LIKE '%.created'")  # noqa: S608 -- an id of ours
    return str(rows[0][0])


async def public_key(client: Client) -> VerifierKey:
    """Fetch what checkpoints are verified with."""
    return VerifierKey.parse((await client.call("GetAuditPublicKey")).must().public_key)


async def checkpoint(client: Client, key: VerifierKey, *, make: bool = True) -> Checkpoint:
    """Fetch a checkpoint and open it with ``key``."""
    reply = (await client.call("GetCheckpoint", make=make)).must()
    read = open_checkpoint(reply.checkpoint, key, Ed25519Verifier())
    assert (read.size, read.root_hash) == (reply.size, reply.root_hash)
    return read


async def demand_extends(client: Client, key: VerifierKey, old: Checkpoint) -> Checkpoint:
    """Fetch the proof that ``old`` is the beginning of the present log, check it, and return the present checkpoint."""
    proof = (await client.call("GetAuditProof", from_size=old.size)).must()
    new = open_checkpoint(proof.checkpoint, key, Ed25519Verifier())
    assert consistent(old.size, old.root_hash, new.size, new.root_hash, proof.hashes)
    assert (proof.index, proof.leaf_hash, proof.record) == (0, b"", "")
    return new


async def demand_in(client: Client, key: VerifierKey, event_id: str) -> dict[str, Any]:
    """Fetch the proof of an event, check it, and return its record."""
    proof = (await client.call("GetAuditProof", event_id=event_id)).must()
    held = open_checkpoint(proof.checkpoint, key, Ed25519Verifier())
    assert leaf_hash(proof.record.encode()) == proof.leaf_hash
    assert root_from_inclusion(proof.leaf_hash, proof.index, held.size, proof.hashes) == held.root_hash
    record: dict[str, Any] = json.loads(proof.record)
    assert record["id"] == event_id
    return record


@pytest.mark.parametrize("database", ("", "postgresql"))
async def test_an_auditor_proves_the_log_with_the_public_key(
    servers: ServerFarm, database: str, request: pytest.FixtureRequest
) -> None:
    """Every event is proven to be in a signed checkpoint, and each checkpoint to be the beginning of the later ones."""
    url = request.getfixturevalue("postgres_url") if database else ""
    server = servers.start(database=url)
    async with client_for(server) as client:
        key = await public_key(client)
        assert key.name == f"keystead/{server.told['workspace_id']}"
        first = await checkpoint(client, key, make=False)
        made = [(await make(client, name=f"Key {number}")).key.id for number in range(20)]
        second = await checkpoint(client, key)
        assert second.size == first.size + 21  # the keys, and their owner
        assert await checkpoint(client, key) == second == await checkpoint(client, key, make=False)
        for old in (first, second, Checkpoint(first.origin, 0, root(b""))):
            assert await demand_extends(client, key, old) == second
        for key_id in made:
            assert (await demand_in(client, key, await event_of(server, key_id)))["target"] == key_id
        late = await make(client)
        record = await demand_in(client, key, await event_of(server, late.key.id))
        assert record["target"] == late.key.id
        assert (await demand_extends(client, key, second)).size == second.size + 1


async def test_one_environment_gets_no_proof_of_the_other(servers: ServerFarm) -> None:
    """An event of the other environment, or of another workspace, is to a caller as if there were none (P8)."""
    server = servers.start(flags=("--first-run", "--operator"))
    async with client_for(server) as client:
        tokens = {}
        events = {}
        for environment in ("LIVE", "TEST"):
            fields = {"kind": "MANAGEMENT", "owner_id": "", "create_owner": False, "scopes": ["*:*"]}
            tokens[environment] = (await make(client, environment, **fields)).secret
            events[environment] = await event_of(server, (await make(client, environment)).key.id)
        operator = server.told["operator_key"]
        other = (await client.call("CreateWorkspace", token=operator, brand="other", name="O")).must()
        theirs = await event_of(server, other.management_key.id)
        for mine, its in (("LIVE", "TEST"), ("TEST", "LIVE")):
            token = tokens[mine]
            (await client.call("GetAuditProof", token=token, event_id=events[mine])).must()
            (await client.call("GetAuditProof", token=token, event_id=await event_of(server, "o"))).must()
            nothing = await client.call("GetAuditProof", token=token, event_id=NO_EVENT)
            assert nothing.refusal == ("NOT_FOUND", "NOT_FOUND")
            for hidden in (events[its], theirs):
                refused = await client.call("GetAuditProof", token=token, event_id=hidden)
                assert refused.refusal == nothing.refusal
                assert refused.text.replace(hidden, NO_EVENT) == nothing.text
        refused = await client.call("GetAuditProof", token=other.secret, event_id=events["LIVE"])
        assert refused.refusal == nothing.refusal
        keys = [await client.call("GetAuditPublicKey", token=token) for token in ("", other.secret)]
        assert [answer.status for answer in keys] == ["UNAUTHENTICATED", "OK"]
        assert keys[1].must().public_key != (await client.call("GetAuditPublicKey")).must().public_key


async def test_what_cannot_be_asked_is_named(servers: ServerFarm) -> None:
    """A question without a subject, with no event's id, or of more events than there are, is refused by its field."""
    async with client_for(servers.start()) as client:
        size = (await client.call("GetCheckpoint", make=True)).must().size
        for field, fields in (
            ("subject", {}),
            ("event_id", {"event_id": "key_1"}),
            ("from_size", {"from_size": size + 1}),
        ):
            refused = await client.call("GetAuditProof", **fields)
            assert (refused.refusal, refused.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), (field,))
        (await client.call("GetAuditProof", from_size=size)).must()


async def test_two_nodes_make_one_chain(servers: ServerFarm, postgres_url: str) -> None:
    """Checkpoints that two nodes make at once, on demand and by their clocks, are one chain, each proven from the one
    before, by one key.
    """
    one = servers.start(database=postgres_url)
    two = servers.start(flags=(), database=postgres_url)
    async with client_for(one) as a, client_for(two, token=one.management_key) as b:
        key = await public_key(a)
        assert await public_key(b) == key

        async def kept() -> bool:
            return bool(await ask(one, "SELECT 1 FROM checkpoints"))  # by the workers themselves

        await eventually(kept, within_s=10)
        seen = []
        for number in range(15):
            await make(a if number % 2 else b, name=f"Key {number}")
            seen += await asyncio.gather(*[checkpoint(client, key) for client in (a, b, a, b)])
        for held in {it.size: it for it in seen}.values():
            await demand_extends(b, key, held)
        rows = await ask(one, "SELECT previous_size, size FROM checkpoints ORDER BY size")
        assert [row[0] for row in rows] == [-1, *[row[1] for row in rows[:-1]]]
        assert len({(it.size, it.root_hash) for it in seen}) == len({it.size for it in seen})


async def test_a_rewritten_log_is_neither_signed_nor_proven(servers: ServerFarm) -> None:
    """Once a record that was signed is changed in the database, every proof that would need it fails, and a log that
    was cut is not signed again.
    """
    server = servers.start()
    async with client_for(server) as client:
        events = [await event_of(server, (await make(client)).key.id) for _ in range(4)]
        (await client.call("GetCheckpoint", make=True)).must()
        server.stop()
        await change(server, f"UPDATE events SET record = replace(record, 'Key', 'Kex') WHERE id = '{events[1]}'")  # noqa: S608 -- an id of ours
        server.start()
    async with client_for(server) as client:
        assert (await client.call("GetAuditProof", event_id=events[1])).refusal == TOUCHED
        (await client.call("GetAuditProof", event_id=events[2])).must()
        server.stop()
        await change(server, f"UPDATE events SET leaf_hash = zeroblob(32) WHERE id = '{events[1]}'")  # noqa: S608 -- an id of ours
        server.start()
    async with client_for(server) as client:
        assert (await client.call("GetAuditProof", event_id=events[2])).refusal == TOUCHED
        server.stop()
        await change(server, "UPDATE log_heads SET size = size - 1")
        await change(server, "UPDATE turns SET begun_at_ms = 0")
        server.start()
    async with client_for(server) as client:
        assert (await client.call("GetCheckpoint", make=True)).refusal == TOUCHED

        async def told() -> bool:
            return "no checkpoint signed" in server.log_text()  # by the worker, to whoever watches the log

        await eventually(told, within_s=10)


async def test_a_new_master_key_seals_the_signing_key_anew(servers: ServerFarm) -> None:
    """The key that signs stays the same under a new master key, and is sealed under it as soon as a server starts with
    both, so that it does not keep the old one in use.
    """
    server = servers.add()
    server.settings["master_keys"] = OLD.hex()
    server.start()
    async with client_for(server) as client:
        key = await public_key(client)
    server.stop()

    async def sealing() -> list[str]:
        return [str(row[0]) for row in await ask(server, "SELECT master_id FROM audit_keys")]

    assert await sealing() == [OLD_ID]
    server.settings["master_keys"] = f"{NEW.hex()},{OLD.hex()}"
    server.start()
    assert await sealing() == [NEW_ID]
    async with client_for(server) as client:
        assert await public_key(client) == key
        await checkpoint(client, key)
