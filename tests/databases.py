"""What is really in a server's database, read behind its back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg

from tests.polling import eventually
from tests.servers import KeysteadServer

EVENTS_OF_EACH = """
SELECT k.id, k.version, count(e.id)
  FROM keys k LEFT JOIN events e ON e.target = k.id AND e.workspace_id = k.workspace_id AND e.action LIKE 'key.%'
 GROUP BY k.id, k.version
UNION ALL
SELECT p.id, p.version, count(e.id)
  FROM plans p LEFT JOIN events e ON e.target = p.id AND e.workspace_id = p.workspace_id AND e.action LIKE 'plan.%'
 GROUP BY p.id, p.version
UNION ALL
SELECT o.owner_id, o.version, count(e.id)
  FROM owners o LEFT JOIN events e
    ON e.target = o.owner_id AND e.workspace_id = o.workspace_id AND e.action LIKE 'owner.%'
   AND e.id >= (SELECT max(c.id) FROM events c
                 WHERE c.target = o.owner_id AND c.workspace_id = o.workspace_id AND c.action = 'owner.created')
 GROUP BY o.workspace_id, o.owner_id, o.version
"""  # an owner may have been deleted and made anew
_STRAY_EVENTS = "SELECT count(*) FROM events WHERE action LIKE 'key.%' AND target NOT IN (SELECT id FROM keys)"
_UNPLACED = "SELECT count(*) FROM events WHERE seq IS NULL"
_ORDER = "SELECT count(*), coalesce(min(seq), 1), coalesce(max(seq), 0), count(DISTINCT seq) FROM events"
_LEAVES = "SELECT workspace_id, count(*), min(leaf_index), max(leaf_index) FROM events GROUP BY workspace_id"


async def ask(server: KeysteadServer, query: str) -> Sequence[Sequence[Any]]:
    """Return the rows of ``query`` on the server's database."""
    url = str(server.settings.get("database") or "")
    if not url:
        with closing(sqlite3.connect(f"file:{_file(server)}?mode=ro", uri=True, timeout=30)) as file:
            return file.execute(query).fetchall()
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def change(server: KeysteadServer, statement: str) -> None:
    """Run one changing statement on the server's database, behind its back."""
    url = str(server.settings.get("database") or "")
    if not url:
        with closing(sqlite3.connect(_file(server), timeout=30)) as file, file:
            file.execute(statement)
        return
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def events_by_target(server: KeysteadServer) -> dict[str, int]:
    """Return how many events each key, plan and owner has, after holding P6 against all of them.

    A key's version counts its changes, so it must be the number of its events: no change without, no event without.
    """
    rows = await ask(server, EVENTS_OF_EACH)
    wrong = [tuple(row) for row in rows if row[1] != row[2]]
    assert wrong == [], "(id, version, events)"
    assert (await ask(server, _STRAY_EVENTS))[0][0] == 0
    return {row[0]: row[2] for row in rows}


async def demand_order(server: KeysteadServer) -> int:
    """Wait until every event has its place, hold that no place is empty or taken twice, and count them."""

    async def placed() -> bool:
        return bool((await ask(server, _UNPLACED))[0][0] == 0)

    await eventually(placed, within_s=10)
    count, first, last, distinct = (await ask(server, _ORDER))[0]
    assert (first, last, distinct) == (1, count, count)
    for workspace_id, size, lowest, highest in await ask(server, _LEAVES):
        assert (lowest, highest) == (0, size - 1), workspace_id
    return int(count)


def _file(server: KeysteadServer) -> Path:
    return Path(str(server.settings["data_dir"])) / "keystead.db"
