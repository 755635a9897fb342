"""What can be refused about sinks, or because of one."""

from __future__ import annotations

from keystead.kernel.errors import KeysteadError

BEHIND_RETRY_AFTER_MS = 1_000


class TooManySinksError(KeysteadError):
    """Raised when a workspace has as many sinks as it may."""

    code = "too_many_sinks"

    def __init__(self, most: int) -> None:
        """Say how many it may have."""
        super().__init__(public=f"The workspace has {most} sinks, as many as it may; delete one first.")


class SinkBehindError(KeysteadError):
    """Raised instead of a change, before anything of it is done: a strict sink is further behind than it may be.

    That holds for every change, also for the revocation of a leaked key: whoever chose strict mode chose that nothing
    happens that is not soon in the records. Deleting the sink or lifting its ``strict_lag`` ends it; pausing does not.
    """

    code = "audit_sink_behind"

    def __init__(self, name: str, *, lag_ms: int, strict_lag_ms: int) -> None:
        """Name the sink, how far it is behind and how far it may be."""
        super().__init__(
            public=f"Nothing is changed while the sink {name} is {lag_ms // 1_000} s behind; its strict_lag is "
            f"{strict_lag_ms / 1_000:g} s. Mend the sink, or lift its strict_lag.",
            metadata={"sink": name},
            retry_after_ms=BEHIND_RETRY_AFTER_MS,
        )


class SinkSecretsLostError(KeysteadError):
    """Raised when what a sink proves itself with cannot be opened: its master key is not configured here."""

    code = "unavailable"

    def __init__(self, sink_id: str) -> None:
        """Name the sink."""
        super().__init__(
            public=f"The secrets of sink {sink_id} cannot be read here; give them anew.",
            internal=f"no configured master key opens the secrets of sink {sink_id}",
        )
