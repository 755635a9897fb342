"""When each secret was last used, noted without a write on the verify path and stored in batches by a worker.

What is not stored yet is lost with the process; the usage journal will make it durable.
"""

from __future__ import annotations

from keystead.verification.cache import Entry


class LastUses:
    """Entries used since they were last stored, each once."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        """Begin with none."""
        self._used: list[Entry] = []

    def note(self, entry: Entry, now_ms: int) -> None:
        """Note that ``entry``'s secret was good at ``now_ms``."""
        entry.last_used_at_ms = now_ms
        if not entry.dirty:
            entry.dirty = True
            self._used.append(entry)

    def take(self, at_most: int) -> dict[str, tuple[str, int]]:
        """Take up to ``at_most`` uses: ``{secret_id: (key_id, used_at_ms)}``; a secret used again is noted again."""
        taken, self._used = self._used[:at_most], self._used[at_most:]
        uses = {}
        for entry in taken:
            entry.dirty = False
            uses[entry.secret_id] = (entry.key_id, entry.last_used_at_ms)
        return uses
