"""P6, P9 and P12: killed at any statement of a change, of the sequencer or of a checkpoint, nothing is half there.

A process does one thing to a copy of one installation and kills itself with SIGKILL at its first point, the next one at
its second, and so on until one lives to see its end.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf.json_format import MessageToDict

from tests.chronicles import Chronicle, begun, called, demand_export, demand_one_history, new_key, opened, orders_for
from tests.clients import METHODS
from tests.mortals import CUT, ENDED, PLACE, SIGN, End, Mortals, Orders, perform
from tests.polling import eventually
from tests.services import PrivatePostgres

RETRY = "the-same-idempotency-key-each-time"
SIGNED = {"url": "https://audit.invalid/", "signed": True}
MANY = 6
"""Keys of one owner; half of them are leaked."""

SAMPLES = 2
"""On PostgreSQL, of each deed."""


@dataclass(frozen=True)
class Deed:
    """What is done: a call with ``fields``, or one of the two that are none; ``on`` says to which installation."""

    method: str
    fields: Callable[[dict[str, str]], dict[str, Any]] = field(default=lambda _: {})
    operator: bool = False
    on: str = "settled"
    steps: bool = False
    """Whether it takes several transactions, each of which is a whole by itself."""


DEEDS = {
    "create a key": Deed("CreateKey", lambda _: new_key("newcomer", tags=["new"], scopes=["read:a"])),
    "rotate a key": Deed("RotateKey", lambda ids: {"key_id": ids["rotated"], "overlap": timedelta(hours=1)}),
    "revoke a key": Deed("RevokeKey", lambda ids: {"key_id": ids["revoked"], "reason": "leaked"}),
    "suspend an owner": Deed("SuspendOwner", lambda _: {"owner_id": "many", "reason": "unpaid"}),
    "delete an owner of many keys": Deed("DeleteOwner", lambda _: {"owner_id": "many"}),
    "revoke many keys": Deed("RevokeKeys", lambda _: {"tag": "leaked", "reason": "leaked"}),
    "make a workspace": Deed("CreateWorkspace", lambda _: {"brand": "third", "name": "Third"}, operator=True),
    "change a plan": Deed(
        "UpdatePlan",
        lambda _: {
            "plan": {"id": "free", "description": "For trying", "max_keys_per_owner": 9},
            "update_mask": {"paths": ["description", "max_keys_per_owner"]},
        },
    ),
    "make a sink": Deed("CreateSink", lambda _: {"sink": {"name": "Audit", "http": SIGNED, "state": "PAUSED"}}),
    "erase what is private": Deed("EraseEventData", lambda _: {"owner_id": "many", "reason": "asked for"}),
    "give events their places": Deed(PLACE, on="waiting"),
    "sign a checkpoint": Deed(SIGN, on="unsigned"),
    "cut the log": Deed(CUT, on="unsigned", steps=True),  # the newest event always stays
}

AT_ONCE = {name: deed for name, deed in DEEDS.items() if not deed.steps}


@dataclass
class Installation:
    """One installation at three moments, of which ``copy`` makes as many as are wanted.

    ``settled`` has every event placed and signed, ``waiting`` events of three workspaces without a place, ``unsigned``
    events with a place that no checkpoint tells of.
    """

    moments: dict[str, Chronicle]
    copy: Callable[[Chronicle], AbstractAsyncContextManager[Chronicle]]
    ids: dict[str, str]


async def furnish(chronicle: Chronicle) -> dict[str, str]:
    """Fill an installation with what deeds are done to, and settle it."""
    ids = {}
    async with opened(chronicle) as made:
        for name in ("rotated", "revoked"):
            ids[name] = (await called(made, chronicle, "CreateKey", **new_key("one"))).key.id
        for number in range(MANY):
            tags = ["leaked"] if number % 2 else []
            await called(made, chronicle, "CreateKey", **new_key("many", tags=tags, plan_id="enterprise"))
        await called(made, chronicle, "CreateWorkspace", operator=True, brand="other", name="Other")
        await called(made, chronicle, PLACE)
        await called(made, chronicle, SIGN)
    return ids


async def busy(chronicle: Chronicle, *, other: bool) -> None:
    """Let something happen to a settled installation, also in ``other`` workspaces, of which one is new."""
    async with opened(chronicle) as made:
        for number in range(7):
            await called(made, chronicle, "CreateKey", **new_key(f"owner-{number}"))
        if other:
            await called(made, chronicle, "CreateWorkspace", operator=True, brand="fourth", name="Fourth")
            made_there = await called(made, chronicle, "ListWorkspaces", operator=True)
            await called(
                made,
                chronicle,
                "UpdateWorkspace",
                operator=True,
                workspace={"id": made_there.workspaces[0].id, "name": "Renamed"},
                update_mask={"paths": ["name"]},
            )


def file_of(chronicle: Chronicle) -> Path:
    """Return a SQLite installation's file."""
    return Path(chronicle.database.removeprefix("sqlite:///"))


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Make an installation on SQLite; copies are copies of its file."""
    folder = tmp_path_factory.mktemp("statements")
    copies = itertools.count()

    @asynccontextmanager
    async def copy(chronicle: Chronicle) -> AsyncIterator[Chronicle]:
        file = folder / f"copy-{next(copies)}.db"
        shutil.copyfile(file_of(chronicle), file)
        yield chronicle.at(file)
        for left in folder.glob(f"{file.name}*"):
            left.unlink()

    async def make() -> Installation:
        settled = await begun(folder, f"sqlite:///{folder / 'settled.db'}")
        ids = await furnish(settled)
        moments = {"settled": settled}
        for name, other in (("waiting", True), ("unsigned", False)):
            _fold(file_of(settled))
            moments[name] = later = settled.at(folder / f"{name}.db")
            shutil.copyfile(file_of(settled), file_of(later))
            await busy(later, other=other)
        async with opened(moments["unsigned"]) as made:
            await called(made, moments["unsigned"], PLACE)
        for chronicle in moments.values():
            _fold(file_of(chronicle))
        return Installation(moments, copy, ids)

    return asyncio.run(make())


def _fold(file: Path) -> None:
    """Write everything into the file itself, so that it can be copied alone."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.fixture(scope="module")
