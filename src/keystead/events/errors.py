"""What can go wrong with the log."""

from __future__ import annotations

from keystead.kernel.errors import KeysteadError


class CursorLostError(Exception):
    """Raised when a cursor does not fit the log any more: the database was replaced by an older copy."""


class LogRewrittenError(KeysteadError):
    """Raised when the log is not what an earlier checkpoint says it was: nothing is signed or proven about it."""

    code = "log_rewritten"

    def __init__(self, workspace_id: str, why: str) -> None:
        """Say in which workspace, and what does not fit."""
        super().__init__(public=f"The event log of {workspace_id} is not the one that was signed: {why}.")
