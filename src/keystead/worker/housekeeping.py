"""Tidies what has had its time: remembered replies, their sealed secrets earlier, and the sums of refused calls."""

from __future__ import annotations

from typing import Protocol

import structlog

from keystead.idempotency.model import REPLY_KEPT_MS, SECRET_REPLAY_MS
from keystead.kernel.clock import Clock
from keystead.verification.authentication import Refusals

_BATCHES_PER_TURN = 100

_log = structlog.get_logger(__name__)


class ReplyShelf(Protocol):
    """Where remembered replies are kept."""

    async def forget(self, *, before_ms: int, secrets_before_ms: int) -> int:
        """Drop replies made before ``before_ms`` and the sealed form of those made before ``secrets_before_ms``."""
        ...


class Housekeeper:
    """Runs once a minute."""

    def __init__(self, *, replies: ReplyShelf, refusals: Refusals, clock: Clock) -> None:
        """Tidy ``replies`` and report ``refusals``."""
        self._replies = replies
        self._refusals = refusals
        self._clock = clock

    async def turn(self) -> None:
        """Report first, so that an unreachable database does not keep refusals from being seen."""
        for (method, reason), count in self._refusals.take().items():
            _log.info("calls refused", method=method, reason=reason, count=count)
        now_ms = self._clock.now_ms()
        for _ in range(_BATCHES_PER_TURN):
            if not await self._replies.forget(
                before_ms=now_ms - REPLY_KEPT_MS, secrets_before_ms=now_ms - SECRET_REPLAY_MS
            ):
                return
