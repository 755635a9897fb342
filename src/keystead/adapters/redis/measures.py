"""What the shared limiter counts of itself: one addition for a decision, one timing for all that came in together."""

from __future__ import annotations

from keystead.kernel.measures import QUICK_BOUNDS_NS, Histogram


class RedisMeasures:
    """Counts and times of one process, since it started."""

    __slots__ = ("batches", "connected", "connections", "decisions", "errors", "latency", "refused", "timeouts")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.connected = False
        """Whether there is a connection that questions are written to."""
        self.connections = 0
        """How often one was made; more than one is a reconnect."""
        self.decisions = 0
        """Decisions that were told."""
        self.batches = 0
        """Writes to the connection, each with all that was asked in one turn of the event loop."""
        self.timeouts = 0
        """Questions without an answer in time; each counts as spent."""
        self.refused = 0
        """Questions that were never sent: there was no connection, or too many waited already."""
        self.errors = 0
        """Answers that were errors, and questions that were lost with their connection."""
        self.latency = Histogram(QUICK_BOUNDS_NS)
        """From the write to the answer, late ones included, of every command."""
