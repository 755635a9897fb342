"""What verification counts of itself. A warm call adds one to one number; one in sixteen is timed as well."""

from __future__ import annotations

from keystead.kernel.measures import QUICK_BOUNDS_NS, Histogram
from keystead.verification.model import Code

SAMPLED_EVERY = 16
"""Of how many warm verifications one is timed: reading the clock twice costs a tenth of what it would measure."""


class VerificationMeasures:
    """Counts and times of one process, since it started."""

    __slots__ = ("absent", "asked", "cold", "degraded", "misses", "verdicts", "warm")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.verdicts: dict[Code, int] = dict.fromkeys(Code, 0)
        """Verdicts that were told, peeks among them."""
        self.degraded = 0
        """Those of them that nobody could vouch for (``serve_stale``)."""
        self.asked = 0
        """How often the memory was asked; a call that goes the cold way asks it up to three times."""
        self.absent = 0
        """How often it knew nothing."""
        self.misses = 0
        """Calls that went the cold way, forged secrets among them."""
        self.warm = Histogram(QUICK_BOUNDS_NS)
        """A sample of the verdicts about secrets that were in memory."""
        self.cold = Histogram(QUICK_BOUNDS_NS)
        """Verdicts about secrets that had to be looked for past their text."""

    @property
    def hits(self) -> int:
        """Verdicts about secrets that were in memory."""
        return self.asked - self.absent
