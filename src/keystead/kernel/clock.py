"""Where time comes from, so that tests can hold it still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what people see and expiry; monotonic time for durations."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds on a clock that never goes back; its zero means nothing."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds on a clock that never goes back, for what takes less than milliseconds."""
        ...


# A machine that sleeps goes on knowing less and less: Linux's monotonic clock stands still meanwhile, and this one not.
_NEVER_BACK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds on a clock that never goes back, and goes on while the machine sleeps."""
        return time.clock_gettime_ns(_NEVER_BACK) // 1_000_000

    def monotonic_ns(self) -> int:
        """Return nanoseconds on a clock that never goes back."""
        return time.perf_counter_ns()
