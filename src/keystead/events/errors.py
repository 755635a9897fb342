"""What can go wrong with the log."""

from __future__ import annotations


class CursorLostError(Exception):
    """Raised when a cursor does not fit the log any more: the database was replaced by an older copy."""
