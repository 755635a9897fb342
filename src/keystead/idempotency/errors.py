"""What can be refused about idempotency keys."""

from __future__ import annotations

from keystead.kernel.errors import FieldViolation, KeysteadError


class IdempotencyConflictError(KeysteadError):
    """Raised when an idempotency key comes back with another request."""

    code = "idempotency_conflict"

    def __init__(self) -> None:
        """Say what to change."""
        super().__init__(
            public="This idempotency key was used with another request; use a new one for each new request.",
            violations=[FieldViolation("idempotency_key", "was used with another request")],
        )


class IdempotencyKeyWeakError(KeysteadError):
    """Raised when an idempotency key could be guessed and its reply holds a secret, or when it has a wrong form."""

    code = "idempotency_key_weak"

    def __init__(self, description: str) -> None:
        """Say what is asked for."""
        super().__init__(
            public=f"The idempotency key {description}.", violations=[FieldViolation("idempotency_key", description)]
        )


class SlotTakenError(Exception):
    """Raised by a store when two calls with one idempotency key race; the loser reads the winner's reply."""
