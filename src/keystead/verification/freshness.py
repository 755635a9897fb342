"""How old what this process knows may be (P3).

Two small facts decide it. ``Touches`` numbers every change the process hears of (its own at once, the others' by the
log) and remembers what each touched, so a cached entry is good as long as nothing it depends on was touched since.
``Lease`` says how long ago the log was last read in full.
"""

from __future__ import annotations

from collections.abc import Iterable

TOUCHES_KEPT = 100_000


class Touches:
    """What changed, and when in this process's own count of changes.

    An entry is noted at the epoch that its read began in. It is good while none of its subjects was touched later; an
    entry from before ``floor`` cannot be judged any more and must be read again.
    """

    __slots__ = ("_kept", "_touched", "epoch", "floor")

    def __init__(self, kept: int = TOUCHES_KEPT) -> None:
        """Remember the last ``kept`` subjects."""
        self._kept = kept
        self._touched: dict[str, int] = {}
        self.epoch = 1
        self.floor = 1

    def touch(self, subjects: Iterable[str]) -> None:
        """Note one change to each of ``subjects``."""
        self.epoch += 1
        touched = self._touched
        for subject in subjects:
            touched.pop(subject, None)
            touched[subject] = self.epoch
        if len(touched) > self._kept:
            self._forget_half()

    def reset(self) -> None:
        """Make everything that was read so far be read again."""
        self.epoch += 1
        self.floor = self.epoch
        self._touched.clear()

    def untouched(self, since: int, *subjects: str) -> bool:
        """Say whether what was read in epoch ``since`` and depends on ``subjects`` is still good."""
        if since < self.floor:
            return False
        touched = self._touched
        return all(touched.get(subject, 0) <= since for subject in subjects)

    def _forget_half(self) -> None:
        ordered = list(self._touched.items())
        gone = ordered[: len(ordered) // 2]
        self.floor = max(self.floor, gone[-1][1])
        self._touched = dict(ordered[len(gone) :])


class Lease:
    """Until when this process may vouch for what it has cached.

    Renewed by a complete read of the log from the primary, dated when that read was sent.
    """

    __slots__ = ("_bound_ms", "ends_at_ms")

    def __init__(self, bound_ms: int) -> None:
        """Let a lease last ``bound_ms``; it has lapsed until the first renewal."""
        self._bound_ms = bound_ms
        self.ends_at_ms = 0

    @property
    def bound_ms(self) -> int:
        """How long a renewal lasts (``staleness_bound``)."""
        return self._bound_ms

    def renew(self, sent_at_ms: int) -> None:
        """Note that the log, asked at ``sent_at_ms`` (monotonic), has been read in full."""
        self.ends_at_ms = max(self.ends_at_ms, sent_at_ms + self._bound_ms)

    def holds(self, now_ms: int) -> bool:
        """Say whether the lease has not lapsed at ``now_ms`` (monotonic)."""
        return now_ms < self.ends_at_ms
