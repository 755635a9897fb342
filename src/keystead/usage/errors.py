"""What can go wrong with counting."""

from __future__ import annotations

from keystead.kernel.errors import StartError, UnavailableError


class JournalFullError(UnavailableError):
    """Raised when a verdict cannot be written down, and ``refuse`` was chosen: it is not given either (P5)."""

    def __init__(self) -> None:
        """Say when to come back."""
        super().__init__(
            "This node cannot count calls right now and so answers none; try another node.",
            internal="the usage journal is full",
            retry_after_ms=1_000,
        )


class JournalUnknownError(StartError):
    """Raised when a journal is asked for that no process of this deployment ever opened."""

    code = "journal_unknown"

    def __init__(self, journal_id: str) -> None:
        """Name what was asked for."""
        super().__init__(public=f"There is no journal {journal_id}; `keystead journals list` shows those there are.")


class JournalAliveError(StartError):
    """Raised when a journal would be declared lost that somebody still counts."""

    code = "journal_alive"

    def __init__(self, journal_id: str, *, silent_ms: int, alive_ms: int) -> None:
        """Say when it was last heard of."""
        super().__init__(
            public=f"Journal {journal_id} was reported {silent_ms // 1_000} s ago and may still be counted; "
            f"it can be declared lost when nobody has reported it for {alive_ms // 1_000} s."
        )


class JournalClosedError(StartError):
    """Raised when a journal would be declared lost that is counted to its end."""

    code = "journal_closed"

    def __init__(self, journal_id: str) -> None:
        """Say that nothing is waited for."""
        super().__init__(public=f"Journal {journal_id} is counted to its end: nothing waits for it, nothing is lost.")