def on_postgresql(postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Make an installation on PostgreSQL; copies are databases made of it."""
    folder = tmp_path_factory.mktemp("statements")
    numbers = itertools.count()

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(postgres.url("postgres"))
        await connection.execute(statement)
        await connection.close()

    @asynccontextmanager
    async def copy(chronicle: Chronicle) -> AsyncIterator[Chronicle]:
        name = f"statements_{next(numbers)}"
        await run(f"CREATE DATABASE {name} TEMPLATE {chronicle.database.rpartition('/')[2]}")
        yield replace(chronicle, database=postgres.url(name))
        await run(f"DROP DATABASE {name} WITH (FORCE)")

    async def make() -> Installation:
        settled = await begun(folder, postgres.create_database("statements_settled"))
        ids = await furnish(settled)
        moments = {"settled": settled}
        for name, other in (("waiting", True), ("unsigned", False)):
            await run(f"CREATE DATABASE statements_{name} TEMPLATE statements_settled")
            moments[name] = later = replace(settled, database=postgres.url(f"statements_{name}"))
            await busy(later, other=other)
        async with opened(moments["unsigned"]) as made:
            await called(made, moments["unsigned"], PLACE)
        return Installation(moments, copy, ids)

    made = asyncio.run(make())
    yield made
    for chronicle in made.moments.values():
        postgres.drop_database(chronicle.database.rpartition("/")[2])


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    """Lend the process that forks."""
    with Mortals() as process:
        yield process


def masked(method: str, reply: bytes) -> str:
    """Return what a reply says, but for what is new each time."""
    if method not in METHODS:
        return ""
    told = repr(MessageToDict(METHODS[method].reply.FromString(reply)))
    told = re.sub(r"\b([a-z]{2,4})_[0-9a-hjkmnp-tv-z]{26}\b", r"\1", told)
    told = re.sub(r"_(live|test)_[0-9A-Za-z]{12,}", r"_\1", told)
    told = re.sub(r"'[0-9.]+s'", "span", told)
    told = re.sub(r"whsec_[A-Za-z0-9+/=]+", "whsec", told)
    return re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "at", told)


class Trial:
    """One deed, done well once, so that its points are known and what it leaves behind."""

    def __init__(self, installation: Installation, deed: Deed, mortals: Mortals, folder: Path) -> None:
        """Prepare."""
        self._installation = installation
        self._deed = deed
        self._mortals = mortals
        self._folder = folder
        self._origin = installation.moments[deed.on]
        self.steps = deed.steps
        self.points: tuple[str, ...] = ()
        self.kept: list[bool] = []
        """For each process that was killed, whether what it did was there."""

    async def begin(self) -> None:
        """Do it without a kill."""
        self._before = before = await self._origin.picture()
        async with self._installation.copy(self._origin) as whole:
            end = self._end(whole)
            self._after = after = await whole.picture()
        assert before != after
        self._legal = [before, after]
        self._reply = masked(self._deed.method, end.reply)
        self.points = end.points

    async def kill(self, point: int) -> None:
        """Kill at the point, counted from 1; hold that all of it is there or nothing, and that a retry ends it."""
        async with self._installation.copy(self._origin) as copy:
            assert self._end(copy, dies_at=point).killed
            await _alone(copy)
            found, name = await copy.picture(), self.points[point - 1]
            if self._deed.steps and name == ENDED:
                self._legal.append(found)
            assert found in self._legal, (name, _differences(found, *self._legal))
            self.kept.append(found == self._after)
            async with opened(copy) as made:
                reply = await perform(made, self._orders(copy))
                assert masked(self._deed.method, reply) == self._reply, name
                assert await copy.picture() == self._after, name
                await called(made, copy, PLACE)
                await called(made, copy, SIGN)
                sizes = await demand_one_history(copy)
                await demand_export(made, copy, sizes[copy.workspace_id])

    def _end(self, chronicle: Chronicle, *, dies_at: int = 0) -> End:
        orders = replace(self._orders(chronicle), dies_at=dies_at, told=str(self._folder / "told.json"))
        return self._mortals.send(orders)

    def _orders(self, chronicle: Chronicle) -> Orders:
        fields = self._deed.fields(self._installation.ids)
        if self._deed.method in METHODS:
            fields["idempotency_key"] = RETRY
        return orders_for(chronicle, self._deed.method, operator=self._deed.operator, **fields)


async def _alone(chronicle: Chronicle) -> None:
    """Wait until PostgreSQL has noticed that the other side of its connections is gone."""
    if chronicle.database.startswith("sqlite"):
        return
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    async def gone() -> bool:
        return not await chronicle.rows(others)

    await eventually(gone, within_s=10)


def _differences(found: Any, *legal: Any) -> list[list[str]]:
    return [[name for name in one if found[name] != one[name]] for one in legal]


async def killed(installation: Installation, deed: Deed, mortals: Mortals, folder: Path, points: Any = None) -> Trial:
    """Kill a deed at ``points``, which choose out of how many there are; at all of them when that is not said."""
    trial = Trial(installation, deed, mortals, folder)
    await trial.begin()
    chosen: Iterable[int] = range(1, len(trial.points) + 1)
    for point in points(list(chosen)) if points else chosen:
        await trial.kill(point)
    return trial


def demand_points(trial: Trial) -> None:
    """Hold that everything was tried: what a transaction consists of, and that its commit made the difference."""
    assert trial.kept[-1]
    assert {"before COMMIT", ENDED} <= set(trial.points)
    assert any("INSERT INTO" in point or "UPDATE" in point for point in trial.points)
    assert len(trial.kept) == len(trial.points)
    commit = max(place for place, point in enumerate(trial.points) if point == "before COMMIT")
    assert trial.steps or trial.kept == [place > commit for place in range(len(trial.points))]


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
async def test_a_kill_at_every_statement_on_sqlite(
    on_sqlite: Installation, mortals: Mortals, tmp_path: Path, deed: Deed
) -> None:
    """Whatever statement a process is killed at, change and record are both there or both not, what the platform knows
    is what it was or what it should be, a retry under the same idempotency key answers as the first call would have,
    and the log is one history without a gap, whose export verifies.
    """
    demand_points(await killed(on_sqlite, deed, mortals, tmp_path))


@pytest.mark.parametrize("deed", AT_ONCE.values(), ids=AT_ONCE.keys())
async def test_a_kill_at_some_statements_on_postgresql(
    on_postgresql: Installation, mortals: Mortals, tmp_path: Path, deed: Deed
) -> None:
    """The same on PostgreSQL, at two points of each deed that is one transaction."""
    chance = random.Random(deed.method)
    trial = await killed(on_postgresql, deed, mortals, tmp_path, lambda points: chance.sample(points, SAMPLES))
    assert len(trial.kept) == SAMPLES


@pytest.mark.soak
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
async def test_a_kill_at_every_statement_on_postgresql(
    on_postgresql: Installation, mortals: Mortals, tmp_path: Path, deed: Deed
) -> None:
    """The same on PostgreSQL, at every point."""
    demand_points(await killed(on_postgresql, deed, mortals, tmp_path))
