"""A server sees by itself that secrets got too old: it warns of their keys, later suspends them, each once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

from tests.clients import client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

DAY_MS = 86_400_000


def age(server: KeysteadServer, days: int) -> None:
    """Make everything about rotation look as if it had happened so many days earlier, while the server is stopped."""
    with closing(sqlite3.connect(server.data_dir / "keystead.db")) as database:
        for table, column in (("secrets", "created"), ("rotation_notices", "told"), ("turns", "begun")):
            database.execute(f"UPDATE {table} SET {column}_at_ms = {column}_at_ms - ?", (days * DAY_MS,))  # noqa: S608 -- our own names
        database.commit()


def ask(server: KeysteadServer, statement: str, *parameters: object) -> list[tuple[str, ...]]:
    """Ask the server's database."""
    with closing(sqlite3.connect(server.data_dir / "keystead.db")) as database:
        return database.execute(statement, parameters).fetchall()


async def test_an_old_secret_is_warned_of_and_then_its_key_suspended(servers: ServerFarm) -> None:
    """It is done by the server itself, when it is due and not before; rotating gives the key a new life."""
    server = servers.start()
    async with client_for(server) as client:
        strict: dict[str, Any] = {"name": "strict", "rotate_every": {"seconds": 90 * 86_400}, "suspend_overdue": True}
        (await client.call("CreatePlan", **strict)).must()
        wanted: dict[str, Any] = {
            "owner_id": "o",
            "create_owner": True,
            "name": "n",
            "environment": "LIVE",
            "plan_id": "strict",
        }
        made = (await client.call("CreateKey", **wanted)).must()
    happened = [("key.created", made.key.created_by)]

    async def seen() -> bool:
        ((turns,),) = ask(server, "SELECT count(*) FROM turns WHERE begun_at_ms > ?", time.time() * 1_000 - DAY_MS // 2)
        events = ask(server, "SELECT action, actor_id FROM events WHERE target = ? ORDER BY id", made.key.id)
        return bool(turns) and events == happened

    for days, action in ((89, ""), (1, "key.rotation_due"), (8, ""), (1, "key.suspended")):
        server.stop()
        age(server, days)
        server.start()
        happened += [(action, "rotation")] if action else []
        await eventually(seen, within_s=10.0)
    async with client_for(server) as client:
        assert await client.verify(made.secret) == "SUSPENDED"
        fresh = (await client.call("RotateKey", key_id=made.key.id)).must()
        (await client.call("ResumeKey", key_id=made.key.id)).must()
        assert await client.verify(fresh.secret) == "VALID"
