"""Where what is billed is written down, and to whom it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from keystead.kernel.walls import TenantScope
from keystead.usage.meters import Comparison, Gap, KnownMeter, LedgerEntry, Meter, UsedByOwner, UsedWindow


class Ledger(Protocol):
    """Every event that was ever made, and whether the receiver acknowledged it. Times are milliseconds.

    Spans are whole windows, from inclusive to exclusive. Only ``VALID`` calls of keys with an owner are used.
    """

    async def begin(self, meters: Sequence[Meter], *, since_ms: int) -> None:
        """Make meters known that are not; such a one is told from the window of ``since_ms`` on."""
        ...

    async def meters(self) -> list[KnownMeter]:
        """Return all that were ever known, by name."""
        ...

    async def gaps(self, meter: KnownMeter, *, from_ms: int, to_ms: int, limit: int) -> list[Gap]:
        """Return windows of which more was used than told, the oldest first, at most ``limit``, as of one moment."""
        ...

    async def record(self, entries: Sequence[LedgerEntry], *, at_ms: int) -> None:
        """Write events down, to be sent; one whose id is there already changes nothing, so two may race."""
        ...

    async def told(self, meter: str, *, to_ms: int) -> None:
        """Note that all windows before ``to_ms`` were told; never goes back."""
        ...

    async def look_again(self, meter: str, *, from_ms: int) -> None:
        """Ask for the windows from ``from_ms`` on to be looked at once more; the earliest asked for stays."""
        ...

    async def looked_again(self, meter: KnownMeter, *, to_ms: int | None) -> None:
        """Note how far they were looked at, None when to the end; nothing when an earlier one was asked for since."""
        ...

    async def pending(self, *, now_ms: int, limit: int) -> list[LedgerEntry]:
        """Return events that are due and not acknowledged, the same ones first until they are."""
        ...

    async def acknowledge(self, ids: Collection[str], *, at_ms: int) -> None:
        """Note that the receiver has these events, all in one transaction."""
        ...

    async def postpone(self, ids: Collection[str], *, until_ms: int) -> None:
        """Let events wait that the receiver would not take, so that they hold up no others."""
        ...

    async def count_pending(self, scope: TenantScope | None) -> int:
        """Return how many events are not acknowledged inside the walls; None is all of them."""
        ...

    async def hold(self, holder: str, *, now_ms: int, until_ms: int) -> bool:
        """Take or keep the one sender's place until then; False while somebody else holds it."""
        ...

    async def let_go(self, holder: str) -> None:
        """Give the place back, if ``holder`` has it."""
        ...

    async def compare(
        self, scope: TenantScope, meter: KnownMeter, *, from_ms: int, to_ms: int, owner_id: str, equal: bool, limit: int
    ) -> list[Comparison]:
        """Return sums by owner and environment, in that order: those that differ, with ``equal`` all.

        An empty ``owner_id`` means every owner. A sum differs when what was acknowledged is not what was used.
        """
        ...


class MeteredUsage(Protocol):
    """Sums of what is billed, for a ledger that is kept apart from usage. Spans are as a ledger's."""

    async def windows(
        self, meter: KnownMeter, *, from_ms: int, to_ms: int, after: UsedWindow | None, limit: int
    ) -> list[UsedWindow]:
        """Return at most ``limit`` windows that were used, by time, workspace, environment and owner.

        Those behind ``after`` in that order, or the first ones.
        """
        ...

    async def owners(
        self,
        scope: TenantScope,
        meter: KnownMeter,
        *,
        from_ms: int,
        to_ms: int,
        owner_id: str,
        after: UsedByOwner | None,
        limit: int,
    ) -> list[UsedByOwner]:
        """Return at most ``limit`` sums by owner and environment, in that order, behind ``after`` or the first ones.

        An empty ``owner_id`` means every owner.
        """
        ...


class Completeness(Protocol):
    """Says how far usage is counted."""

    async def complete_until(self) -> int | None:
        """Return up to when everything is counted; None when that is not known."""
        ...


class Reception(StrEnum):
    """What the receiver made of a batch."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The answer to a batch. ``REFUSED`` is about the events in it, ``FAILED`` about the way there or the receiver.

    Nobody knows what became of a failed batch; sending it again bills nothing twice. ``reason`` is for the log.
    """

    reception: Reception
    reason: str = ""
    retry_after_ms: int | None = None


class EventReceiver(Protocol):
    """The service that bills, which counts an event id once."""

    async def send(self, entries: Sequence[LedgerEntry]) -> Delivery:
        """Send a batch and wait for the answer, within a bound; raises nothing for what the other side does."""
        ...
