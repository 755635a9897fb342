"""P3: what is changed through one process holds in every other within a second, whatever stands still meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from keystead.gen.v1 import keys_pb2
from tests.clients import Client, GrpcClient, client_for
from tests.polling import always, eventually
from tests.proxies import proxy_to
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

pytestmark = pytest.mark.alone

TRIES = 200
WORKERS = 8
BOUND_S = 1.0
SEQUENCER_LOCK = int.from_bytes(b"keystead")


@dataclass
class Pair:
    """Two servers on one database, and a client of each."""

    a: Client
    b: Client

    async def make(self, owner_id: str = "owner", **fields: Any) -> Any:
        """Make a key through A and prove it on B."""
        wanted: dict[str, Any] = {
            "owner_id": owner_id,
            "create_owner": True,
            "name": "Key",
            "environment": "LIVE",
            "plan_id": "enterprise",
            **fields,
        }
        made = (await self.a.call("CreateKey", **wanted)).must()
        assert await self.b.verify(made.secret) == "VALID"
        return made


@pytest.fixture(scope="module")
def two(
    postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[KeysteadServer, KeysteadServer, str]]:
    """Lend two servers on one database for this module, and the database's URL."""
    farm = ServerFarm(tmp_path_factory.mktemp("pair"))
    url = postgres.create_database("revocation")
    try:
        yield farm.start(database=url), farm.start(database=url), url
    finally:
        farm.end()
        postgres.drop_database("revocation")


@pytest.fixture
async def pair(two: tuple[KeysteadServer, KeysteadServer, str]) -> AsyncIterator[Pair]:
    """Lend a client of each."""
    a, b, _ = two
    async with client_for(a) as one, client_for(b, token=a.management_key) as other:
        yield Pair(one, other)


