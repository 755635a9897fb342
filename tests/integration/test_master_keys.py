"""Master keys come, go and are distrusted without a secret failing; a server with the wrong ones does not start."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.keys import secret_format
from keystead.keys.errors import OverloadedError
from keystead.keys.ports import Lane
from tests.clients import Client, client_for
from tests.cores import bench, watch
from tests.databases import ask
from tests.polling import eventually
from tests.servers import KeysteadServer, NotStartedError, ServerFarm

OLD, NEW = (bytes([letter]) * 32 for letter in b"on")
OLD_ID, NEW_ID = (MasterKeyring([secret]).current_id for secret in (OLD, NEW))


async def make(client: Client, **fields: Any) -> Any:
    """Make a key."""
    wanted = {"owner_id": "o", "create_owner": True, "name": "Key", "environment": "LIVE", **fields}
    return (await client.call("CreateKey", **wanted)).must()


async def masters_of(server: KeysteadServer) -> dict[str, str]:
    """Return the master key of every secret, by the secret's prefix."""
    return {row[0]: row[1] for row in await ask(server, "SELECT prefix, master_id FROM secrets")}


def told(server: KeysteadServer, *masters: bytes, distrusted: str = "") -> KeysteadServer:
    """Tell a server which master keys there are, newest first."""
    server.settings |= {"master_keys": ",".join(master.hex() for master in masters), "distrusted_masters": distrusted}
    return server


async def test_a_new_master_key_mints_and_the_old_one_still_proves(servers: ServerFarm) -> None:
    """With a new master key before the old one, old secrets verify, new ones are the new master's, replies remembered
    under the old one are replayed; and the old one can be dropped when no working secret is left of it, not before.
    """
    server = told(servers.add(), OLD).start()
    retry = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"
    async with client_for(server) as client:
        old = await make(client, idempotency_key=retry)
    server.stop()
    told(server, NEW, OLD).start()
    async with client_for(server) as client:
        assert await client.verify(old.secret) == "VALID"
        assert (await make(client, idempotency_key=retry)).secret == old.secret
        new = await make(client)
        masters = await masters_of(server)
        assert [masters[item.key.secrets[0].prefix] for item in (old, new)] == [OLD_ID, NEW_ID]
    server.stop()
    for rest in ((NEW,), (secrets.token_bytes(32),)):
        with pytest.raises(NotStartedError, match=OLD_ID) as refused:
            told(server, *rest).start()
        assert refused.value.code == "wrong_master_key"
    told(server, NEW, OLD).start()
    async with client_for(server) as client:
        listed = (await client.call("ListKeys")).must().keys
        for key in listed:
            if masters[key.secrets[0].prefix] == OLD_ID and key.kind != 3:  # the management key last
                (await client.call("RevokeKey", key_id=key.id)).must()
        (own,) = [key for key in listed if key.kind == 3]
        fresh = (await client.call("RotateKey", key_id=own.id, overlap={"seconds": 0})).must().secret
    server.stop()
    told(server, NEW).start()
    async with client_for(server, token=fresh) as client:
        assert await client.verify(new.secret) == "VALID"
        assert await client.verify(old.secret) == "NOT_FOUND"


def test_a_server_with_another_master_key_does_not_start(servers: ServerFarm) -> None:
    """A node that would refuse every secret and mint what no other knows says so and ends; with the right key it
    starts.
    """
    server = told(servers.add(), OLD).start()
    server.stop()
    with pytest.raises(NotStartedError, match=OLD_ID) as refused:
        told(server, NEW).start()
    assert refused.value.code == "wrong_master_key"
    for text in ("short", "00" * 31, f"{OLD.hex()},nonsense"):
        server.settings["master_keys"] = text
        with pytest.raises(NotStartedError, match="KEYSTEAD_MASTER_KEYS") as misread:
            server.start()
        assert misread.value.code == "bad_setting"
        assert text not in str(misread.value)
    told(server, OLD).start()


def test_a_lost_master_key_is_not_made_anew(servers: ServerFarm) -> None:
    """An embedded database whose master.key is gone is not served under a new one, which would refuse every secret."""
    server = servers.start()
    server.stop()
    kept = (server.data_dir / "master.key").read_bytes()
    (server.data_dir / "master.key").unlink()
    with pytest.raises(NotStartedError) as refused:
        server.start()
    assert refused.value.code in {"bad_setting", "wrong_master_key"}
    (server.data_dir / "master.key").write_bytes(kept)
    (server.data_dir / "master.key").chmod(0o600)
    server.start()


