"""P3 and P10: a process that is cut off from its database vouches for what it knows until ``staleness_bound``, then
for nothing, and comes back by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.keys.secret_format import compose
from tests.clients import Client, client_for
from tests.polling import always, eventually
from tests.proxies import proxy_to
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

pytestmark = pytest.mark.alone

STALE_MS = 1_500
SETTINGS: dict[str, Any] = {"staleness_bound_ms": STALE_MS, "database_timeout_ms": 1_000}


async def make(client: Client, **fields: Any) -> Any:
    """Make a key and prove it."""
    wanted: dict[str, Any] = {
        "owner_id": "o",
        "create_owner": True,
        "name": "Key",
        "environment": "LIVE",
        "plan_id": "enterprise",
        **fields,
    }
    return (await client.call("CreateKey", **wanted)).must()


def forged(server: KeysteadServer) -> str:
    """Return a secret of the right shape and CRC that some other master key tagged."""
    other = MasterKeyring([b"another master key, of somebody."])
    assert other.current_id not in str(server.settings)
    return compose(brand="acme", environment="live", tag=other.tag)


async def fails_by_choice(client: Client, warm: str, cold: str, false: str, *, cut_at_s: float) -> None:
    """Look while the database is away: what is warm is good until the bound and then unavailable, never good again."""
    assert await client.verify(warm) == "VALID"
    assert await client.verify(false) == "NOT_FOUND"
    began_s = time.monotonic()
    assert await client.verify(cold) == "UNAVAILABLE"
    assert time.monotonic() - began_s < 3  # and no call hangs past its deadline

    async def unavailable() -> bool:
        return await client.verify(warm) == "UNAVAILABLE"

    await eventually(unavailable, within_s=10)
    assert time.monotonic() - cut_at_s <= STALE_MS / 1_000 + 1  # the second is for a busy machine
    await always(unavailable, for_s=0.5)
    answer = await client.call("VerifyKey", key=warm, environment="LIVE")
    assert answer.refusal == ("UNAVAILABLE", "STALE")
    unproven = await client.call("VerifyKey", token=forged_management_key(), key=warm, environment="LIVE")
    assert unproven.refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")


def forged_management_key() -> str:
    """Return a management key that nobody minted."""
    other = MasterKeyring([b"another master key, of somebody."])
    return compose(brand="keystead", environment="live", tag=other.tag)


class Cut:
    """One way to lose the database: what cuts it off, and what brings it back."""

    def __init__(self, away: Callable[[], None], back: Callable[[], None]) -> None:
        """Keep both."""
        self.away = away
        self.back = back


@asynccontextmanager
async def cut_by(kind: str, postgres: PrivatePostgres) -> Any:
    """Lend the cut, and a function that tells a URL how to go through it."""
    if kind == "freeze":
        yield Cut(postgres.freeze, postgres.thaw), lambda url: url
        return
    async with proxy_to(postgres.port) as proxy:
        yield Cut(proxy.flowing.clear, proxy.flowing.set), proxy.through


@pytest.mark.parametrize("kind", ("freeze", "network"))
async def test_a_process_cut_off_from_its_database_vouches_only_so_long(
    servers: ServerFarm, own_postgres: PrivatePostgres, kind: str
) -> None:
    """With the database frozen, or the network between dropping every packet, warm keys verify until staleness_bound
    and are UNAVAILABLE after it, forged ones are refused, no call hangs, a key revoked meanwhile elsewhere is not good
    again, and the process recovers by itself.
    """
    url = own_postgres.create_database("cut")
    async with AsyncExitStack() as stack:
        cut, through = await stack.enter_async_context(cut_by(kind, own_postgres))
        server = await asyncio.to_thread(servers.start, database=through(url), **SETTINGS)
        stack.callback(server.kill)
        client = await stack.enter_async_context(client_for(server))
        warm, cold, revoked = [await make(client) for _ in range(3)]
        for made in (warm, revoked):
            assert await client.verify(made.secret) == "VALID"
        cut.away()
        stack.callback(cut.back)
        await fails_by_choice(client, warm.secret, cold.secret, forged(server), cut_at_s=time.monotonic())
        if kind == "network":
            other = await asyncio.to_thread(servers.start, database=url, **SETTINGS)
            async with client_for(other, token=client.token) as beside:
                (await beside.call("RevokeKey", key_id=revoked.key.id)).must()
        cut.back()

        async def recovered() -> bool:
            return await client.verify(warm.secret) == "VALID"

        took_s = await eventually(recovered, within_s=20)
        assert await client.verify(revoked.secret) == ("REVOKED" if kind == "network" else "VALID")
        assert await client.verify(cold.secret) == "VALID"
        assert (await client.call("RevokeKey", key_id=warm.key.id)).ok
        assert took_s < 15


async def test_serving_stale_is_a_choice_that_shows(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """Where serve_stale was chosen, warm keys verify past the bound, each such verdict says ``degraded``, forged keys
    are refused as ever, and a cold key is still UNAVAILABLE.
    """
    url = own_postgres.create_database("stale")
    server = servers.start(database=url, serve_stale=True, **{**SETTINGS, "staleness_bound_ms": 1_000})
    async with client_for(server) as client:
        warm, cold = [await make(client) for _ in range(2)]
        fresh = (await client.call("VerifyKey", key=warm.secret, environment="LIVE")).must()
        assert (fresh.valid, fresh.degraded) == (True, False)
        own_postgres.freeze()

        async def degraded() -> bool:
            verdict = (await client.call("VerifyKey", key=warm.secret, environment="LIVE")).must()
            assert verdict.valid
            return bool(verdict.degraded)

        await eventually(degraded, within_s=5)
        assert await client.verify(forged(server)) == "NOT_FOUND"
        assert await client.verify(cold.secret) == "UNAVAILABLE"
        own_postgres.thaw()

        async def whole() -> bool:
            verdict = (await client.call("VerifyKey", key=warm.secret, environment="LIVE")).must()
            return not verdict.degraded

        await eventually(whole, within_s=20)


async def test_readiness_says_what_is_missing(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """A load balancer is told to send nothing while the process can vouch for nothing, and told when it can again."""
    server = servers.start(database=own_postgres.create_database("ready"), **{**SETTINGS, "staleness_bound_ms": 1_000})
    async with client_for(server, "json") as client:

        async def ready() -> bool:
            return bool((await client.http.get("/readyz")).status_code == 200)  # type: ignore[attr-defined]  # JSON's

        async def unready() -> bool:
            return not await ready()

        assert await ready()
        own_postgres.freeze()
        await eventually(unready, within_s=5)
        assert (await client.http.get("/livez")).status_code == 200  # type: ignore[attr-defined]  # JSON's
        own_postgres.thaw()
        await eventually(ready, within_s=20)


async def test_a_database_restart_is_survived(
    servers: ServerFarm,
    own_postgres: PrivatePostgres,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """A killed and restarted PostgreSQL costs calls that fail as UNAVAILABLE and nothing else: everything that was
    acknowledged is there, and the process needs no restart (P12).
    """
    server = servers.start(database=own_postgres.create_database("restarted"), database_timeout_ms=2_000)
    async with client_for(server) as client:
        made = [await make(client) for _ in range(3)]

        async def warm() -> bool:
            return await client.verify(made[0].secret) == "VALID"

        await always(warm, for_s=0.6)  # by then the log has told of its making, after which it is read once more
        (await client.call("RevokeKey", key_id=made[1].key.id)).must()
        own_postgres.kill()
        assert await client.verify(made[0].secret) == "VALID"  # within the bound
        failed = await client.call("RotateKey", key_id=made[2].key.id)
        assert failed.status == "UNAVAILABLE"
        await asyncio.to_thread(own_postgres.restart)

        async def rotates() -> bool:
            answer = await client.call("RotateKey", key_id=made[2].key.id)
            assert answer.ok or answer.status == "UNAVAILABLE", answer
            return answer.ok

        took_s = await eventually(rotates, within_s=20)
        record_testsuite_property("database_restart_recovery_ms", round(took_s * 1_000))
        codes = [await client.verify(item.secret) for item in made]
        assert codes == ["VALID", "REVOKED", "VALID"]
