"""What is on its way into several tables, each of which gets it once.

The marks are what makes that certain. A table of sums has one of each parcel, tables of single rows one for each day,
since days are parts of their own; so whatever was stored of a parcel can be told from what was not, however long ago a
process died over it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keystead.adapters.clickhouse.connection import Lane
from keystead.kernel.errors import UnavailableError
from keystead.usage.model import INTERVAL_MS, Interval

_DAY_MS = INTERVAL_MS[Interval.DAY]
_TRIES_MAX = 3

_MARK = "workspace_id = '' AND key_id = {sender:String} AND operation = {place:String}"
# How a mark is found where it is not found by key and operation alone.
_MARK_IN = {
    "usage_tags": f"{_MARK} AND tag = {{tag:String}}",
    "attempts": "workspace_id = '' AND brand = {sender:String} AND client_ip = {place:String}",
    "call_endings": "workspace_id = '' AND verification_id = {sender:String}",
}

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """Where parcels of one kind come in, and which tables they go on to.

    ``sums`` says by which bit of ``targets`` each table of sums is meant; bit 1 means ``singles``, the table of single
    rows, if there is one.
    """

    entry: str
    types: Mapping[str, str]
    sums: Mapping[str, int]
    singles: str = ""

    @property
    def all_sums(self) -> int:
        """The bits of all tables of sums."""
        return sum(self.sums.values())


@dataclass(frozen=True, slots=True)
class Parcel:
    """Rows that are stored whole or not at all, and the same ones whenever they are tried again.

    ``sender`` and ``place`` stand in its marks and name it for ever; it is known again by ``token`` while its last
    10,000 followers arrive. ``columns`` returns its rows with its marks, for single rows of some days and for the
    tables of sums that some bits mean.
    """

    route: Route
    sender: str
    place: str
    token: str
    days: frozenset[int]
    columns: Callable[[frozenset[int], int], Columns]


def day_of(at_ms: int) -> int:
    """Return the beginning of a moment's day, in UTC."""
    return at_ms - at_ms % _DAY_MS


def insert_whole(lane: Lane, parcel: Parcel) -> None:
    """Insert a parcel that was never tried before. Only inside ``run``."""
    route = parcel.route
    lane.insert(route.entry, parcel.columns(parcel.days, route.all_sums), route.types, token=parcel.token)


def insert_lacking(lane: Lane, parcel: Parcel) -> None:
    """Send a parcel to the tables that lack it, until none does. Only inside ``run``.

    The first time under its own token, so that nothing is stored twice when the try before is still under way. Should
    ClickHouse have noted the token and lost the rows, the next time brings them under another.
    """
    route, token = parcel.route, parcel.token
    for _ in range(_TRIES_MAX):
        days, sums = _lacking(lane, parcel)
        if not days and not sums:
            return
        if days != parcel.days or sums != route.all_sums:
            token = f"{parcel.token}:{secrets.token_hex(8)}"
        lane.insert(route.entry, parcel.columns(days, sums), route.types, token=token)
        token = f"{parcel.token}:{secrets.token_hex(8)}"
    if any(_lacking(lane, parcel)):
        raise UnavailableError("The usage store does not keep what it is given; try again.")


def _lacking(lane: Lane, parcel: Parcel) -> tuple[frozenset[int], int]:
    """Return the days whose single rows are not there, and the bits of the tables of sums that lack the parcel."""
    route = parcel.route
    mark = {"sender": parcel.sender, "place": parcel.place, "tag": ""}
    there: set[int] = set()
    if route.singles:
        asked = f"SELECT at_ms FROM @{route.singles} WHERE {_MARK_IN.get(route.singles, _MARK)}"  # noqa: S608 -- constants
        values = {**mark, "days": sorted(parcel.days)}
        there = {row[0] for row in lane.rows(f"{asked} AND has({{days:Array(Int64)}}, at_ms)", values)}
    pieces = [
        f"SELECT {bit} FROM @{table} WHERE {_MARK_IN.get(table, _MARK)} LIMIT 1"  # noqa: S608 -- constants
        for table, bit in route.sums.items()
    ]
    stored = sum(row[0] for row in lane.rows(" UNION ALL ".join(pieces), mark))
    return parcel.days - there, route.all_sums - stored
