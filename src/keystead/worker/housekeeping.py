"""Tidies what has had its time: remembered replies, and their sealed secrets earlier."""

from __future__ import annotations

from typing import Protocol

from keystead.idempotency.model import REPLY_KEPT_MS, SECRET_REPLAY_MS
from keystead.kernel.clock import Clock

_BATCHES_PER_TURN = 100


class ReplyShelf(Protocol):
    """Where remembered replies are kept."""

    async def forget(self, *, before_ms: int, secrets_before_ms: int) -> int:
        """Drop replies made before ``before_ms`` and the sealed form of those made before ``secrets_before_ms``."""
        ...


class Housekeeper:
    """Runs once a minute."""

    def __init__(self, replies: ReplyShelf, clock: Clock) -> None:
        """Tidy ``replies``."""
        self._replies = replies
        self._clock = clock

    async def turn(self) -> None:
        """Tidy in bounded batches."""
        now_ms = self._clock.now_ms()
        for _ in range(_BATCHES_PER_TURN):
            if not await self._replies.forget(
                before_ms=now_ms - REPLY_KEPT_MS, secrets_before_ms=now_ms - SECRET_REPLAY_MS
            ):
                return
