"""Where remembered replies are kept, and what seals them."""

from __future__ import annotations

from typing import Protocol

from keystead.idempotency.model import ReplySlot, StoredReply


class ReplyRepository(Protocol):
    """Remembered replies, written in the same transaction as the mutation they answer."""

    async def get(self, slot: ReplySlot) -> StoredReply | None:
        """Return what is kept in ``slot``, or None."""
        ...

    async def add(self, reply: StoredReply) -> None:
        """Keep a reply; raise ``SlotTakenError`` when another call got there first."""
        ...


class ReplyVault(Protocol):
    """Seals replies under keys that are derived from a master key and the idempotency key."""

    def slot_hmacs(self, idempotency_key: str) -> list[bytes]:
        """Return what may be stored in place of the idempotency key, 32 bytes each: by the newest master key first."""
        ...

    def seal(self, idempotency_key: str, reply: bytes) -> bytes:
        """Encrypt and authenticate ``reply``."""
        ...

    def open(self, idempotency_key: str, sealed: bytes) -> bytes | None:
        """Undo ``seal``; None when the master key that sealed it is gone."""
        ...
