"""P6 and P12: ``kill -9`` at any instant loses nothing that was acknowledged, and leaves nothing half-done."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.databases import demand_order, events_by_target
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

WORKERS = 4
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("RotateKey", {"overlap": timedelta(hours=1)}),
    ("SuspendKey", {}),
    ("ResumeKey", {}),
    ("RevokeKey", {}),
)


@dataclass
class Book:
    """What the server has acknowledged, and what it was asked and did not answer."""

    secrets: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    unsure_creations: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def note(self, key_id: str, state: str, secret: str = "") -> None:
        """Write one acknowledged change down."""
        self.count += 1
        self.acknowledged[key_id] = self.acknowledged.get(key_id, 0) + 1
        self.states[key_id] = state
        if secret:
            self.secrets[key_id] = secret


def state_after(method: str) -> str:
    """Return what a key answers after a change."""
    return {"SuspendKey": "SUSPENDED", "RevokeKey": "REVOKED"}.get(method, "VALID")


async def live(client: Client, book: Book) -> None:
    """Make keys and take each through its life, until the server answers no more."""
    while True:
        retry = str(uuid.uuid4())
        name = f"Key {retry}"
        wanted: dict[str, Any] = {
            "owner_id": "owner",
            "create_owner": True,
            "name": name,
            "environment": "LIVE",
            "plan_id": "enterprise",
        }
        made = await client.call("CreateKey", idempotency_key=retry, **wanted)
        if not made.ok:
            book.unsure_creations[retry] = name
            return
        key_id = made.reply.key.id
        book.note(key_id, "VALID", made.reply.secret)
        for method, fields in CHANGES:
            asked: dict[str, Any] = {"key_id": key_id, "idempotency_key": str(uuid.uuid4()), **fields}
            changed = await client.call(method, **asked)
            if not changed.ok:
                book.unsure[key_id] = (method, asked)
                return
            book.note(key_id, state_after(method), getattr(changed.reply, "secret", ""))


async def killed_while_working(server: KeysteadServer, book: Book, *, after: int) -> None:
    """Let the workers work, and kill the server when ``after`` more changes were acknowledged."""
    async with client_for(server) as client:
        workers = [asyncio.create_task(live(client, book)) for _ in range(WORKERS)]
        target = book.count + after
        while book.count < target:
            assert not all(worker.done() for worker in workers), (book.unsure, server.log_text()[-2_000:])
            await asyncio.sleep(0)
        server.kill()
        await asyncio.gather(*workers)


async def demand_everything(server: KeysteadServer, book: Book) -> None:
    """Hold what the database says against the book, then ask again for what was never answered."""
    events = await events_by_target(server)
    for key_id, changes in book.acknowledged.items():
        assert changes <= events[key_id] <= changes + (key_id in book.unsure), key_id
    async with client_for(server) as client:
        for key_id in list(book.acknowledged)[-40:]:
            told = await client.verify(book.secrets[key_id])
            if key_id not in book.unsure:
                assert told == book.states[key_id], key_id
        for retry, name in book.unsure_creations.items():
            wanted: dict[str, Any] = {
                "owner_id": "owner",
                "create_owner": True,
                "name": name,
                "environment": "LIVE",
                "plan_id": "enterprise",
            }
            made = (await client.call("CreateKey", idempotency_key=retry, **wanted)).must()
            assert await client.verify(made.secret) == "VALID"
            same = (await client.call("ListKeys", query=name)).must().keys
            assert [key.id for key in same] == [made.key.id]
        for key_id, (method, asked) in book.unsure.items():
            reply = (await client.call(method, **asked)).must()
            book.note(key_id, state_after(method), getattr(reply, "secret", ""))
    events = await events_by_target(server)
    book.acknowledged = {key_id: events[key_id] for key_id in book.secrets}
    book.unsure.clear()
    book.unsure_creations.clear()
    await demand_order(server)


async def rounds(server: KeysteadServer, count: int, *, seed: int) -> None:
    """Start, work, kill, again and again, on the same data."""
    chooser, book = random.Random(seed), Book()
    server.start()
    for _ in range(count):
        await killed_while_working(server, book, after=chooser.randint(5, 60))
        server.start()
        await demand_everything(server, book)
    assert book.count >= 5 * count


async def test_kill_9_on_sqlite(servers: ServerFarm) -> None:
    """Ten times killed in the middle of changes: every acknowledged change is there, each with exactly one event, none
    of the others is half there, the log has no gap, a retry under the same idempotency key completes or repeats what
    was cut off, and the server starts without repair.
    """
    await rounds(servers.add(), 10, seed=1)


async def test_kill_9_on_postgresql(servers: ServerFarm, postgres_url: str) -> None:
    """The same on PostgreSQL, five times."""
    await rounds(servers.add(database=postgres_url), 5, seed=2)


@pytest.mark.soak
@pytest.mark.parametrize("store", ("sqlite", "postgresql"))
async def test_kill_9_all_night(servers: ServerFarm, postgres_url: str, store: str) -> None:
    """The same, 60 times."""
    await rounds(servers.add(database="" if store == "sqlite" else postgres_url), 60, seed=3)


async def test_a_killed_database_loses_nothing_acknowledged(
    servers: ServerFarm, own_postgres: PrivatePostgres, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """PostgreSQL killed under load, three times: what was acknowledged is there, once, with its event; what failed,
    failed as UNAVAILABLE; and the server goes on by itself.
    """
    server = servers.start(database=own_postgres.create_database("killed"), database_timeout_ms=2_000)
    book, chooser = Book(), random.Random(4)
    for _ in range(3):
        async with client_for(server) as client:
            workers = [asyncio.create_task(live(client, book)) for _ in range(WORKERS)]
            target = book.count + chooser.randint(5, 40)
            while book.count < target:
                assert not all(worker.done() for worker in workers), book.unsure
                await asyncio.sleep(0)
            own_postgres.kill()
            await asyncio.gather(*workers)
        await asyncio.to_thread(own_postgres.restart)
        await demand_everything(server, book)
    record_testsuite_property("kills_acknowledged_changes", book.count)
