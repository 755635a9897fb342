"""A loop with a clock of its own: it runs one step again and again until it is stopped, whatever a step raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from keystead.kernel.errors import KeysteadError

_log = structlog.get_logger(__name__)


class Loop:
    """Runs ``step`` every ``interval_ms`` and when woken; one that fails is logged and tried again at its next turn."""

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[None]],
        *,
        interval_ms: int,
        once_more: bool = False,
        apart_ms: int = 0,
    ) -> None:
        """Name the loop for the log; ``once_more`` runs a last step when it is stopped.

        However often it is woken, its steps begin at least ``apart_ms`` apart.
        """
        self.name = name
        self.succeeded_at_s = time.monotonic()
        """When the last step began that came to its end without an error; at first when the loop was made."""
        self._step = step
        self.interval_s = interval_ms / 1_000
        self._apart_s = apart_ms / 1_000
        self._once_more = once_more
        self._stopped = asyncio.Event()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """Run the next step at once; however often it is called during a step, one more follows."""
        self._woken.set()

    async def stop(self) -> None:
        """End after the step under way; return when it has ended."""
        self._stopped.set()
        self._woken.set()
        if self._task is not None:
            await self._task
        if self._once_more:
            await self._turn()

    async def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            began_at_s = time.monotonic()
            await self._turn()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.interval_s)
            apart_s = began_at_s + self._apart_s - time.monotonic()
            if apart_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), apart_s)

    async def _turn(self) -> None:
        began_at_s = time.monotonic()
        try:
            await self._step()
        except KeysteadError as error:
            self._failed(error.internal or error.public)
        except Exception:  # noqa: BLE001 -- the loop must outlive whatever a step raises
            _log.exception("step failed", loop=self.name)
        else:
            if self._failing:
                _log.info("loop recovered", loop=self.name)
            self._failing = False
            self.succeeded_at_s = began_at_s

    @property
    def behind_s(self) -> float:
        """Seconds since the last good step began."""
        return time.monotonic() - self.succeeded_at_s

    def _failed(self, reason: str) -> None:
        """Log the first of a row of failures: an outage of an hour is not worth 14,400 lines."""
        if not self._failing:
            _log.warning("loop failing", loop=self.name, reason=reason)
        self._failing = True
