"""How a retry finds the reply it had (P9).

A reply is kept in the same transaction as the change it answers. What holds a secret is kept twice: without the secret
for a day, and whole for ten minutes, sealed under a key that only the idempotency key opens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from keystead.idempotency.errors import IdempotencyConflictError, IdempotencyKeyWeakError
from keystead.idempotency.model import SECRET_REPLAY_MS, ReplySlot, StoredReply
from keystead.idempotency.ports import ReplyRepository, ReplyVault
from keystead.kernel.clock import Clock

_FORM = re.compile(r"[A-Za-z0-9._:~-]{1,128}", re.ASCII)
_STRONG_CHARACTERS = 22
_STRONG_DISTINCT = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """One mutation under an idempotency key: whose, which method, and exactly what was asked."""

    workspace_id: str
    credential_id: str
    method: str
    idempotency_key: str
    request: bytes


def check_idempotency_key(idempotency_key: str, *, returns_secret: bool) -> None:
    """Raise unless the key has its form, and could not be guessed when its reply holds a secret."""
    if not _FORM.fullmatch(idempotency_key):
        raise IdempotencyKeyWeakError("must be 1 to 128 characters of [A-Za-z0-9._:~-]")
    if returns_secret and (len(idempotency_key) < _STRONG_CHARACTERS or len(set(idempotency_key)) < _STRONG_DISTINCT):
        raise IdempotencyKeyWeakError(
            "must hold 128 random bits or more (a random UUID, or 22 random characters), since the reply holds a secret"
        )


class ReplyMemory:
    """Finds and keeps replies."""

    def __init__(self, vault: ReplyVault, clock: Clock) -> None:
        """Seal with ``vault``."""
        self._vault = vault
        self._clock = clock

    async def find(self, replies: ReplyRepository, attempt: Attempt) -> bytes | None:
        """Return the reply that this attempt, or one just like it, was given; raise when the key was used otherwise."""
        for slot_hmac in self._vault.slot_hmacs(attempt.idempotency_key):
            stored = await replies.get(_slot(attempt, slot_hmac))
            if stored is not None:
                return self._reply(stored, attempt)
        return None

    async def keep(self, replies: ReplyRepository, attempt: Attempt, *, whole: bytes, public: bytes) -> None:
        """Keep a reply (``public`` is ``whole`` without its secret); raise ``SlotTakenError`` when one is kept."""
        sealed = None if whole == public else self._vault.seal(attempt.idempotency_key, whole)
        slot = _slot(attempt, self._vault.slot_hmacs(attempt.idempotency_key)[0])
        await replies.add(StoredReply(slot, _request_hash(attempt), public, sealed, self._clock.now_ms()))

    def _reply(self, stored: StoredReply, attempt: Attempt) -> bytes:
        if not hmac.compare_digest(stored.request_hash, _request_hash(attempt)):
            raise IdempotencyConflictError
        if stored.sealed is None or self._clock.now_ms() - stored.created_at_ms >= SECRET_REPLAY_MS:
            return stored.public
        return self._vault.open(attempt.idempotency_key, stored.sealed) or stored.public


def _slot(attempt: Attempt, slot_hmac: bytes) -> ReplySlot:
    return ReplySlot(attempt.workspace_id, attempt.credential_id, attempt.method, slot_hmac)


def _request_hash(attempt: Attempt) -> bytes:
    """Tell requests apart; keyed by the idempotency key, so that a stored hash gives nothing of the request away."""
    return hmac.digest(hashlib.sha256(attempt.idempotency_key.encode()).digest(), attempt.request, "sha256")