async def test_a_distrusted_master_key_fails_nobody(servers: ServerFarm) -> None:
    """Naming a stolen master key costs its secrets a slower first use and nothing else; it cannot be the one that
    mints.
    """
    server = told(servers.add(), OLD).start()
    async with client_for(server) as client:
        old = await make(client)
    server.stop()
    with pytest.raises(NotStartedError, match="distrusted"):
        told(server, OLD, distrusted=OLD_ID).start()
    told(server, NEW, OLD, distrusted=OLD_ID).start()
    async with client_for(server) as client:
        assert await client.verify(old.secret) == "VALID"
        rotated = (await client.call("RotateKey", key_id=old.key.id)).must()
        assert (await masters_of(server))[rotated.key.secrets[0].prefix] == NEW_ID
        assert [await client.verify(secret) for secret in (old.secret, rotated.secret)] == ["VALID", "VALID"]
        (await client.call("RevokeKey", key_id=old.key.id)).must()
        assert await client.verify(old.secret) == "REVOKED"


async def test_secrets_of_a_distrusted_master_are_proven_in_a_lane_apart(tmp_path: Path) -> None:
    """What a distrusted master tagged is hashed in the lane of imported keys, also when its state alone would refuse
    it, because its tag proves nothing; and a forgery for a known prefix is refused by the hash.
    """
    async with bench(tmp_path / "data", master_keys=OLD.hex()) as one:
        key, secret = await one.make()
        caller = one.caller
    both = f"{NEW.hex()},{OLD.hex()}"
    async with bench(tmp_path / "data", master_keys=both, distrusted_masters=OLD_ID, joins=one) as two:
        assert two.caller is caller
        lanes: list[Lane] = []
        check = two.core.hasher.check

        async def noting(material: bytes, stored: str, lane: Lane) -> bool:
            lanes.append(lane)
            return await check(material, stored, lane)

        two.core.hasher.check = noting  # type: ignore[method-assign]  # to see which lane was asked
        assert await two.verify(secret) == "VALID"
        forged = secret_format.compose(
            brand="acme",
            environment="live",
            tag=MasterKeyring([OLD]).tag,
            draw=lambda count: secret[10:22] if count == 12 else "0" * count,
        )
        assert await two.verify(forged) == "NOT_FOUND"
        assert lanes == [Lane.IMPORT, Lane.IMPORT]
        await two.revoke(key)
        assert await two.verify(forged) == "NOT_FOUND"


async def test_forgeries_by_a_thief_of_the_master_key_delay_nobody(tmp_path: Path) -> None:
    """Whoever holds a distrusted master key and knows prefixes floods its lane: valid first uses, in their own lane,
    are as fast as without, none of them is shed, and what was proven before does not notice.
    """
    async with bench(tmp_path / "data", master_keys=OLD.hex()) as one:
        (_, victim), (_, warm) = [await one.make() for _ in range(2)]
    both = f"{NEW.hex()},{OLD.hex()}"
    async with bench(tmp_path / "data", master_keys=both, distrusted_masters=OLD_ID, joins=one) as two:
        assert await two.verify(warm) == "VALID"
        fresh = [(await two.make())[1] for _ in range(20)]
        store = watch(two.core)
        thief = MasterKeyring([OLD])

        async def attack() -> None:
            forged = secret_format.compose(
                brand="acme",
                environment="live",
                tag=thief.tag,
                draw=lambda count: victim[10:22] if count == 12 else secret_format.random_text(count),
            )
            with suppress(OverloadedError):  # shed, which is what the lane is bounded for
                assert await two.verify(forged) == "NOT_FOUND"

        flood = [asyncio.create_task(attack()) for _ in range(500)]

        async def under_way() -> bool:
            return store.reads > 20

        await eventually(under_way, within_s=10)
        began_s = time.monotonic()
        assert [await two.verify(secret) for secret in fresh] == ["VALID"] * 20
        took_s = time.monotonic() - began_s
        assert await two.verify(warm) == "VALID"
        await asyncio.gather(*flood)
        assert took_s < 2  # 20 hashes are about 0.1 s; 500 of the thief's would be more than 2.5
