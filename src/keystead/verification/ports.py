"""What verification needs of the world outside."""

from __future__ import annotations

from typing import Protocol

from keystead.verification.model import KeySnapshot


class SnapshotStore(Protocol):
    """The primary, read without walls: the verifier compares the workspace itself.

    Both methods raise ``UnavailableError`` when the store cannot answer within its timeout.
    """

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key that has a secret with this prefix, with all its secrets, or None."""
        ...

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key with all its secrets, or None."""
        ...
