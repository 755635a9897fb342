"""What can go wrong with counting."""

from __future__ import annotations

from keystead.kernel.errors import UnavailableError


class JournalFullError(UnavailableError):
    """Raised when a verdict cannot be written down, and ``refuse`` was chosen: it is not given either (P5)."""

    def __init__(self) -> None:
        """Say when to come back."""
        super().__init__(
            "This node cannot count calls right now and so answers none; try another node.",
            internal="the usage journal is full",
            retry_after_ms=1_000,
        )
