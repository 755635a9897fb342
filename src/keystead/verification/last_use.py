"""When each secret was last used, noted without a write on the verify path and stored in batches by a worker.

What is not stored yet is lost with the process; the usage journal will make it durable.
"""

from __future__ import annotations

from collections import deque

from keystead.verification.cache import Entry


class LastUses:
    """Entries used since they were last stored, each once, in the order in which they were first used."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        """Begin with none."""
        self._used: deque[Entry] = deque()

    def note(self, entry: Entry, now_ms: int) -> None:
        """Note that ``entry``'s secret was good at ``now_ms``."""
        entry.last_used_at_ms = now_ms
        if not entry.dirty:
            entry.dirty = True
            self._used.append(entry)

    def take(self, at_most: int) -> dict[str, tuple[str, int]]:
        """Take up to ``at_most`` uses: ``{secret_id: (key_id, used_at_ms)}``; a secret used again is noted again."""
        uses: dict[str, tuple[str, int]] = {}
        while self._used and len(uses) < at_most:
            entry = self._used.popleft()
            entry.dirty = False
            uses[entry.secret_id] = (entry.key_id, entry.last_used_at_ms)
        return uses