async def test_a_revocation_reaches_the_other_process_within_a_second(
    pair: Pair, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Of 200 keys that were warm on the other process, 198 at least are refused there within 1 s of the revocation,
    and by the process that served it at once.
    """
    took_ms: list[float] = []
    turns = iter(range(TRIES))

    async def work() -> None:
        for _ in turns:
            made = await pair.make()
            (await pair.a.call("RevokeKey", key_id=made.key.id)).must()
            began_s = time.monotonic()
            assert await pair.a.verify(made.secret) == "REVOKED"

            async def refused(secret: str = made.secret) -> bool:
                return await pair.b.verify(secret) == "REVOKED"

            await eventually(refused, within_s=10)
            took_ms.append((time.monotonic() - began_s) * 1_000)

    await asyncio.gather(*[work() for _ in range(WORKERS)])
    cuts = statistics.quantiles(took_ms, n=100)
    measured = {"p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(took_ms)}
    for name, value in measured.items():
        record_testsuite_property(f"revocation_{name}", round(value, 1))
    assert len(took_ms) == TRIES
    assert measured["p99_ms"] <= BOUND_S * 1_000, measured


async def change_owner(client: Client, made: Any) -> None:
    """Suspend the key's owner."""
    (await client.call("SuspendOwner", owner_id=made.key.owner_id)).must()


async def delete_owner(client: Client, made: Any) -> None:
    """Delete the key's owner."""
    (await client.call("DeleteOwner", owner_id=made.key.owner_id)).must()


async def suspend(client: Client, made: Any) -> None:
    """Suspend the key."""
    (await client.call("SuspendKey", key_id=made.key.id)).must()


async def finish(client: Client, made: Any) -> None:
    """Rotate the key and end the overlap."""
    (await client.call("RotateKey", key_id=made.key.id, overlap=timedelta(hours=1))).must()
    (await client.call("FinishRotation", key_id=made.key.id)).must()


async def revoke_many(client: Client, made: Any) -> None:
    """Revoke all keys of the owner."""
    assert (await client.call("RevokeKeys", owner_id=made.key.owner_id)).must().count == 1


async def update(client: Client, made: Any, **fields: Any) -> None:
    """Change fields of the key."""
    wanted = keys_pb2.Key(id=made.key.id, **fields)
    (await client.call("UpdateKey", key=wanted, update_mask={"paths": list(fields)})).must()


async def expire(client: Client, made: Any) -> None:
    """Let the key expire in a moment."""
    await update(client, made, expires_at=datetime.now(UTC) + timedelta(milliseconds=200))


async def narrow(client: Client, made: Any) -> None:
    """Take the scope away that is asked for."""
    await update(client, made, scopes=["read:b"])


async def bind(client: Client, made: Any) -> None:
    """Bind the key to an address that is not the caller's."""
    await update(client, made, allowed_ips=["198.51.100.7"])


@pytest.mark.parametrize(
    ("change", "code"),
    (
        (change_owner, "SUSPENDED"),
        (delete_owner, "REVOKED"),
        (suspend, "SUSPENDED"),
        (finish, "EXPIRED"),
        (revoke_many, "REVOKED"),
        (expire, "EXPIRED"),
        (narrow, "INSUFFICIENT_SCOPE"),
        (bind, "IP_NOT_ALLOWED"),
    ),
)
async def test_every_change_reaches_the_other_process(pair: Pair, change: Any, code: str) -> None:
    """Whatever takes a right away, of a key, its owner or one of its secrets, does so everywhere within 1 s."""
    made = await pair.make(owner_id=f"owner-{change.__name__}", scopes=["read:a"])
    asked: dict[str, Any] = {"scope_expression": "read:a", "client_ip": "192.0.2.1"}
    assert await pair.b.verify(made.secret, **asked) == "VALID"
    await change(pair.a, made)

    async def refused() -> bool:
        return await pair.b.verify(made.secret, **asked) == code

    await eventually(refused, within_s=BOUND_S + 0.5)  # the half second is the test's own: a busy machine, an expiry


async def test_what_is_given_back_is_good_again_everywhere(pair: Pair) -> None:
    """Resuming reaches the other process as suspending does, also a key that it has only ever refused."""
    made = await pair.make()
    for name, code in (("SuspendKey", "SUSPENDED"), ("ResumeKey", "VALID")):
        (await pair.a.call(name, key_id=made.key.id)).must()

        async def told(code: str = code) -> bool:
            return await pair.b.verify(made.secret) == code

        await eventually(told, within_s=BOUND_S)


async def test_a_revoked_management_key_is_refused_everywhere(
    pair: Pair, two: tuple[KeysteadServer, KeysteadServer, str]
) -> None:
    """The right to call Keystead itself is taken away within 1 s as well."""
    made = (await pair.a.call("CreateKey", kind="MANAGEMENT", environment="ALL", name="M", scopes=["*:keys"])).must()
    async with client_for(two[1], token=made.secret) as client:
        assert (await client.call("ListKeys")).ok
        (await pair.a.call("RevokeKey", key_id=made.key.id)).must()

        async def refused() -> bool:
            return (await client.call("ListKeys")).status == "UNAUTHENTICATED"

        await eventually(refused, within_s=BOUND_S)


async def test_a_stuck_sequencer_delays_no_revocation(
    pair: Pair, two: tuple[KeysteadServer, KeysteadServer, str]
) -> None:
    """While somebody holds the sequencer's lock and does nothing, events get no place in the log, and a revocation is
    heard all the same; afterwards the log is put in order without anybody's help.
    """
    url = two[2]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", SEQUENCER_LOCK)
        made = await pair.make()
        (await pair.a.call("RevokeKey", key_id=made.key.id)).must()

        async def refused() -> bool:
            return await pair.b.verify(made.secret) == "REVOKED"

        await eventually(refused, within_s=BOUND_S)
        unplaced = "SELECT count(*) FROM events WHERE seq IS NULL"
        assert await connection.fetchval(unplaced) >= 2
        await connection.execute("SELECT pg_advisory_unlock($1)", SEQUENCER_LOCK)

        async def placed() -> bool:
            return bool(await connection.fetchval(unplaced) == 0)

        await eventually(placed, within_s=10)
        assert await connection.fetchval("SELECT count(*) = max(seq) AND min(seq) = 1 FROM events")
    finally:
        await connection.close()


async def test_a_frozen_process_delays_no_revocation(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """A process that hangs, sequencer or not, keeps no other from hearing of a revocation, and hears of it itself
    before it answers anything again.
    """
    url = own_postgres.create_database("frozen")
    a, b, frozen = (servers.start(database=url, database_timeout_ms=2_000, staleness_bound_ms=1_000) for _ in range(3))
    tokens: dict[str, Any] = {"token": a.management_key}
    async with client_for(a) as one, client_for(b, **tokens) as other, client_for(frozen, **tokens) as third:
        made = await Pair(one, other).make()
        assert await third.verify(made.secret) == "VALID"
        frozen.freeze()
        (await one.call("RevokeKey", key_id=made.key.id)).must()

        async def refused() -> bool:
            return await other.verify(made.secret) == "REVOKED"

        await eventually(refused, within_s=BOUND_S)
        await always(refused, for_s=1.2)  # past the frozen process's lease
        frozen.thaw()
        first = await third.verify(made.secret)
        assert first in {"REVOKED", "UNAVAILABLE"}

        async def recovered() -> bool:
            return await third.verify(made.secret) == "REVOKED"

        await eventually(recovered, within_s=10)


async def test_a_fill_from_before_a_revocation_brings_no_key_back(
    servers: ServerFarm, own_postgres: PrivatePostgres
) -> None:
    """A process reads a key, the answer is on its way, the key is revoked and the process hears of that; when the
    answer arrives at last, which says that the key is good, it is not believed.
    """
    url = own_postgres.create_database("race")
    a = servers.start(database=url)
    async with proxy_to(own_postgres.port) as proxy:
        b = await asyncio.to_thread(servers.start, database=proxy.through(url))
        async with client_for(a) as one, GrpcClient(b.grpc, a.management_key) as other:
            wanted: dict[str, Any] = {
                "owner_id": "o",
                "create_owner": True,
                "name": "Key",
                "environment": "LIVE",
                "plan_id": "enterprise",
            }
            made, signal = [(await one.call("CreateKey", **wanted)).must() for _ in range(2)]
            assert await other.verify(signal.secret) == "VALID"
            proxy.hold(made.key.secrets[0].prefix.encode())
            filling = asyncio.create_task(other.verify(made.secret))
            await asyncio.wait_for(proxy.asked.wait(), 10)
            for key in (made.key, signal.key):
                (await one.call("RevokeKey", key_id=key.id)).must()

            async def heard() -> bool:
                return await other.verify(signal.secret) == "REVOKED"

            await eventually(heard, within_s=10)
            assert not filling.done()
            proxy.released.set()
            assert await filling == "REVOKED"
            assert await other.verify(made.secret) == "REVOKED"
        b.kill()
