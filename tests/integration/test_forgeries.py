"""P2: a key that nobody minted costs no hash, no read and no row."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.bootstrap.core import Core
from keystead.keys import secret_format
from tests.clients import GrpcClient, client_for
from tests.cores import bench, watch
from tests.servers import ServerFarm
from tests.services import PrivatePostgres

pytestmark = pytest.mark.alone

FORGERIES = 100_000
FORGERIES_OVER_THE_WIRE = 4_000


def forgeries(count: int, *, brand: str = "acme") -> Iterator[str]:
    """Yield secrets of the right shape and CRC whose tag some other master key made."""
    other = MasterKeyring([b"another master key, of somebody."])
    for _ in range(count):
        yield secret_format.compose(brand=brand, environment="live", tag=other.tag)


def statements_of(made: Core) -> list[str]:
    """Return the list into which every statement goes that any driver is told from now on, straight or not."""
    said: list[str] = []
    for engine in made.database._engines:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: said.append(told[2]))
        event.listen(engine.sync_engine, "checkout", lambda *_: said.append("a connection taken out of the pool"))
    return said


async def test_100000_forged_keys_cost_nothing(tmp_path: Path) -> None:
    """100,000 forged keys, each another one, are refused with not one bcrypt call, not one statement, and nothing kept
    of them in memory.
    """
    async with bench(tmp_path / "data") as one:
        store, said, hashed = watch(one.core), statements_of(one.core), one.core.hasher.calls
        codes = {await one.verify(secret) for secret in forgeries(FORGERIES)}
        assert codes == {"NOT_FOUND"}
        assert (one.core.hasher.calls - hashed, store.reads, said) == (0, 0, [])
        assert (len(one.core.resolver._entries), len(one.core.resolver._refused)) == (0, 0)
        _, good = await one.make()  # and the counting counts
        assert await one.verify(good) == "VALID"
        assert store.reads == 1
        assert one.core.hasher.calls - hashed == 2
        assert said != []


async def test_forged_keys_need_no_database(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """A server whose database hangs refuses thousands of forged keys and forged management keys at once: it asks
    nobody.
    """
    server = servers.start(database=own_postgres.create_database("forged"), database_timeout_ms=60_000)
    texts = list(forgeries(FORGERIES_OVER_THE_WIRE))
    async with client_for(server) as client, GrpcClient(server.grpc) as stranger:
        assert await client.verify(server.told["sample_key"]) == "VALID"
        own_postgres.freeze()
        requests = [{"key": text, "environment": "LIVE"} for text in texts]
        replies = await asyncio.gather(
            *[client.call("BatchVerify", requests=requests[start : start + 500]) for start in range(0, len(texts), 500)]
        )
        refused = [verdict for reply in replies for verdict in reply.must().responses]
        assert {(verdict.code, verdict.http_status) for verdict in refused} == {(3, 401)}
        assert len(refused) == FORGERIES_OVER_THE_WIRE
        one_by_one = await asyncio.gather(*[client.verify(text) for text in texts[:500]])
        assert set(one_by_one) == {"NOT_FOUND"}
        strangers = await asyncio.gather(
            *[stranger.call("ListKeys", token=token) for token in forgeries(500, brand="keystead")]
        )
        assert {answer.status for answer in strangers} == {"UNAUTHENTICATED"}
        own_postgres.thaw()


async def test_unknown_keys_with_a_good_tag_are_read_once(tmp_path: Path) -> None:
    """Whoever holds the master key can make texts that get as far as the database: each prefix is asked for once and
    then remembered, and none is hashed.
    """
    async with bench(tmp_path / "data") as one:
        store, hashed = watch(one.core), one.core.hasher.calls
        texts = [secret_format.compose(brand="acme", environment="live", tag=one.core.keyring.tag) for _ in range(50)]
        for _ in range(3):
            assert {await one.verify(text) for text in texts} == {"NOT_FOUND"}
        assert (store.reads, one.core.hasher.calls - hashed) == (50, 0)
