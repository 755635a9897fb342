"""One remembered reply, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass

SECRET_REPLAY_MS = 10 * 60 * 1_000
REPLY_KEPT_MS = 24 * 60 * 60 * 1_000


@dataclass(frozen=True, slots=True)
class ReplySlot:
    """Where a reply is kept: one credential, one method, one idempotency key (of which only an HMAC is kept)."""

    workspace_id: str
    credential_id: str
    method: str
    key_hmac: bytes


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply as it is kept.

    ``request_hash`` tells another request under the same key; ``sealed`` is the whole reply, secret included, that only
    the idempotency key opens, gone after ten minutes; ``public`` is the reply without its secret.
    """

    slot: ReplySlot
    request_hash: bytes
    public: bytes
    sealed: bytes | None
    created_at_ms: int
