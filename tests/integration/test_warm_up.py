"""After a restart nothing is warm: every secret's first use is hashed, and still no call is shed."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import bcrypt
import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.kernel.ids import new_id
from keystead.keys import secret_format
from tests.clients import Client, client_for
from tests.servers import KeysteadServer, ServerFarm

pytestmark = pytest.mark.alone

COST = 6


def seed(server: KeysteadServer, count: int) -> list[str]:
    """Put ``count`` keys with one hash among them straight into a stopped server's database; return the secrets."""
    keyring = MasterKeyring([bytes.fromhex((server.data_dir / "master.key").read_text())])
    entropy = secret_format.random_text(secret_format.ENTROPY_CHARACTERS)
    peppered = keyring.pepper(keyring.current_id, entropy.encode())
    hashed = bcrypt.hashpw(peppered, bcrypt.gensalt(COST)).decode()
    texts = [
        secret_format.compose(
            brand="acme",
            environment="live",
            tag=keyring.tag,
            draw=lambda length: entropy if length == len(entropy) else secret_format.random_text(length),
        )
        for _ in range(count)
    ]
    with closing(sqlite3.connect(server.data_dir / "keystead.db")) as database, database:
        database.row_factory = sqlite3.Row
        pairs = []
        for table, column in (("keys", "id"), ("secrets", "key_id")):
            row = database.execute(f"SELECT * FROM {table} WHERE {column} = ?", [server.told["sample_key_id"]])  # noqa: S608 -- constants
            pairs.append(dict(row.fetchone()))
        key, secret = pairs
        ids = [new_id("key", now_ms=1_700_000_000_000 + number) for number in range(count)]
        insert(database, "keys", [key | {"id": key_id} for key_id in ids])
        own = [
            {
                "id": key_id.replace("key_", "sec_"),
                "key_id": key_id,
                "prefix": text[: -secret_format.ENTROPY_CHARACTERS - 14],
                "hash": hashed,
            }
            for key_id, text in zip(ids, texts, strict=True)
        ]
        insert(database, "secrets", [secret | fields for fields in own])
    return texts


def insert(database: sqlite3.Connection, table: str, rows: Sequence[dict[str, object]]) -> None:
    """Insert rows that all have the same columns."""
    names = list(rows[0])
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"  # noqa: S608 -- the names are the table's own
    database.executemany(statement, rows)


async def at_a_rate(client: Client, texts: Sequence[str], rate: int) -> tuple[dict[str, int], list[float]]:
    """Verify every secret once, ``rate`` of them a second whatever comes back; count the codes, time each call."""
    codes: dict[str, int] = {}
    took_ms: list[float] = []

    async def one(text: str) -> None:
        began_s = time.monotonic()
        code = await client.verify(text)
        took_ms.append((time.monotonic() - began_s) * 1_000)
        codes[code] = codes.get(code, 0) + 1

    began_s = time.monotonic()
    calls = []
    for number, text in enumerate(texts):
        await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))  # the rate is what is tested
        calls.append(asyncio.create_task(one(text)))
    await asyncio.gather(*calls)
    return codes, took_ms


async def first_uses(servers: ServerFarm, count: int, rate: int) -> list[float]:
    """Start on ``count`` keys that are all cold and use each once; none may be refused or shed."""
    server = servers.start(bcrypt_cost=COST, log_level="warning")
    server.stop()
    texts = seed(server, count)
    server.start()
    async with client_for(server) as client:
        assert await client.verify(server.told["sample_key"]) == "VALID"
        codes, took_ms = await at_a_rate(client, texts, rate)
        assert codes == {"VALID": count}
        again, _ = await at_a_rate(client, texts[:200], 1_000)
        assert again == {"VALID": 200}
    return took_ms


async def test_a_restart_sheds_nobody(
    servers: ServerFarm, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """1,500 keys that this process has never seen, 150 different ones a second: every one is VALID, none is shed."""
    took_ms = await first_uses(servers, 1_500, 150)
    cuts = statistics.quantiles(took_ms, n=100)
    record_testsuite_property("first_use_p50_ms", round(cuts[49], 1))
    record_testsuite_property("first_use_p99_ms", round(cuts[98], 1))


@pytest.mark.soak
async def test_a_restart_with_10000_keys_is_not_felt(
    servers: ServerFarm, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """10,000 keys, 200 different ones a second: none is shed, and the 99th percentile is at most 250 ms."""
    took_ms = await first_uses(servers, 10_000, 200)
    p99_ms = statistics.quantiles(took_ms, n=100)[98]
    record_testsuite_property("first_use_10000_p99_ms", round(p99_ms, 1))
    assert p99_ms <= 250
