"""Why a verification can fail rather than answer no."""

from __future__ import annotations

from keystead.kernel.errors import KeysteadError


class StaleError(KeysteadError):
    """Raised when the log was not heard for longer than ``staleness_bound``: no key can be vouched for (P3)."""

    code = "stale"

    def __init__(self) -> None:
        """Say when to come back."""
        super().__init__(
            public="This node has lost touch with the database and cannot vouch for keys; try another or try again.",
            internal="the log's lease has lapsed",
            retry_after_ms=1_000,
        )
