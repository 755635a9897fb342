"""A whole installation on a file or a database of its own, without a server: made once, copied, and looked at.

Two things are held of it after whatever happened. What it says of the platform, ``picture``, is compared with what it
said before and with what it says when all went well: names, times and hashes are masked, since they are new each time,
and everything else must be equal. And its log must be whole: no gap, and one tree, computed here from the records alone
by the definition of RFC 6962.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from keystead import bootstrap
from keystead.adapters.cryptography.signing import Ed25519Verifier
from keystead.adapters.sql import schema
from keystead.bootstrap.core import Core, core
from keystead.config import load_settings
from keystead.events.checkpoints import open_checkpoint, verifier_key
from keystead.events.export import JsonLines
from keystead.events.merkle import HASH_BYTES, leaf_hash, node_hash, root
from keystead.events.verification import verify_export
from tests.clients import METHODS, STREAMS
from tests.mortals import Orders, call_of, perform

MASTER_KEY = bytes(range(32)).hex()
# Whose rows come and go by time alone, or that tell of processes; what others add to the schema is looked at by itself.
_APART = re.compile(r"turns|calls.*|usage_.*|.*outcome.*|entitlement.*|journals|attempts.*|used_.*|nodes.*|master_keys")
_MASKS = (
    (re.compile(r"\b([a-z]{2,4})_[0-9a-hjkmnp-tv-z]{26}\b"), r"\1_…"),
    (re.compile(r"_(live|test)_[0-9A-Za-z]{12,}"), r"_\1_…"),
    (re.compile(r"\$2b\$.*"), "bcrypt…"),
    (re.compile(r"[0-9a-f]{32,}"), "hex…"),
    (re.compile(r"\b1[0-9]{12}\b"), "ms…"),
)
_MS = 10**12
_ORDER = "SELECT seq, workspace_id, leaf_index, record, leaf_hash FROM events ORDER BY seq"
_HEADS = "SELECT workspace_id, size, frontier FROM log_heads"
_CUT = "SELECT workspace_id, first_index, hashes FROM cut_leaves ORDER BY workspace_id, first_index"
_CHECKPOINTS = "SELECT workspace_id, previous_size, size, frontier, note FROM checkpoints ORDER BY workspace_id, size"


@dataclass(frozen=True, slots=True)
class Chronicle:
    """An installation: where it is, whose it is, and what is in it that a test may ask for."""

    data_dir: Path
    database: str
    workspace_id: str
    management_key: str
    operator_key: str
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What a process is told that works on it."""
        return {
            "data_dir": str(self.data_dir),
            "database": self.database,
            "master_keys": MASTER_KEY,
            "bcrypt_cost": "4",
            **self.more,
        }

    def at(self, file: Path) -> Chronicle:
        """Return the same one on a copy of its SQLite file."""
        return replace(self, database=f"sqlite:///{file}")

    async def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        """Return what ``query`` finds."""
        if self.database.startswith("sqlite"):
            with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"), timeout=30)) as file:
                return file.execute(query).fetchall()
        connection = await asyncpg.connect(self.database, timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def picture(self) -> dict[str, list[str]]:
        """Return everything that is stored about the platform, table by table, with what is new each time masked."""
        names = [name for name in schema.metadata.tables if not _APART.fullmatch(name)]
        found = {name: await self.rows(f"SELECT * FROM {name}") for name in names}  # noqa: S608 -- our own tables
        return {name: sorted(repr([_masked(value) for value in row]) for row in rows) for name, rows in found.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, bytes):
        return "bytes…" if value else value  # a serialised moment is shorter now and then
    if isinstance(value, int):
        return "ms…" if value >= _MS else value
    if isinstance(value, str):
        for pattern, instead in _MASKS:
            value = pattern.sub(instead, value)
    return value


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the root of leaves (hashes) by the definition of RFC 6962 §2.1, as slowly as it stands there."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else root(b"")
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(tree_hash(leaves[:half]), tree_hash(leaves[half:]))


async def demand_one_history(chronicle: Chronicle) -> dict[str, int]:
    """Hold that the log, all of it placed, is one gap-free history; return how many events each workspace has.

    ``seq`` counts from 1 and leaf indexes from 0, the sequencer's heads are the trees of the records themselves (where
    the log was cut, of the hashes that were kept), and each checkpoint extends one before it and is of a tree that the
    log had.
    """
    leaves: dict[str, list[bytes]] = {}
    for workspace_id, first_index, hashes in await chronicle.rows(_CUT):
        own = leaves.setdefault(workspace_id, [])
        assert first_index == len(own)
        own += [hashes[place : place + HASH_BYTES] for place in range(0, len(hashes), HASH_BYTES)]
    cut = sum(map(len, leaves.values()))
    found = await chronicle.rows(_ORDER)
    places = [row[0] for row in found]
    for _, workspace_id, leaf_index, record, stored in found:
        own = leaves.setdefault(workspace_id, [])
        assert (leaf_index, stored) == (len(own), leaf_hash(record.encode()))
        own.append(stored)
    heads = {name: (size, root(frontier)) for name, size, frontier in await chronicle.rows(_HEADS)}
    assert heads.pop(schema.GLOBAL_HEAD, (0, root(b"")))[0] == len(found) + cut == max(places, default=0)
    assert len(set(places)) == len(places)
    assert heads == {name: (len(own), tree_hash(own)) for name, own in leaves.items()}
    last: dict[str, int] = {}
    for workspace_id, previous, size, frontier, note in await chronicle.rows(_CHECKPOINTS):
        assert last.get(workspace_id, -1) <= previous < size  # old ones are thinned out where the log was cut
        assert cut or previous == last.get(workspace_id, -1)
        assert root(frontier) == tree_hash(leaves[workspace_id][:size])
        assert note.startswith(f"keystead/{workspace_id}\n{size}\n")
        last[workspace_id] = size
    return {name: len(own) for name, own in leaves.items()}


async def demand_export(made: Core, chronicle: Chronicle, size: int) -> None:
    """Export what is kept of a log of ``size`` events, and check the file as ``keystead audit verify`` does."""
    written = b""
    request = STREAMS["ExportEvents"].request()
    async for message in made.dispatcher().stream(call_of("ExportEvents", chronicle.management_key), request):
        written += message.data  # type: ignore[attr-defined]  # a message of this method
    key = verifier_key(chronicle.workspace_id, (await made.checkpoint_key.signer()).public_key)
    opened = partial(open_checkpoint, key=key, verifier=Ed25519Verifier())
    report = verify_export(lambda: written.splitlines(keepends=True), opened, (JsonLines(),))
    assert (report.intact, report.workspace_id) == (True, chronicle.workspace_id)
    assert report.first_index + report.events == size


async def begun(data_dir: Path, database: str) -> Chronicle:
    """Make an installation."""
    chronicle = Chronicle(data_dir, database, "", "", "")
    settings = load_settings(**chronicle.settings)
    await asyncio.to_thread(bootstrap.migrate, settings)
    made = await bootstrap.first_run(settings, keep=lambda _: None)
    assert made is not None
    _, operator_key = await bootstrap.mint_operator(settings, name="Tests")
    return replace(
        chronicle,
        workspace_id=made.workspace_id,
        management_key=made.management_key.reveal(),
        operator_key=operator_key.reveal(),
    )


@asynccontextmanager
async def opened(chronicle: Chronicle) -> AsyncIterator[Core]:
    """Lend a core that may vouch for keys."""
    async with core(load_settings(**chronicle.settings)) as made:
        made.lease.renew(made.clock.monotonic_ms())
        yield made


def orders_for(chronicle: Chronicle, method: str, *, operator: bool = False, **fields: Any) -> Orders:
    """Order a call, or what is none."""
    token = chronicle.operator_key if operator else chronicle.management_key
    request = METHODS[method].request(**fields).SerializeToString().hex() if method in METHODS else ""
    workspace_id = chronicle.workspace_id
    return Orders(settings=chronicle.settings, method=method, request=request, token=token, workspace_id=workspace_id)


async def called(made: Core, chronicle: Chronicle, method: str, *, operator: bool = False, **fields: Any) -> Any:
    """Do it in this process, and return the reply as a message."""
    reply = await perform(made, orders_for(chronicle, method, operator=operator, **fields))
    return METHODS[method].reply.FromString(reply) if method in METHODS else None


def new_key(owner_id: str, **more: Any) -> dict[str, Any]:
    """Ask for a key."""
    return {"owner_id": owner_id, "create_owner": True, "name": "Key", "environment": "LIVE", **more}
