"""A sink as the memory twin holds it."""

from __future__ import annotations

from dataclasses import dataclass

from keystead.sinks.model import DeadLetter, Place, Sink


@dataclass(frozen=True, slots=True)
class StoredSink:
    """A sink, its place, and what was set aside: each letter with whether it is to be sent again."""

    sink: Sink
    place: Place
    last_error: str = ""
    delivered_at_ms: int | None = None
    due_at_ms: int = 0
    holder: str = ""
    held_until_ms: int = 0
    letters: tuple[tuple[DeadLetter, bool], ...] = ()
