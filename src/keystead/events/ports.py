"""Where the log is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keystead.events.model import Cursor, Event


@dataclass(frozen=True, slots=True)
class LogPage:
    """What one poll sees, in one consistent read: placed events after the cursor, and those not placed yet.

    Unplaced events are seen so that a reader never depends on the sequencer; they come again once they are placed.
    ``more`` says that there is more than the page holds of either.
    """

    placed: Sequence[Event]
    unplaced: Sequence[Event]
    more: bool


class EventLog(Protocol):
    """The log as its readers and its one sequencer see it. Events enter it only with a unit of work."""

    async def head(self) -> Cursor:
        """Return the cursor of the last placed event; the zero cursor for an empty log."""
        ...

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Read from the primary what came after ``cursor``.

        Raise ``CursorLostError`` when the cursor's event is not there with its hash.
        """
        ...

    async def place(self, *, limit: int) -> int:
        """Give at most ``limit`` committed events their gap-free ``seq`` and leaf index, and return how many.

        One process at a time does it (an advisory lock); returns 0 at once when another holds the lock.
        """
        ...
