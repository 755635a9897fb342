"""What can go wrong with the log."""

from __future__ import annotations

from collections.abc import Sequence

from keystead.kernel.errors import KeysteadError


class CursorLostError(Exception):
    """Raised when a cursor does not fit the log any more: the database was replaced by an older copy."""


class LogRewrittenError(KeysteadError):
    """Raised when the log is not what an earlier checkpoint says it was: nothing is signed or proven about it."""

    code = "log_rewritten"

    def __init__(self, workspace_id: str, why: str) -> None:
        """Say in which workspace, and what does not fit."""
        super().__init__(public=f"The event log of {workspace_id} is not the one that was signed: {why}.")


class NotPropagatedError(KeysteadError):
    """Raised when a change is made, and some process may still answer by what was so before when the time is over."""

    code = "not_propagated"

    def __init__(self, lagging: Sequence[str]) -> None:
        """Count for the caller, and name for the log alone, the processes that have not applied the change."""
        who = f"{len(lagging)} of the processes" if lagging else "some processes"
        super().__init__(
            public=f"The change is made, but {who} may not have applied it yet; repeat the call to go on waiting.",
            internal=f"waited for: {', '.join(lagging) or 'the database'}",
            metadata={"made": "true"},
        )
