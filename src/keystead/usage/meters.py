"""What is billed: meters, and the arithmetic of telling each hour's usage exactly once.

A window is one hour of one owner. What is told of it is the difference between what was used and what was told before,
as an event whose id is a hash of its place: telling it again makes the same event, and usage that comes late makes one
more, with the next revision. No event is ever changed, so whoever sums the different ids has the usage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from keystead.usage.model import INTERVAL_MS, Interval

WINDOW_MS = INTERVAL_MS[Interval.HOUR]
METERS_MAX = 20
_ID_DIGITS = 40
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


class Counting(StrEnum):
    """What of a ``VALID`` call is added up."""

    CALLS = "calls"
    COST = "cost"


class Narrowing(StrEnum):
    """Which calls alone are meant."""

    OPERATION = "operation"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that is billed. ``operation`` and ``tag`` are empty when every call counts; at most one is given."""

    name: str
    counting: Counting
    operation: str = ""
    tag: str = ""

    @property
    def meaning(self) -> str:
        """What stands behind the equals sign: the meaning of a name that was ever told must stay as it is."""
        narrowed = f":operation:{self.operation}" if self.operation else ""
        return self.counting + (f":tag:{self.tag}" if self.tag else narrowed)


@dataclass(frozen=True, slots=True)
class KnownMeter:
    """A meter of the ledger: told from the window at ``since_ms`` on, up to ``told_to_ms`` (exclusive) so far.

    ``again_from_ms`` is from where its windows are to be looked at once more; None when nobody asked for it.
    """

    name: str
    meaning: str
    since_ms: int
    told_to_ms: int
    again_from_ms: int | None = None

    @property
    def meter(self) -> Meter:
        """What it counts."""
        return _meter(f"{self.name}={self.meaning}")


@dataclass(frozen=True, slots=True)
class UsedWindow:
    """How much of a meter one owner used in one window."""

    workspace_id: str
    environment: str
    owner_id: str
    begins_at_ms: int
    used: int


@dataclass(frozen=True, slots=True)
class UsedByOwner:
    """How much of a meter one owner used in a span."""

    owner_id: str
    environment: str
    used: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A window of which more was used than told; ``revisions`` is how many events there are of it."""

    workspace_id: str
    environment: str
    owner_id: str
    begins_at_ms: int
    used: int
    told: int
    revisions: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One event: so much of a meter in a window, beyond what the revisions before it told."""

    id: str
    workspace_id: str
    environment: str
    owner_id: str
    meter: str
    begins_at_ms: int
    revision: int
    value: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One owner's sums of one meter over a span."""

    owner_id: str
    environment: str
    meter: str
    used: int
    acknowledged: int
    pending: int


def parse_meters(text: str) -> tuple[Meter, ...]:
    """Read ``NAME=calls|cost[:operation:TEXT|:tag:TEXT]``, several with commas; raise ``ValueError`` with a sentence.

    The text of an operation or tag may hold colons, and no comma.
    """
    meters = tuple(_meter(part.strip()) for part in text.split(",") if part.strip())
    if len({meter.name for meter in meters}) != len(meters):
        raise ValueError("names a meter twice")
    if not 1 <= len(meters) <= METERS_MAX:
        raise ValueError(f"must name 1 to {METERS_MAX} meters, not {len(meters)}")
    return meters


def _meter(text: str) -> Meter:
    name, _, meaning = text.partition("=")
    counting, *narrowed = meaning.split(":", 2)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a meter: a letter, then at most 62 of [a-z0-9_.-]")
    if counting not in set(Counting) or len(narrowed) == 1:
        raise ValueError(f"{text!r} must be NAME=calls or NAME=cost, alone or with :operation:TEXT or :tag:TEXT")
    if not narrowed:
        return Meter(name, Counting(counting))
    kind, value = narrowed
    if kind not in set(Narrowing) or not value:
        raise ValueError(f"{text!r} may be narrowed by :operation:TEXT or :tag:TEXT alone")
    return Meter(name, Counting(counting), **{kind: value})


def closed_to(complete_until_ms: int) -> int:
    """Return the end of the last window that is over, given up to when everything is counted."""
    return window_of(complete_until_ms)


def window_of(at_ms: int) -> int:
    """Return the beginning of the window of a moment."""
    return at_ms // WINDOW_MS * WINDOW_MS


def event_id(
    *, workspace_id: str, environment: str, owner_id: str, meter: str, begins_at_ms: int, revision: int
) -> str:
    """Return the id of an event: the same for the same place for ever, and of no other.

    None of the texts can hold a line end, so no two places are written the same way.
    """
    place = "\n".join((workspace_id, environment, owner_id, meter, str(begins_at_ms), str(revision)))
    return f"use_{hashlib.sha256(place.encode()).hexdigest()[:_ID_DIGITS]}"


def entries_of(meter: str, gaps: Iterable[Gap]) -> list[LedgerEntry]:
    """Return the events that close ``gaps``, each with the next revision of its window."""
    return [
        LedgerEntry(
            id=event_id(
                workspace_id=gap.workspace_id,
                environment=gap.environment,
                owner_id=gap.owner_id,
                meter=meter,
                begins_at_ms=gap.begins_at_ms,
                revision=gap.revisions,
            ),
            workspace_id=gap.workspace_id,
            environment=gap.environment,
            owner_id=gap.owner_id,
            meter=meter,
            begins_at_ms=gap.begins_at_ms,
            revision=gap.revisions,
            value=gap.used - gap.told,
        )
        for gap in gaps
    ]


def changed_meanings(wanted: Iterable[Meter], known: Iterable[KnownMeter]) -> list[str]:
    """Return a sentence for each meter whose name was told with another meaning: its ledger could not be compared."""
    meanings = {meter.name: meter.meaning for meter in known}
    return [
        f"{meter.name} was told as {meanings[meter.name]} before; give {meter.meaning} another name"
        for meter in wanted
        if meanings.get(meter.name, meter.meaning) != meter.meaning
    ]
